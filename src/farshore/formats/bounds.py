"""What keeps a parser of foreign bytes honest: one error for "this is not that format", one budget for all work.

A model file is input from outside. A few kilobytes can describe endless work (a table that is shared a million times, a
field of two bytes that becomes an object of five hundred), so every parser spends from one :class:`Budget` per file.
"""

from __future__ import annotations

MAX_STEPS = 4_000_000
"""Steps a file may cost. A step is one field or one vector element; an object that is kept costs :data:`OBJECT`. Real
models of thousands of layers need some ten thousands of steps; the whole budget is seconds of work and < 150 MB."""

OBJECT = 16
"""Steps that a kept object (node, tensor, table) costs."""

MAX_DEPTH = 24
"""How deep graphs may nest in graphs."""

MAX_RANK = 64
"""Dimensions of one tensor."""

MAX_NAME = 4096
"""Bytes of one name that are kept; what is longer is not a name."""


class Malformed(Exception):
    """The bytes are not what the parser reads, or exceed its limits. Never leaves this package."""


class Budget:
    """Steps that are left for one file.

    Args:
        steps: how many.

    """

    __slots__ = ("left",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take ``steps``.

        Raises:
            Malformed: none are left.

        """
        self.left -= steps
        if self.left < 0:
            raise Malformed("the file describes more than a parser should follow")
