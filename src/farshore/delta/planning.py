"""What to do with every byte of a target: copy, model as values, or code as plain bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farshore.delta.channels import with_channels
from farshore.delta.container import FRAME_BYTES, HISTORY_BYTES, MOST_KEPT
from farshore.delta.describing import Maker, Scales
from farshore.delta.frames import KEPT, MOST_ENTRIES, MOST_VALUES, Copy, Piece, Span
from farshore.delta.matching import Tensor, kin, moved, same, tensors_of
from farshore.delta.matrices import Fetch, reals_and_base
from farshore.delta.relations import STAGES, Relations, is_vector
from farshore.formats import Segment, SegmentMap

SMALL = 1 << 16
LEAST_COPY = 256
LEAST_TENSOR_COPY = 64
LARGE_REST = 1 << 20


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
    target: memoryview,
    bases: Sequence[memoryview],
    maps: tuple[SegmentMap, Sequence[SegmentMap]],
    level: str,
    fetch: Fetch,
) -> Plan:
    """Decide for every byte of the target.

    Args:
        target, bases: the bytes.
        maps: what the target and each base are made of.
        level: of :data:`farshore.delta.container.LEVELS`.
        fetch: gives the bytes of a span of either.

    """
    wanted = tensors_of(KEPT, target, maps[0])
    held = [
        tensor
        for number, (base, m) in enumerate(zip(bases, maps[1], strict=True))
        for tensor in tensors_of(number, base, m)
    ]
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
        for offset, length in _gaps(
            len(base), [(t.segment.offset, t.segment.length) for t in held if t.file == number and t not in plain_held]
        )
    ]
    if sum(length for _, length in rest) > LARGE_REST:
        found, rest = _moved_rest(target, bases, rest)
        copies += found
    copies.sort(key=lambda copy: copy.offset)
    copies, rest, history = _absorbed(target, bases, copies, rest, history)
    sources = kin(changed, held)
    relations = Relations([tensor for tensor in changed if is_vector(tensor)], held)
    reach = Reach(copies, rest, relations.order)
    scales = Scales(target, bases, maps, reach.span)
    again, originals = _repeated(changed, reach.room)
    changed = [tensor for tensor in changed if tensor not in again]
    stages: list[list[Piece]] = [[] for _ in range(STAGES + 1)]
    others: list[Piece] = []
    for tensor in [*relations.order, *(tensor for tensor in changed if not is_vector(tensor))]:
        maker = Maker(tensor, sources.get(tensor), scales, level, fetch)
        pieces = maker.pieces(relations.of(tensor))
        if reach.keeps(tensor):
            spans = [Span(pieces[0].source, pieces[0].at, 0), *([pieces[0].partner] if pieces[0].partner else [])]
            stages[relations.settle(tensor, spans)].extend(pieces)
        elif tensor in originals:
            stages[STAGES].extend(pieces)
        else:
            others.extend(pieces)
    for pieces in (*stages, others):
        pieces.sort(key=lambda piece: piece.offset)
    if level == "max":
        groups = [with_channels(group, lambda piece: reals_and_base(piece, fetch)) for group in frames_of(others)]
        others = [piece for group in groups for piece in group]
    return Plan(
        _merged(copies),
        tuple(tuple(stage) for stage in stages),
        tuple(others),
        tuple(rest),
        tuple(history),
        tuple(again.values()),
    )


class Reach:
    """Which bytes of the target frames may refer to: those copied, in the base, and those kept, within the format's limits.

    Args:
        copies: rising.
        rest: ranges of plain bytes, rising; kept only if one frame holds them all.
        vectors: tensors to be kept, the likeliest to be referred to first.

    """

    def __init__(
        self, copies: Sequence[Copy], rest: Sequence[tuple[int, int]], vectors: Iterable[Tensor]
    ) -> None:  # fmt: skip
        plain = sum(length for _, length in rest)
        kept = plain <= FRAME_BYTES and len(rest) <= MOST_ENTRIES // 2
        self._copies, self._rest = copies, rest if kept else ()
        self._vectors: dict[int, int] = {}
        self.room = MOST_KEPT - (plain if kept else 0)
        least = self.room - MOST_KEPT // 4
        for tensor in vectors:
            if self.room - tensor.segment.length >= least and len(self._vectors) < MOST_ENTRIES // 4:
                self._vectors[tensor.segment.offset] = tensor.segment.length
                self.room -= tensor.segment.length

    def keeps(self, tensor: Tensor) -> bool:
        """Whether this is one of the vectors that are kept."""
        return self._vectors.get(tensor.segment.offset) == tensor.segment.length

    def span(self, segment: Segment) -> Span | None:
        """How a frame refers to a segment of the target; None if it cannot."""
        offset, length = segment.offset, segment.length
        at = bisect_right(self._copies, offset, key=lambda copy: copy.offset) - 1
        if at >= 0 and offset + length <= self._copies[at].offset + self._copies[at].span.length:
            span = self._copies[at].span
            return Span(span.source, span.offset + offset - self._copies[at].offset, length)
        at = bisect_right(self._rest, offset, key=lambda one: one[0]) - 1
        plain = at >= 0 and offset + length <= sum(self._rest[at])
        return Span(KEPT, offset, length) if plain or self._vectors.get(offset) == length else None


def _repeated(changed: Sequence[Tensor], room: int) -> tuple[dict[Tensor, Copy], set[Tensor]]:
    """Tensors that the target holds twice: the later as copies, and the earlier, which are kept for them, in so many bytes."""
    first: dict[tuple[bytes, int], Tensor] = {}
    again: dict[Tensor, Copy] = {}
    originals: set[Tensor] = set()
    kept = 0
    for tensor in changed:
        original = first.setdefault((tensor.digest, tensor.segment.length), tensor)
        whole = not is_vector(tensor) and tensor.count <= MOST_VALUES
        full = kept + tensor.segment.length > min(room, MOST_KEPT // 2) or len(originals) >= MOST_ENTRIES // 4
        if original is tensor or not whole or full:
            continue
        kept += 0 if original in originals else tensor.segment.length
        originals.add(original)
        again[tensor] = Copy(tensor.segment.offset, original.span())
    return again, originals


def _absorbed(
    target: memoryview,
    bases: Sequence[memoryview],
    copies: list[Copy],
    rest: list[tuple[int, int]],
    history: list[Span],
) -> tuple[list[Copy], list[tuple[int, int]], list[Span]]:
    """Plain ranges that are equal between two copies of one shift become copies, and leave the history as well."""
    starts = {copy.offset: copy.span for copy in copies}
    ends = {copy.offset + copy.span.length: copy.span for copy in copies}
    left, taken = [], set()
    for offset, length in rest:
        before, after = ends.get(offset), starts.get(offset + length)
        if (
            before
            and after
            and before.source == after.source
            and before.offset + before.length + length == after.offset
        ):
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
    least = max(LEAST_COPY, sum(length for _, length in rest) // (MOST_ENTRIES // 2))  # a table holds so many
    for offset, length in rest:
        if length < least:
            left.append((offset, length))
            continue
        found = [Copy(offset + at, span) for at, span in moved(target[offset : offset + length], bases, least)]
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
