"""The models' arithmetic: in C where the package was built with a compiler, else its twin in Python. The same bits."""

from __future__ import annotations

from typing import Protocol, cast

from farshore.delta.twin import coder as _twin

try:
    from farshore.delta import _kernel  # type: ignore[attr-defined, unused-ignore]
except ImportError:  # built without a compiler
    _kernel = None

COMPILED = _kernel is not None
"""Whether the kernel is here. Its twin is exact and some hundred times slower: for proof and rescue, not for daily work."""

Spec = tuple[int, int, int, int, int, float, int, int, int, int, int, int, float, float, float]
"""kind, bits, mantissa, bias, shift, zero, rows, cols, period, flags, joints, detail, scale, size, prior."""


Kindred = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""For flag 32, channels: sixteenths of what the base tells of them; then three times: how many matrices back, whether its inputs
(or its outputs), from which channel on, sixteenths."""

Bytes = bytes  # `Coder.bytes` hides the type inside the class


class Coder(Protocol):
    """An arithmetic coder with the models that learn along its stream."""

    @property
    def size(self) -> int:
        """Bytes written or read so far."""

    def values(self, indices: object, base: object, model: int, spec: Spec, kin: Kindred = ..., /) -> None:
        """Code a matrix of grid indices (uint64, in place), given what the base lets expect (float64)."""

    def bytes(self, data: object, places: object, history: int, trained: int, level: int, /) -> None:
        """Code ``data[history:]`` in place, given ``data[:history]``; places: (position, address) of each span, int64."""

    def finish(self) -> Bytes:
        """End the stream and return it (encoding only)."""


def coder(stream: bytes | None = None, *, twin: bool = False) -> Coder:
    """A coder that writes, or one that reads ``stream``; ``twin`` asks for the Python one."""
    kind = _twin.Coder if twin or _kernel is None else _kernel.Coder
    return cast("Coder", kind(stream))
