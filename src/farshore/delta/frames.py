"""What the frames of a patch say: copies, plain bytes, matrices of values. Values and their tables of numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from farshore.core.errors import Invalid
from farshore.delta.container import FRAME_BYTES, HISTORY_BYTES, Reader, read_columns, write_columns
from farshore.delta.grids import GRIDS, byte_length
from farshore.delta.kin import CHANNELS, Kin, kin_table, read_kin

MOST_ENTRIES = 1 << 16
MOST_VALUES = 1 << 19
"""Most values in one matrix."""
MOST_JOINT = 1024
"""Most rows whose residuals are taken as jointly normal."""
MODELS = 8
KEPT = -1
"""As a source: the target's bytes that earlier frames kept."""
NOTHING = -2
"""As a source: none."""


@dataclass(frozen=True, slots=True)
class Span:
    """A byte range of a base, or of the target where `source` is :data:`KEPT`."""

    source: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes of the target that a base (or an earlier, kept place of the target) holds."""

    offset: int
    span: Span


@dataclass(frozen=True, slots=True)
class Plain:
    """Plain bytes: the target's ranges, what to look back on, and how; and copies between them.

    Attributes:
        ranges: (offset, length) in the target, rising.
        history: spans of bases and kept bytes, in the order of the look-back.
        trained: how many bytes at the end of the history teach the model first.
        method: 0 stored, 1 Zstandard, 2 modelled, 3 modelled with all contexts.
        copies: rising; most fill the holes between the ranges.

    """

    ranges: tuple[tuple[int, int], ...]
    history: tuple[Span, ...]
    trained: int
    method: int
    copies: tuple[Copy, ...] = ()

    def places(self) -> NDArray[np.int64]:
        """For the kernel: the position of each span in history and ranges put together, and its address in its file."""
        spans = [*((span.offset, span.length) for span in self.history if span.length), *self.ranges]
        starts = [0, *accumulate(length for _, length in spans)][:-1]
        return np.array(list(zip(starts, (offset for offset, _ in spans), strict=True)) or [(0, 0)], np.int64)


STORED, ZSTANDARD, MODELLED, MODELLED_FULL = range(4)


@dataclass(frozen=True, slots=True)
class Piece:
    """A matrix of values: where it stands, what lets expect it, what the model is told. All numbers are integers.

    Attributes:
        offset: of the first value in the target.
        dtype: index into :data:`GRIDS`.
        rows, cols: of the matrix; a row has statistics of its own.
        order: 0: the file holds row after row; 1: column after column.
        shift: dropped low bits.
        zero: integers: the value that stands for 0.
        period: distance of columns of one kind (places of a kernel).
        flags: the kernel's (2 zeros are flagged, 4 equals are flagged, 8 neighbours are looked at, 16 dead values are
            flagged, only without detail; 32 channels are looked at, only with it).
        joints: models of the rows as jointly normal (0: none).
        detail: 0 the quick model, else the tree: 1 few distributions are mixed, 2 all.
        model: which of the coder's models learns here.
        scale, size: log2 of the mean miss and of the mean magnitude.
        prior: log2 of four times the joint model's own variance.
        source, at: the tensor that lets expect it (a base's number, :data:`KEPT` or :data:`NOTHING`), and its offset.
        source_dtype, source_order, source_rows, source_zero: how to read it.
        rounds: the base value is rounded to the target's grid.
        folds: if not 0: the source is a matrix with so many columns and a row for each of the piece's columns, and
            the base value is a row's largest magnitude, least or largest value, as `fold` says (0, 1, 2): scales and
            ranges from the weights that they belong to.
        factor: if not 0: the base value is multiplied (even) or divided (odd) by the float32 whose bits are the half.
        partner: a second vector like the source: the base value is the larger magnitude of the two (a scale from its
            range).
        gather: for each row the source's row (-1: none); empty: the same.
        source_scale, target_scale: float32 vectors: the base is multiplied by one and divided by the other.
        source_axis, target_axis: what they run along: 0 one for all, 1 rows, 2 columns.
        own, kin: of channels (flag 32): sixteenths of what the base tells of them, and what earlier matrices do.

    """

    offset: int
    dtype: int
    rows: int
    cols: int
    order: int = 0
    shift: int = 0
    zero: int = 0
    period: int = 0
    flags: int = 0
    joints: int = 0
    detail: int = 2
    model: int = 0
    scale: int = 0
    size: int = 0
    prior: int = 0
    source: int = NOTHING
    at: int = 0
    source_dtype: int = 0
    source_order: int = 0
    source_rows: int = 0
    source_zero: int = 0
    rounds: int = 0
    folds: int = 0
    fold: int = 0
    factor: int = 0
    source_scale: Span | None = None
    source_axis: int = 0
    target_scale: Span | None = None
    target_axis: int = 0
    partner: Span | None = None
    gather: tuple[int, ...] = ()
    own: int = 0
    kin: tuple[Kin, ...] = ()

    @property
    def count(self) -> int:
        """Values."""
        return self.rows * self.cols

    @property
    def length(self) -> int:
        """Bytes in the target."""
        return byte_length(GRIDS[self.dtype], self.count)


# ---- tables ------------------------------------------------------------------------------------------------------


def _span_columns(spans: Iterable[Span | None]) -> list[list[int]]:
    """Source, offset relative to where the last one ended, length."""
    columns: list[list[int]] = [[], [], []]
    ends: dict[int, int] = {}
    for span in spans:
        if span is None:
            row = (NOTHING, 0, 0)
        else:
            row = (span.source, span.offset - ends.get(span.source, 0), span.length)
            ends[span.source] = span.offset + span.length
        for column, number in zip(columns, row, strict=True):
            column.append(number)
    return columns


def _spans(columns: list[list[int]]) -> list[Span | None]:
    ends: dict[int, int] = {}
    spans: list[Span | None] = []
    for source, step, length in zip(*columns, strict=True):
        if source == NOTHING:
            spans.append(None)
            continue
        span = Span(source, ends.get(source, 0) + step, length)
        if span.offset < 0 or length < 0 or source < KEPT:
            raise Invalid("patch refers to bytes before the start of a base")
        ends[source] = span.offset + length
        spans.append(span)
    return spans


def copies_table(copies: tuple[Copy, ...]) -> bytes:
    """Numbers of a copy frame: gaps in the target, and for each the span, its source offset told by the gap before."""
    gaps, steps, lengths, sources = [], [], [], []
    target = source = 0
    for copy in copies:
        gap = copy.offset - target
        gaps.append(gap)
        steps.append(copy.span.offset - source - gap)
        lengths.append(copy.span.length)
        sources.append(copy.span.source)
        target, source = copy.offset + copy.span.length, copy.span.offset + copy.span.length
    return write_columns([gaps, lengths, steps, sources])


def read_copies(reader: Reader) -> tuple[Copy, ...]:
    """The opposite of :func:`copies_table`."""
    copies = []
    target = source = 0
    for gap, length, step, number in zip(*read_columns(reader, 4, MOST_ENTRIES), strict=True):
        offset, start = target + gap, source + gap + step
        if gap < 0 or length < 1 or start < 0 or number < KEPT:
            raise Invalid("patch holds a copy that is no range")
        copies.append(Copy(offset, Span(number, start, length)))
        target, source = offset + length, start + length
    return tuple(copies)


class _Guesses:
    """Where a copy is expected: start and length fill the next hole between ranges, the source follows the history's span."""

    def __init__(self, ranges: Sequence[tuple[int, int]], history: Sequence[Span]) -> None:
        self._history = history
        self._starts = [offset for offset, _ in ranges]
        self._ends = [offset + length for offset, length in ranges]
        # For each range the first one from it on that has a hole after it: found once, for many copies may ask.
        self._open = list(range(len(ranges)))
        for at in range(len(ranges) - 2, -1, -1):
            if self._ends[at] == self._starts[at + 1]:
                self._open[at] = self._open[at + 1]

    def after(self, end: int, source_end: int) -> tuple[int, int, int]:
        """Start, length and source offset expected after a copy that ended at `end`, and in its source at `source_end`."""
        at = bisect_right(self._starts, end)  # the first range that starts after `end`
        start = max(end, self._ends[at - 1]) if at else end
        if at < len(self._starts) and start == self._starts[at]:  # no hole here: the next one
            at = self._open[at] + 1
            end, start = self._starts[at - 1], self._ends[at - 1]
        length = self._starts[at] - start if at < len(self._starts) else 0
        if at and at <= len(self._history) and start > end:
            span = self._history[at - 1]
            return start, length, span.offset + span.length
        return start, length, source_end + start - end


def _copy_columns(plain: Plain) -> list[list[int]]:
    columns: list[list[int]] = [[], [], [], []]
    guesses, end, source_end = _Guesses(plain.ranges, plain.history), 0, 0
    for copy in plain.copies:
        start, length, source = guesses.after(end, source_end)
        span = copy.span
        for column, number in zip(
            columns, (copy.offset - start, span.length - length, span.offset - source, span.source), strict=True
        ):
            column.append(number)
        end, source_end = copy.offset + span.length, span.offset + span.length
    return columns


def _copies_of(
    columns: list[list[int]], ranges: Sequence[tuple[int, int]], history: Sequence[Span]
) -> tuple[Copy, ...]:
    copies = []
    guesses, end, source_end = _Guesses(ranges, history), 0, 0
    for shift, longer, moved, source in zip(*columns, strict=True):
        start, length, guess = guesses.after(end, source_end)
        copy = Copy(start + shift, Span(source, guess + moved, length + longer))
        if copy.offset < end or copy.span.length < 1 or copy.span.offset < 0 or source < 0:
            raise Invalid("patch holds a copy that is no range")
        copies.append(copy)
        end, source_end = copy.offset + copy.span.length, copy.span.offset + copy.span.length
    return tuple(copies)


def plain_table(plain: Plain) -> bytes:
    """Numbers of a frame of plain bytes: the history's layout is told by its difference from the target's."""
    gaps, lengths, end = [], [], 0
    for offset, length in plain.ranges:
        gaps.append(offset - end)
        lengths.append(length)
        end = offset + length
    sources, steps, longer = _span_columns(plain.history)
    for k in range(min(len(gaps), len(steps))):
        steps[k] -= gaps[k]
        longer[k] -= lengths[k]
    return (
        bytes([plain.method]) + write_columns([[plain.trained]]) + write_columns([gaps, lengths])
        + write_columns([sources, steps, longer]) + write_columns(_copy_columns(plain))
    )  # fmt: skip


def read_plain(reader: Reader) -> Plain:
    """The opposite of :func:`plain_table`, within :data:`FRAME_BYTES` and :data:`HISTORY_BYTES`."""
    method = reader.take(1)[0]
    trained = sum(read_columns(reader, 1, 1)[0])
    gaps, lengths = read_columns(reader, 2, MOST_ENTRIES)
    ranges, end = [], 0
    for gap, length in zip(gaps, lengths, strict=True):
        if gap < 0 or length < 1:
            raise Invalid("patch holds a range of bytes that is no range")
        ranges.append((end + gap, length))
        end += gap + length
    sources, steps, longer = read_columns(reader, 3, MOST_ENTRIES)
    for k in range(min(len(gaps), len(steps))):
        steps[k] += gaps[k]
        longer[k] += lengths[k]
    history = tuple(span for span in _spans([sources, steps, longer]) if span)
    looked_back = sum(span.length for span in history)
    if sum(lengths) > FRAME_BYTES or looked_back > HISTORY_BYTES:
        raise Invalid("patch holds a frame of bytes larger than the format allows")
    if method > MODELLED_FULL or not 0 <= trained <= looked_back:
        raise Invalid("patch holds a frame of bytes that this program does not know: update it")
    copies = _copies_of(read_columns(reader, 4, MOST_ENTRIES), ranges, history)
    return Plain(tuple(ranges), history, trained, method, copies)


_NUMBERS = tuple(
    field.name for field in fields(Piece)
    if field.name not in {"offset", "at", "source_scale", "target_scale", "partner", "gather", "own", "kin"}
)  # fmt: skip
_LIMITS = {
    "dtype": (0, len(GRIDS) - 1), "rows": (1, MOST_VALUES), "cols": (1, MOST_VALUES), "order": (0, 1), "shift": (0, 52),
    "zero": (-(1 << 31), 1 << 32), "period": (0, MOST_VALUES), "flags": (0, 62), "joints": (0, 3), "detail": (0, 2),
    "model": (0, MODELS - 1), "scale": (-120, 120), "size": (-120, 120), "prior": (-8, 8), "source": (NOTHING, 15),
    "source_dtype": (0, len(GRIDS) - 1), "source_order": (0, 1), "source_rows": (0, MOST_VALUES),
    "source_zero": (-(1 << 31), 1 << 32), "rounds": (0, 1), "folds": (0, MOST_VALUES), "fold": (0, 2), "factor": (0, (1 << 33) - 1), "source_axis": (0, 2), "target_axis": (0, 2),
}  # fmt: skip


def pieces_table(pieces: tuple[Piece, ...]) -> bytes:
    """Numbers of a frame of values."""
    gaps, steps, end, source_end = [], [], 0, 0
    for piece in pieces:
        gap = piece.offset - end
        gaps.append(gap)
        steps.append(piece.at - source_end - gap if piece.source != NOTHING else 0)
        end = piece.offset + piece.length
        if piece.source != NOTHING:
            source_end = piece.at + _source_length(piece)
    columns = [gaps, steps, *([getattr(piece, name) for piece in pieces] for name in _NUMBERS)]
    gathered = [number - row for piece in pieces for row, number in enumerate(piece.gather)]
    return b"".join((
        write_columns([*columns, [len(piece.gather) for piece in pieces]]),
        write_columns(_span_columns(piece.source_scale for piece in pieces)),
        write_columns(_span_columns(piece.target_scale for piece in pieces)),
        write_columns(_span_columns(piece.partner for piece in pieces)),
        write_columns([gathered]),
        kin_table([(piece.own, piece.kin) for piece in pieces if piece.flags & CHANNELS]),
    ))  # fmt: skip


def _source_length(piece: Piece) -> int:
    rows = piece.source_rows if piece.gather else piece.folds or piece.rows
    return byte_length(GRIDS[piece.source_dtype], rows * piece.cols)


def source_span(piece: Piece) -> Span:
    """Where the base's tensor of a piece is."""
    return Span(piece.source, piece.at, _source_length(piece))


def read_pieces(reader: Reader) -> tuple[Piece, ...]:
    """The opposite of :func:`pieces_table`: everything within limits and consistent in itself."""
    gaps, steps, *columns = read_columns(reader, 3 + len(_NUMBERS), MOST_ENTRIES)
    counts = columns.pop()
    source_scales, target_scales, partners = (_spans(read_columns(reader, 3, MOST_ENTRIES)) for _ in range(3))
    (gathered,) = read_columns(reader, 1, MOST_VALUES)
    if not len(source_scales) == len(target_scales) == len(partners) == len(gaps) or sum(counts) != len(gathered):
        raise Invalid("patch holds tables that do not belong together")
    for name, column in zip(_NUMBERS, columns, strict=True):
        low, high = _LIMITS[name]
        if column and not low <= min(column) <= max(column) <= high:
            raise Invalid(f"patch holds a matrix whose {name} is out of range")
    pieces, end, source_end, used, total = [], 0, 0, 0, 0
    for row, (gap, step, count) in enumerate(zip(gaps, steps, counts, strict=True)):
        numbers = {name: column[row] for name, column in zip(_NUMBERS, columns, strict=True)}
        gather = tuple(number + index for index, number in enumerate(gathered[used : used + count]))
        used += count
        at = source_end + gap + step if numbers["source"] != NOTHING else 0
        piece = Piece(
            offset=end + gap, at=at, gather=gather, source_scale=source_scales[row], target_scale=target_scales[row],
            partner=partners[row], kin=(), **numbers,
        )  # fmt: skip
        _check(piece, gap)
        total += piece.length
        end = piece.offset + piece.length
        if piece.source != NOTHING:
            source_end = at + _source_length(piece)
        pieces.append(piece)
    if total > FRAME_BYTES:
        raise Invalid("patch holds a frame of values larger than the format allows")
    return _with_kin(reader, pieces)


def _with_kin(reader: Reader, pieces: list[Piece]) -> tuple[Piece, ...]:
    shapes = [(piece.rows, piece.cols, piece.period) for piece in pieces if piece.flags & CHANNELS]
    told = read_kin(reader, shapes)
    related = []
    for piece in pieces:
        own, kin = next(told) if piece.flags & CHANNELS else (0, ())
        related.append(replace(piece, own=own, kin=kin))
    return tuple(related)


def _check(piece: Piece, gap: int) -> None:
    grid, source = GRIDS[piece.dtype], GRIDS[piece.source_dtype]
    fine = (
        gap >= 0 and piece.at >= 0 and not piece.flags & 1 and piece.count <= MOST_VALUES
        and piece.shift <= grid.mantissa and (not piece.flags & 16 if piece.detail else grid.bits <= 32 and not piece.flags & CHANNELS)
        and (not piece.joints or piece.rows <= MOST_JOINT)
        and 0 <= piece.zero - grid.lowest <= 1 << 32
        and (piece.order == 0 or grid.bits != 4) and (source.bits != 4 or (piece.source_order == 0 and not piece.gather))
        and (not piece.gather or (
            len(piece.gather) == piece.rows and piece.source_rows * piece.cols <= 4 * MOST_VALUES
            and all(-1 <= number < piece.source_rows for number in piece.gather)
        ))
        and (not piece.folds or (piece.rows == 1 and not piece.gather and piece.folds * piece.cols <= 4 * MOST_VALUES))
        and (piece.partner is None or (piece.source != NOTHING and piece.partner.length == _source_length(piece)))
        and _scale_fits(piece, piece.source_scale, piece.source_axis)
        and _scale_fits(piece, piece.target_scale, piece.target_axis)
    )  # fmt: skip
    if not fine:
        raise Invalid("patch holds a matrix that does not fit its description")


def _scale_fits(piece: Piece, span: Span | None, axis: int) -> bool:
    return span is None or span.length == 4 * (1, piece.rows, piece.cols)[axis]
