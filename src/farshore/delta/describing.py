"""How each changed tensor is described: as which matrix, expected from what, modelled how.

What cannot be told by looking is tried on a part of the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from farshore.delta.frames import KEPT, MOST_JOINT, MOST_VALUES, NOTHING, Piece, Span
from farshore.delta.grids import BY_NAME, FLOAT, GRIDS, Reals, reals_of, rounded, trailing_zeros
from farshore.delta.matching import Tensor, row_sources
from farshore.delta.matrices import Fetch, expectation, trial
from farshore.delta.relations import Relation, is_vector
from farshore.formats import Role, Segment, SegmentMap

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TRIAL = {"default": 1 << 13, "max": 1 << 14}
"""Values that a way of expecting is tried on."""
LEAST_QUICK = 1 << 12
"""Values of a tensor from which on the quick model learns enough to be as good."""
QUICK_JOINT = 256
"""Most rows taken as jointly normal at level default: their cost grows with the square."""
EQUALS, DEAD = 4, 16
"""Flags of :class:`Piece`."""
MOST_ROWS = 256
"""Rows of one block of a tensor that is too large for one matrix."""


class Scales:
    """Where the scales of quantised tensors stand: in a base, or in the target (if frames can refer to them, as `reach` tells)."""

    def __init__(
        self, target: ReadableBuffer, bases: Sequence[ReadableBuffer], maps: tuple[SegmentMap, Sequence[SegmentMap]],
        reach: Callable[[Segment], Span | None],
    ) -> None:  # fmt: skip
        self._found: dict[int, dict[bytes, list[tuple[str, Span]]]] = {}
        for number, (data, m) in enumerate(zip([target, *bases], [maps[0], *maps[1]], strict=True)):
            file = number - 1  # the target first: KEPT is -1
            known = self._found.setdefault(file, {})
            for segment in m.segments:
                if segment.role is Role.SCALE and segment.dtype == "float32":
                    span = reach(segment) if file == KEPT else Span(file, segment.offset, segment.length)
                    if span is None:
                        continue
                    value = bytes(memoryview(data)[segment.offset : segment.offset + segment.length])
                    known.setdefault(value, []).append((segment.name, span))

    def of(self, tensor: Tensor) -> tuple[Span, int] | None:
        """The span of a tensor's scales, and the axis in the tensor's shape (-1: one for all)."""
        quant = tensor.segment.quant
        if quant is None:
            return None
        value = np.array(quant.scales, "<f4").tobytes()
        found = self._found[tensor.file].get(value)
        if not found:
            return None
        name = tensor.segment.name
        _, span = max(found, key=lambda f: f[0].startswith(name) or name.startswith(f[0].removesuffix("_scale")))
        return span, quant.axis if quant.axis is not None and len(quant.scales) > 1 else -1


@dataclass(frozen=True, slots=True)
class _Layout:
    """A tensor as a matrix: order 0 rows × cols in the file, 1 cols × rows."""

    rows: int
    cols: int
    order: int
    axis: int


def _layout(tensor: Tensor) -> _Layout:
    shape, count = tensor.segment.shape, tensor.count
    real = [axis for axis, size in enumerate(shape) if size > 1]
    if len(real) < 2 or GRIDS[BY_NAME[tensor.segment.dtype]].bits == 4:
        return _Layout(1, count, 0, -1)
    axis = tensor.segment.channel_axis
    if axis not in {real[0], real[-1]}:
        axis = real[0]
    rows = shape[axis]
    return _Layout(rows, count // rows, int(axis != real[0]), axis)


class Maker:
    """Describes one changed tensor as pieces."""

    def __init__(self, tensor: Tensor, source: Tensor | None, scales: Scales, level: str, fetch: Fetch) -> None:
        self.tensor = tensor
        self.fetch = fetch
        self.source = source
        self.level = level
        self.layout = _layout(tensor)
        self.grid = GRIDS[BY_NAME[tensor.segment.dtype]]
        self.target_scale: tuple[Span, int] | None = None
        self.source_scale: tuple[Span, int] | None = None
        if source is not None:
            self._scales(scales, source)

    def _scales(self, scales: Scales, source: Tensor) -> None:
        target, base = scales.of(self.tensor), scales.of(source)
        floats = [GRIDS[BY_NAME[t.segment.dtype]].kind == FLOAT for t in (self.tensor, source)]
        if floats[0] == floats[1] and (target is None) != (base is None):
            return
        self.target_scale = self._along(target, self.tensor)
        self.source_scale = self._along(base, source)

    def _along(self, found: tuple[Span, int] | None, tensor: Tensor) -> tuple[Span, int] | None:
        if found is None:
            return None
        span, axis = found
        if axis < 0 or span.length == 4:
            return span, 0
        layout = self.layout
        if layout.rows == 1 and span.length == 4 * layout.cols:
            return span, 2
        if layout.axis == axis and span.length == 4 * layout.rows and tensor.segment.shape == self.tensor.segment.shape:
            return span, 1
        return None

    def pieces(self, related: Sequence[Relation] = ()) -> list[Piece]:
        """The tensor's pieces, each within the format's limits."""
        whole = self._whole(related)
        return [self._tuned(part) for part in (_split(whole) if whole.count > MOST_VALUES else [whole])]

    def _whole(self, related: Sequence[Relation]) -> Piece:
        layout, segment = self.layout, self.tensor.segment
        floats = self.grid.kind == FLOAT
        vector = layout.rows == 1 or self.tensor.count < 256
        piece = Piece(
            segment.offset, BY_NAME[segment.dtype], layout.rows, layout.cols, layout.order,
            shift=trailing_zeros(self.grid, self.tensor.bytes, self.tensor.count), zero=self._zero(self.tensor),
            model=(0 if floats else 2) + (4 if vector else 0),
        )  # fmt: skip
        choices = [*self._choices(replace(piece, period=self._period())), *self._related_choices(piece, related)]
        return self._best([self._tuned(_measured(choice, self.tensor, self.fetch)) for choice in choices])

    def _related_choices(self, piece: Piece, related: Sequence[Relation]) -> list[Piece]:
        if piece.rows != 1 or not related:
            return []
        values = self.tensor.reals()
        return [_related(piece, relation, values, self.fetch) for relation in related]

    def _choices(self, piece: Piece) -> list[Piece]:
        """Ways to let expect the tensor: nothing, the base's tensor, that in the target's scale."""
        bare = replace(piece, model=piece.model + 1)
        if self.source is None:
            return [bare]
        based = self._with_source(piece, self.source)
        if based.source == NOTHING:
            return [bare]
        unscaled = replace(based, source_scale=None, source_axis=0, target_scale=None, target_axis=0)
        if self.level == "fast" and based.source_dtype == based.dtype:  # differences of bits, without a real between
            return [unscaled, bare]
        return [based, bare, unscaled] if unscaled != based else [based, bare]

    def _best(self, choices: list[Piece]) -> Piece:
        if self.level == "fast":
            return min(choices, key=lambda c: c.scale)
        alike = max(choices, key=lambda c: c.size - c.scale)
        if alike.size - alike.scale >= 3:  # a base this near needs no trial against none
            choices = [c for c in choices if c.source != NOTHING]
            if not is_vector(self.tensor):
                choices = [c for c in choices if c.scale <= alike.scale + 1]
        if self.tensor.count > MOST_VALUES or (len(choices) == 1 and self.tensor.count < LEAST_QUICK):
            return alike
        data, most = self.tensor.bytes, TRIAL[self.level]
        costs = [trial(choice, data, self.fetch, most) for choice in choices]
        best = choices[costs.index(min(costs))]
        if self.layout.rows > 1 and best.detail != 1:  # what neighbours tell has to outweigh what learning them costs
            near = replace(best, flags=best.flags | 8)
            if trial(near, data, self.fetch, most) < 0.998 * min(costs):
                return near
        return best

    def _period(self) -> int:
        """Columns from one input channel to the next: a kernel's places lie side by side in one order or the other."""
        shape, layout = self.tensor.segment.shape, self.layout
        if len(shape) < 3 or layout.rows == 1:
            return 0
        period = math.prod(shape[2:]) if layout.axis == 0 else shape[-2]
        return period if 1 < period < layout.cols else 0

    def _zero(self, tensor: Tensor) -> int:
        grid, quant = GRIDS[BY_NAME[tensor.segment.dtype]], tensor.segment.quant
        if grid.kind == FLOAT:
            return 0
        if (
            quant is not None
            and len(set(quant.zero_points)) == 1
            and grid.lowest <= quant.zero_points[0] < 1 << grid.bits
        ):
            return quant.zero_points[0]
        return 0 if grid.is_signed else int(np.median(tensor.reals()))

    def _with_source(self, piece: Piece, source: Tensor) -> Piece:
        span, layout = source.span(), _layout(source)
        piece = replace(
            piece, source=span.source, at=span.offset, source_dtype=BY_NAME[source.segment.dtype],
            source_order=layout.order if layout.rows == piece.rows else piece.order, source_zero=self._zero(source),
        )  # fmt: skip
        if source.count != self.tensor.count:
            return self._gathered(piece, source)
        if self.source_scale:
            piece = replace(piece, source_scale=self.source_scale[0], source_axis=self.source_scale[1])
        if self.target_scale:
            piece = replace(piece, target_scale=self.target_scale[0], target_axis=self.target_scale[1])
        return piece

    def _gathered(self, piece: Piece, source: Tensor) -> Piece:
        rows, base_rows = self.tensor.segment.shape[0], source.segment.shape[0]
        cols = self.tensor.count // rows
        if base_rows * cols > MOST_VALUES or rows * cols > MOST_VALUES or self.grid.bits == 4:
            return replace(piece, source=NOTHING, at=0)
        rows_from = row_sources(self.tensor.reals().reshape(rows, cols), source.reals().reshape(base_rows, cols))
        return replace(
            piece,
            rows=rows,
            cols=cols,
            order=0,
            source_order=0,
            source_rows=base_rows,
            gather=rows_from,
        )

    def _tuned(self, piece: Piece) -> Piece:
        most = self.level == "max"
        joint = 4 <= piece.rows <= (MOST_JOINT if most else QUICK_JOINT) and piece.cols >= 6
        quick = not most and self.tensor.count >= LEAST_QUICK and self.grid.bits <= 32
        detail = 2 if most else 0 if quick else 1
        told = self.grid.kind != FLOAT and piece.flags & EQUALS  # the base says which are dead
        flags = piece.flags & ~DEAD | (DEAD if quick and not told and self._dead else 0)
        return replace(piece, joints=(1 + most) * joint, detail=detail, flags=flags)

    @cached_property
    def _dead(self) -> bool:
        """Whether many values are smaller by far than the others, as in dead channels."""
        values, layout = reals_of(self.grid, self.tensor.bytes, self.tensor.count), self.layout
        if self.grid.kind == FLOAT:
            sizes = np.abs(values)
            return bool(((sizes > 0) & (sizes < 1e-6 * sizes.mean())).mean() > 0.05)
        none = (values == self._zero(self.tensor)).reshape(-1, layout.cols if layout.order == 0 else layout.rows)
        return bool(max(none.all(axis=0).mean(), none.all(axis=1).mean()) > 0.05)


