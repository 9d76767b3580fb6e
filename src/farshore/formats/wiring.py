"""Who makes and who reads a value in a model's graph, looking through operators that only change its form."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from farshore.formats.bounds import Budget

Key = TypeVar("Key", bound=Hashable)
"""How a format names values: ONNX by text, LiteRT by index."""

LOOK_THROUGH = frozenset(
    {
        "Identity",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Cast",
        "QuantizeLinear",
        "DequantizeLinear",
        "Transpose",
    }
    | {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST", "QUANTIZE", "DEQUANTIZE", "TRANSPOSE"}
)
"""Operators that change a value's form but not what it is, ONNX's and LiteRT's."""


class Wiring(Generic[Key]):
    """The edges of a graph.

    Args:
        nodes: operator, inputs and outputs of each node.
        budget: what following edges may cost; it is the file's, so that a graph made to be walked for ever is refused.

    """

    def __init__(self, nodes: Iterable[tuple[str, Sequence[Key], Sequence[Key]]], budget: Budget) -> None:
        self._budget = budget
        self._makers: dict[Key, tuple[str, Sequence[Key]]] = {}
        self._readers: dict[Key, list[tuple[str, Sequence[Key]]]] = {}
        for op, inputs, outputs in nodes:
            budget.spend(1 + len(inputs) + len(outputs))
            for key in outputs:
                self._makers[key] = (op, inputs)
            for key in inputs:
                self._readers.setdefault(key, []).append((op, outputs))

    def maker(self, key: Key) -> str:
        """The operator that computes ``key``; "" if none does.

        Raises:
            Malformed: the budget is spent.

        """
        while key in self._makers:
            self._budget.spend(1)
            op, inputs = self._makers[key]
            if op not in LOOK_THROUGH or not inputs:
                return op
            key = inputs[0]
        return ""

    def readers(self, key: Key) -> tuple[str, ...]:
        """The operators that read ``key`` first, each once.

        Raises:
            Malformed: the budget is spent.

        """
        waiting, seen, found = deque([key]), {key}, dict[str, None]()
        while waiting:
            for op, outputs in self._readers.get(waiting.popleft(), ()):
                self._budget.spend(1)
                if op not in LOOK_THROUGH:
                    found[op] = None
                elif outputs and outputs[0] not in seen:
                    seen.add(outputs[0])
                    waiting.append(outputs[0])
        return tuple(found)
