"""What to do with every byte of a target: copy, model as values, or code as plain bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from farshore.delta.container import FRAME_BYTES, HISTORY_BYTES, MOST_KEPT
from farshore.delta.frames import KEPT, MOST_JOINT, MOST_VALUES, NOTHING, Copy, Piece, Span
from farshore.delta.grids import BY_NAME, FLOAT, GRIDS, Reals, reals_of, rounded, trailing_zeros
from farshore.delta.matching import Tensor, kin, moved, row_sources, same, tensors_of
from farshore.delta.matrices import Fetch, expectation, trial
from farshore.delta.relations import STAGES, Relation, Relations, is_vector
from farshore.formats import Role, SegmentMap

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SMALL = 1 << 16
LEAST_COPY = 256
LEAST_TENSOR_COPY = 64
LARGE_REST = 1 << 20
TRIAL = {"default": 1 << 13, "max": 1 << 14}
"""Values that a way of expecting is tried on."""
MOST_ROWS = 256
"""Rows of one block of a tensor that is too large for one matrix."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All bytes of the target, each once.

    Attributes:
        copies: rising.
        first: vectors of reals that others refer to (scales, ranges), coded first and kept; then those that refer to them.
        pieces: the other matrices, rising.
        rest: ranges of plain bytes, rising.
        history: spans of the bases that are not tensors: what the rest looks back on.
        again: tensors that the target holds twice, copied from the last stage of `first`.

    """

    copies: tuple[Copy, ...]
    first: tuple[tuple[Piece, ...], ...]
    pieces: tuple[Piece, ...]
    rest: tuple[tuple[int, int], ...]
    history: tuple[Span, ...]
    again: tuple[Copy, ...]


def make_plan(
    target: memoryview, bases: Sequence[memoryview], maps: tuple[SegmentMap, Sequence[SegmentMap]], level: str, fetch: Fetch
) -> Plan:
    """Decide for every byte of the target.

    Args:
        target, bases: the bytes.
        maps: what the target and each base are made of.
        level: of :data:`farshore.delta.container.LEVELS`.
        fetch: gives the bytes of a span of either.

    """
    wanted = tensors_of(KEPT, target, maps[0])
    held = [tensor for number, (base, m) in enumerate(zip(bases, maps[1], strict=True)) for tensor in tensors_of(number, base, m)]
    equal = same(wanted, held)
    # A small equal tensor costs less as a run in the plain bytes than as an entry in a table.
    plain = {t for t in equal if t.segment.length < LEAST_TENSOR_COPY}
    plain_held = {equal[t] for t in plain}
    equal = {t: h for t, h in equal.items() if t not in plain and h not in plain_held}
    wanted = [t for t in wanted if t not in plain]
    copies = [Copy(t.segment.offset, h.span()) for t, h in equal.items()]
    changed = [tensor for tensor in wanted if tensor not in equal]
    rest = _gaps(len(target), [(t.segment.offset, t.segment.length) for t in wanted])
    history = [
        Span(number, offset, length)
        for number, base in enumerate(bases)
        for offset, length in _gaps(len(base), [(t.segment.offset, t.segment.length) for t in held if t.file == number and t not in plain_held])
    ]
    if sum(length for _, length in rest) > LARGE_REST:
        found, rest = _moved_rest(target, bases, rest)
        copies += found
    scales = _Scales(target, bases, maps, equal)
    sources = kin(changed, held)
    relations = Relations([tensor for tensor in changed if is_vector(tensor)], held)
    again, originals = _repeated(changed)
    changed = [tensor for tensor in changed if tensor not in again]
    stages: list[list[Piece]] = [[] for _ in range(STAGES + 1)]
    others: list[Piece] = []
    for tensor in [*relations.order, *(tensor for tensor in changed if not is_vector(tensor))]:
        maker = _Maker(tensor, sources.get(tensor), scales, level, fetch)
        pieces = maker.pieces(relations.of(tensor))
        if is_vector(tensor):
            spans = [Span(pieces[0].source, pieces[0].at, 0), *([pieces[0].partner] if pieces[0].partner else [])]
            stages[relations.settle(tensor, spans)].extend(pieces)
        elif tensor in originals:
            stages[STAGES].extend(pieces)
        else:
            others.extend(pieces)
    for pieces in (*stages, others):
        pieces.sort(key=lambda piece: piece.offset)
    copies.sort(key=lambda copy: copy.offset)
    copies, rest, history = _absorbed(target, bases, copies, rest, history)
    return Plan(_merged(copies), tuple(tuple(stage) for stage in stages), tuple(others), tuple(rest), tuple(history), tuple(again.values()))


def _repeated(changed: Sequence[Tensor]) -> tuple[dict[Tensor, Copy], set[Tensor]]:
    """Tensors that the target holds twice: the later as copies, and the earlier, which have to be kept for them."""
    first: dict[tuple[bytes, int], Tensor] = {}
    again: dict[Tensor, Copy] = {}
    originals: set[Tensor] = set()
    kept = 0
    for tensor in changed:
        original = first.setdefault((tensor.digest, tensor.segment.length), tensor)
        whole = not is_vector(tensor) and tensor.count <= MOST_VALUES
        if original is tensor or not whole or kept + tensor.segment.length > MOST_KEPT // 2:
            continue
        kept += 0 if original in originals else tensor.segment.length
        originals.add(original)
        again[tensor] = Copy(tensor.segment.offset, original.span())
    return again, originals


def _absorbed(
    target: memoryview, bases: Sequence[memoryview], copies: list[Copy], rest: list[tuple[int, int]], history: list[Span]
) -> tuple[list[Copy], list[tuple[int, int]], list[Span]]:
    """Plain ranges that are equal between two copies of one shift become copies, and leave the history as well."""
    starts = {copy.offset: copy.span for copy in copies}
    ends = {copy.offset + copy.span.length: copy.span for copy in copies}
    left, taken = [], set()
    for offset, length in rest:
        before, after = ends.get(offset), starts.get(offset + length)
        if before and after and before.source == after.source and before.offset + before.length + length == after.offset:
            span = Span(before.source, before.offset + before.length, length)
            held = bases[span.source][span.offset : span.offset + length]
            if held == target[offset : offset + length]:
                copies = [*copies, Copy(offset, span)]
                taken.add(span)
                continue
        left.append((offset, length))
    copies.sort(key=lambda copy: copy.offset)
    return copies, left, [span for span in history if span not in taken]


def _gaps(size: int, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    gaps, end = [], 0
    for offset, length in [*sorted(ranges), (size, 0)]:
        if offset > end:
            gaps.append((end, offset - end))
        end = max(end, offset + length)
    return gaps


def _moved_rest(
    target: memoryview, bases: Sequence[memoryview], rest: list[tuple[int, int]]
) -> tuple[list[Copy], list[tuple[int, int]]]:
    copies, left = [], []
    for offset, length in rest:
        if length < LEAST_COPY:
            left.append((offset, length))
            continue
        found = [Copy(offset + at, span) for at, span in moved(target[offset : offset + length], bases, LEAST_COPY)]
        copies += found
        covered = [(copy.offset - offset, copy.span.length) for copy in found]
        left += [(offset + start, size) for start, size in _gaps(length, covered)]
    return copies, left


def _merged(copies: Sequence[Copy]) -> tuple[Copy, ...]:
    merged: list[Copy] = []
    for copy in copies:
        if merged:
            last = merged[-1]
            span = last.span
            if (
                last.offset + span.length == copy.offset and span.source == copy.span.source
                and span.offset + span.length == copy.span.offset
            ):  # fmt: skip
                merged[-1] = Copy(last.offset, Span(span.source, span.offset, span.length + copy.span.length))
                continue
        merged.append(copy)
    return tuple(merged)


class _Scales:
    """Where the scales of quantised tensors stand: in a base, or in the target (kept by an earlier frame)."""

    def __init__(
        self, target: ReadableBuffer, bases: Sequence[ReadableBuffer], maps: tuple[SegmentMap, Sequence[SegmentMap]],
        equal: dict[Tensor, Tensor],
    ) -> None:  # fmt: skip
        copied = {tensor.segment.offset: base.span() for tensor, base in equal.items()}
        self._found: dict[int, dict[bytes, list[tuple[str, Span]]]] = {}
        for number, (data, m) in enumerate(zip([target, *bases], [maps[0], *maps[1]], strict=True)):
            file = number - 1  # the target first: KEPT is -1
            known = self._found.setdefault(file, {})
            for segment in m.segments:
                if segment.role is Role.SCALE and segment.dtype == "float32":
                    span = Span(file, segment.offset, segment.length)
                    if file == KEPT:
                        span = copied.get(segment.offset, span)
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


class _Maker:
    """Describes one changed tensor as pieces."""

    def __init__(self, tensor: Tensor, source: Tensor | None, scales: _Scales, level: str, fetch: Fetch) -> None:
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

    def _scales(self, scales: _Scales, source: Tensor) -> None:
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
        return self._best([_measured(self._tuned(choice), self.tensor, self.fetch) for choice in choices])

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
        return [based, bare, unscaled] if unscaled != based else [based, bare]

    def _best(self, choices: list[Piece]) -> Piece:
        if self.level == "fast":
            return choices[0]
        alike = max(choices, key=lambda c: c.size - c.scale)
        if alike.size - alike.scale >= 3:  # a base this near needs no trial against none
            choices = [c for c in choices if c.source != NOTHING]
            if not is_vector(self.tensor):
                choices = [c for c in choices if c.scale <= alike.scale + 1]
        if self.tensor.count > MOST_VALUES or (len(choices) == 1 and self.level != "max"):
            return alike
        data, most = self.tensor.bytes, TRIAL[self.level]
        costs = [trial(choice, data, self.fetch, most) for choice in choices]
        best = choices[costs.index(min(costs))]
        if self.level == "max" and self.layout.rows > 1:  # what neighbours tell has to outweigh what learning them costs
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
        if quant is not None and len(set(quant.zero_points)) == 1 and grid.lowest <= quant.zero_points[0] < 1 << grid.bits:
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
            piece, rows=rows, cols=cols, order=0, source_order=0, source_rows=base_rows, gather=rows_from,
        )

    def _tuned(self, piece: Piece) -> Piece:
        joint = 4 <= piece.rows <= (MOST_JOINT if self.level == "max" else 256) and piece.cols >= 6
        most = self.level == "max"
        detail = 2 if most else int(_many_magnitudes(self.tensor))
        return replace(piece, joints=(1 + most) * joint, detail=detail)


def _many_magnitudes(tensor: Tensor) -> bool:
    """Whether many values are smaller by far than the others, as in dead channels."""
    if GRIDS[BY_NAME[tensor.segment.dtype]].kind != FLOAT:
        return False
    sizes = np.abs(tensor.reals())
    return bool(((sizes > 0) & (sizes < 1e-6 * sizes.mean())).mean() > 0.05)


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
        part, source_scale=cut(part.source_scale, part.source_axis), target_scale=cut(part.target_scale, part.target_axis)
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


def frames_of(pieces: Sequence[Piece]) -> Iterable[tuple[Piece, ...]]:
    """Pieces in groups that fit a frame."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and size + piece.length > FRAME_BYTES:
            yield tuple(group)
            group, size = [], 0
        group.append(piece)
        size += piece.length
    if group:
        yield tuple(group)