def _related(piece: Piece, relation: Relation, values: Reals, fetch: Fetch) -> Piece:
    """The piece expected from a relation, with the factor that makes most values exact."""
    related = replace(
        piece, source=relation.span.source, at=relation.span.offset, source_dtype=relation.dtype, folds=relation.folds,
        fold=relation.fold, source_order=relation.order, partner=relation.partner, rounds=1,
    )  # fmt: skip
    base = expectation(replace(related, rounds=0), fetch)
    usable = (base != 0) & (np.abs(values) >= np.median(np.abs(values))) & (values != 0)
    if not usable.any():
        return related
    ratio = float(np.median(values[usable] / base[usable]))
    choices = [
        replace(related, factor=int(np.array([by], "<f4").view("<u4")[0]) << 1 | divides)
        for divides, by in ((0, ratio), (1, 1 / ratio))
    ]
    grid = GRIDS[piece.dtype]
    return max(choices, key=lambda c: float((rounded(grid, expectation(c, fetch)) == values).mean()))


def _measured(piece: Piece, tensor: Tensor, fetch: Fetch) -> Piece:
    """The first guesses and flags, from the values themselves."""
    grid = GRIDS[piece.dtype]
    values = reals_of(grid, tensor.bytes, tensor.count) - piece.zero
    values = values if piece.order else values.reshape(piece.rows, piece.cols).T.ravel()
    base = expectation(piece, fetch)
    flags = piece.flags
    if piece.source != NOTHING:
        near = rounded(grid, base + piece.zero) - piece.zero if grid.kind != FLOAT else rounded(grid, base)
        if (piece.source_dtype != piece.dtype or piece.rounds) and not piece.gather:
            piece = replace(piece, rounds=int((near == values).mean() > 0.3))
            base = near if piece.rounds else base
        if (near == values).mean() > (0.02 if grid.kind == FLOAT else 0.6):
            flags |= 4
    if grid.kind == FLOAT and (values == 0).mean() > 0.02:
        flags |= 2
    return replace(piece, flags=flags, scale=_log2(np.abs(values - base)), size=_log2(np.abs(values)))


