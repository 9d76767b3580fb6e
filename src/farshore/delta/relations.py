"""Vectors that follow from others: a scale from the weights or the range that it belongs to, a bias's scale from the weights'.

Found from the numbers alone: one vector is another times a constant, or nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from farshore.delta.frames import KEPT, MOST_VALUES, Span
from farshore.delta.grids import BY_NAME, FLOAT, GRIDS, Reals
from farshore.delta.matching import Tensor
from farshore.formats import Role

MOST_COUNT = 1 << 14
NEAR = 0.35
"""Most spread of the logarithm of the ratio (natural) at which a relation is worth a trial."""
MOST_TRIED = 4
STAGES = 4
"""Vectors that follow from vectors that follow from vectors: how far."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Where a vector may be expected from: see :class:`farshore.delta.frames.Piece` for `folds`, `fold`, `partner`."""

    span: Span
    dtype: int
    folds: int = 0
    fold: int = 0
    order: int = 0
    partner: Span | None = None


def is_vector(tensor: Tensor) -> bool:
    """A short vector of reals."""
    kind = GRIDS[BY_NAME[tensor.segment.dtype]].kind
    return kind == FLOAT and tensor.count <= MOST_COUNT and max(tensor.segment.shape, default=1) == tensor.count


class Relations:
    """What lets expect each vector of a target: earlier vectors of the target itself, rows of a base's matrices."""

    def __init__(self, vectors: Sequence[Tensor], held: Sequence[Tensor]) -> None:
        # Ranges before scales: a scale follows from its range, not the other way round.
        self.order = sorted(vectors, key=lambda tensor: (tensor.segment.role is Role.SCALE, tensor.segment.offset))
        self._counts = {tensor.count for tensor in vectors}
        self._settled: dict[int, list[Tensor]] = {}
        self._stage: dict[int, int] = {}
        self._folded: dict[int, list[tuple[Relation, Reals]]] = {count: [] for count in self._counts}
        for tensor in held:
            self._fold(tensor)

    def _fold(self, tensor: Tensor) -> None:
        shape = [size for size in tensor.segment.shape if size > 1]
        dtype = BY_NAME[tensor.segment.dtype]
        if len(shape) < 2 or GRIDS[dtype].kind != FLOAT or tensor.count > 4 * MOST_VALUES:
            return
        for order, count in ((0, shape[0]), (1, shape[-1])):
            if count not in self._counts:
                continue
            other = tensor.count // count
            table = tensor.reals().reshape(other, count).T if order else tensor.reals().reshape(count, other)
            for fold, values in enumerate((np.abs(table).max(axis=1), table.min(axis=1), table.max(axis=1))):
                relation = Relation(tensor.span(), dtype, other, fold, order)
                self._folded[count].append((relation, values))

    def settle(self, tensor: Tensor, referred: Sequence[Span]) -> int:
        """A vector's expectation is chosen, from these spans: from now on others may refer to it. Returns its stage."""
        stage = max((1 + self._stage[span.offset] for span in referred if span.source == KEPT), default=0)
        self._stage[tensor.segment.offset] = stage
        if stage + 1 < STAGES:
            self._settled.setdefault(tensor.count, []).append(tensor)
        return stage

    def of(self, tensor: Tensor) -> list[Relation]:
        """The relations most worth a trial for a vector."""
        if not is_vector(tensor):
            return []
        settled = [t for t in self._settled.get(tensor.count, []) if t.segment.dtype == tensor.segment.dtype]
        dtype = BY_NAME[tensor.segment.dtype]
        known = list(self._folded[tensor.count])
        known += [(Relation(other.span(), dtype), other.reals()) for other in settled]
        known += [
            (Relation(one.span(), dtype, partner=other.span()), np.maximum(np.abs(one.reals()), np.abs(other.reals())))
            for one, other in pairwise(settled)
        ]  # fmt: skip
        if not known:
            return []
        spreads = _spreads(tensor.reals(), np.stack([values for _, values in known]))
        order = np.argsort(spreads, kind="stable")[:MOST_TRIED]
        return [known[k][0] for k in order if spreads[k] < NEAR]


def _spreads(values: Reals, others: Reals) -> Reals:
    """How far each ratio is from constant, where the values are large: dead channels follow rules of their own."""
    sizes = np.abs(values)
    large = (sizes >= np.median(sizes)) & (values != 0)
    if not large.any():
        return np.full(len(others), np.inf)
    others = others[:, large]
    usable = (others != 0).all(axis=1)
    ratio = np.where(usable[:, None], values[large] / np.where(others == 0, 1.0, others), 1.0)
    one_sided = np.abs((ratio > 0).mean(axis=1) - 0.5) >= 0.4
    logs = np.log(np.abs(ratio))
    spreads = np.abs(logs - np.median(logs, axis=1, keepdims=True)).mean(axis=1)
    return np.where(usable & one_sided, spreads, np.inf)