def rest_frames(
    rest: Sequence[tuple[int, int]], history: Sequence[Span]
) -> Iterable[tuple[tuple[tuple[int, int], ...], tuple[Span, ...]]]:
    """Plain ranges in groups that fit a frame, each with the part of the history at the same share of the whole."""
    total, looked_back = sum(size for _, size in rest), sum(span.length for span in history)
    group: list[tuple[int, int]] = []
    size = done = 0
    for offset, length in _chunks(rest):
        if group and size + length > FRAME_BYTES:
            yield tuple(group), _window(history, looked_back * (done + size // 2) // total)
            done += size
            group, size = [], 0
        group.append((offset, length))
        size += length
    if group:
        yield tuple(group), _window(history, looked_back * (done + size // 2) // total)


def _chunks(rest: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    for offset, length in rest:
        for start in range(0, length, FRAME_BYTES):
            yield offset + start, min(FRAME_BYTES, length - start)


def _window(history: Sequence[Span], centre: int) -> tuple[Span, ...]:
    """At most HISTORY_BYTES of the spans, around a place in them."""
    total = sum(span.length for span in history)
    low = max(0, min(centre - HISTORY_BYTES // 2, total - HISTORY_BYTES))
    high, at, chosen = low + HISTORY_BYTES, 0, []
    for span in history:
        start, end = max(low - at, 0), min(high - at, span.length)
        if start < end:
            chosen.append(Span(span.source, span.offset + start, end - start))
        at += span.length
    return tuple(chosen)