def _log2(values: Reals) -> int:
    mean = float(values.mean())
    return max(-100, min(100, round(math.log2(mean)))) if mean > 0 else -100


def _split(piece: Piece) -> Iterable[Piece]:
    """Blocks of rows (or of columns, where the file holds them column after column), each within the limits."""
    bits, source_bits = GRIDS[piece.dtype].bits, GRIDS[piece.source_dtype].bits
    outer, inner = (piece.cols, piece.rows) if piece.order else (piece.rows, piece.cols)
    step = max(1, MOST_VALUES // inner)
    if not piece.order:
        step = min(step, MOST_ROWS)
    if inner > MOST_VALUES or (piece.source != NOTHING and piece.source_order != piece.order):
        yield from _split_flat(piece)
        return
    for start in range(0, outer, step):
        size = min(step, outer - start)
        skipped = start * inner
        part = replace(
            piece, offset=piece.offset + skipped * bits // 8,
            at=piece.at + skipped * source_bits // 8 if piece.source != NOTHING else 0,
            rows=piece.rows if piece.order else size, cols=size if piece.order else piece.cols,
        )  # fmt: skip
        axis = 2 if piece.order else 1
        yield _with_scales(part, axis, start, size)


def _with_scales(part: Piece, axis: int, start: int, size: int) -> Piece:
    def cut(span: Span | None, along: int) -> Span | None:
        return Span(span.source, span.offset + 4 * start, 4 * size) if span is not None and along == axis else span

    return replace(
        part,
        source_scale=cut(part.source_scale, part.source_axis),
        target_scale=cut(part.target_scale, part.target_axis),
    )


def _split_flat(piece: Piece) -> Iterable[Piece]:
    """Without rows: a vector in parts."""
    bits, source_bits = GRIDS[piece.dtype].bits, GRIDS[piece.source_dtype].bits
    aligned = piece.source == NOTHING or piece.source_order == piece.order
    for start in range(0, piece.count, MOST_VALUES):
        size = min(MOST_VALUES, piece.count - start)
        yield replace(
            piece, offset=piece.offset + start * bits // 8, rows=1, cols=size, order=0, joints=0, source_scale=None, target_scale=None, source_order=0,
            source=piece.source if aligned else NOTHING,
            at=piece.at + start * source_bits // 8 if aligned and piece.source != NOTHING else 0,
        )  # fmt: skip
