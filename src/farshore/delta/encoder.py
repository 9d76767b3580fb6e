"""A target and the bases that a device holds → a patch."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from farshore.core.errors import Invalid
from farshore.delta import zstd
from farshore.delta.container import (
    FRAME_BYTES,
    HISTORY_BYTES,
    LEVELS,
    MOST_BASES,
    Frame,
    Header,
    Kind,
    Named,
    pack,
    write_frame,
    write_header,
)  # fmt: skip
from farshore.delta.frames import (
    KEPT,
    MODELLED,
    MODELLED_FULL,
    STORED,
    ZSTANDARD,
    Copy,
    Piece,
    Plain,
    Span,
    copies_table,
    pieces_table,
    plain_table,
)  # fmt: skip
from farshore.delta.grids import FLOAT, GRIDS
from farshore.delta.kernel import coder
from farshore.delta.matrices import encode_values, split_planes
from farshore.delta.planning import Plan, frames_of, make_plan, rest_frames
from farshore.formats import SegmentMap, segment

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MEMORY = {"fast": 64, "default": 64, "max": 64}
TRAINED = (1 << 16, 16)
"""At level max so many bytes of history, or this share of the target, may teach the model of plain bytes first. It costs a
decoder as much as decoding them."""
NANOSECONDS = 110
"""Level default: what a byte of the target may take to decode (on the machine that the figures in benchmarks are from);
what values leave of it is for plain bytes. The costs beside it are of the same machine."""
SMALL = 1 << 18
"""Targets smaller than this may take as long as one of this size."""
PER_VALUE, PER_TRAINED, PER_FULL = 60, 1000, 900
LEAST_TRAINED = 1 << 12
MOST_WHOLE = 1 << 20
"""Largest target that is also tried as plain bytes throughout."""
ZSTANDARD_LEVEL = 12
Job = Callable[[], Frame]
Progress = Callable[[int, int], None]
"""Is told bytes of the target done, and all."""


class Encoder:
    """One target, its bases, a level: plans and codes."""

    def __init__(self, target: memoryview, bases: Sequence[memoryview], level: str) -> None:
        self.target = target
        self.bases = bases
        self.level = level
        self.spare = self.others = 0

    def weigh(self, plan: Plan) -> None:
        """What a plan's values leave for plain bytes: nanoseconds, and about how many bytes they cost themselves."""
        pieces = [piece for stage in (*plan.first, plan.pieces) for piece in stage]
        self.spare = NANOSECONDS * max(len(self.target), SMALL) - PER_VALUE * sum(piece.count for piece in pieces)
        self.others = sum(piece.count * _bits(piece) // 8 for piece in pieces)

    def fetch(self, span: Span) -> memoryview:
        """Bytes of a base, or of the target."""
        data = self.target if span.source == KEPT else self.bases[span.source]
        return data[span.offset : span.offset + span.length]

    def header(self) -> Header:
        """What goes first."""
        named = [Named(len(data), hashlib.sha256(data).digest()) for data in (self.target, *self.bases)]
        return Header(LEVELS.index(self.level), named[0], tuple(named[1:]), MEMORY[self.level])

    def _frame(self, kind: Kind, table: bytes, payload: bytes, check: int, *, keep: bool = False) -> Frame:
        stored = (
            table if self.level == "fast" else pack(table)
        )  # unpacking a table costs as much as megabytes of planes
        return Frame(kind, keep, check, stored, len(table), payload)

    def copies(self, copies: tuple[Copy, ...]) -> Frame:
        """A frame of copies."""
        return self._frame(Kind.COPY, copies_table(copies), b"", self._check(copies))

    def _check(self, copies: tuple[Copy, ...], check: int = 0) -> int:
        for copy in copies:
            check = zlib.crc32(self.target[copy.offset : copy.offset + copy.span.length], check)
        return check

    def plain(
        self, ranges: tuple[tuple[int, int], ...], history: tuple[Span, ...], copies: tuple[Copy, ...], *, keep: bool
    ) -> Frame:
        """A frame of plain bytes, by the method that comes out smallest."""
        data = b"".join(self.target[offset : offset + size] for offset, size in ranges)
        before = b"".join(self.fetch(span) for span in history)
        found: list[tuple[Plain, bytes]] = []
        for method, trained in self._methods(len(before), found):
            plain = Plain(ranges, history if method != STORED else (), trained, method, copies)
            found.append((plain, data if method == STORED else _code_plain(plain, data, before)))
        plain, payload = min(found, key=lambda f: len(f[1]))
        return self._frame(Kind.BYTES, plain_table(plain), payload, self._check(copies, zlib.crc32(data)), keep=keep)

    def _methods(self, looked_back: int, found: list[tuple[Plain, bytes]]) -> Iterator[tuple[int, int]]:
        """Methods to try and bytes to train on, each told what the ones before have come to."""
        yield STORED, 0
        if self.level == "fast":
            yield ZSTANDARD, 0
        elif self.level == "max":
            yield MODELLED_FULL, 0
            if looked_back:
                yield MODELLED_FULL, min(looked_back, max(TRAINED[0], len(self.target) // TRAINED[1]))
        else:
            yield MODELLED, 0
            size = len(found[-1][1])
            spare = self.spare - PER_FULL * min(len(found[0][1]), 8 * size)
            if size > self.others // 50 and spare > 0:
                yield MODELLED_FULL, 0
                trained = min(looked_back, spare // PER_TRAINED)
                if trained >= min(looked_back, LEAST_TRAINED):
                    yield MODELLED_FULL, trained

    def values(self, pieces: tuple[Piece, ...], *, keep: bool) -> Frame:
        """A frame of values."""
        data = [self.target[piece.offset : piece.offset + piece.length] for piece in pieces]
        check = 0
        for part in data:
            check = zlib.crc32(part, check)
        if self.level == "fast":
            planes = b"".join(split_planes(piece, part, self.fetch) for piece, part in zip(pieces, data, strict=True))
            payload = zstd.compress(planes, ZSTANDARD_LEVEL)
            return self._frame(Kind.PLANES, pieces_table(pieces), payload, check, keep=keep)
        writer = coder()
        for piece, part in zip(pieces, data, strict=True):
            encode_values(writer, piece, part, self.fetch)
        return self._frame(Kind.VALUES, pieces_table(pieces), writer.finish(), check, keep=keep)

    def jobs(self, plan: Plan) -> Iterator[tuple[int, Job]]:
        """The frames to be coded, in the order of the patch, with the bytes of the target in each."""
        rest = list(rest_frames(plan.rest, plan.history))
        if plan.copies and not rest:
            yield sum(copy.span.length for copy in plan.copies), lambda: self.copies(plan.copies)
        referred = any(
            span.source == KEPT for pieces in (*plan.first, plan.pieces) for piece in pieces
            for span in (piece.source_scale, piece.target_scale) if span
        )  # fmt: skip
        keep = len(rest) == 1 and referred
        for k, (ranges, history) in enumerate(rest):
            copies = () if k else plan.copies
            yield (
                sum(size for _, size in ranges) + sum(copy.span.length for copy in copies),
                lambda r=ranges, h=history, c=copies: self.plain(r, h, c, keep=keep),  # type: ignore[misc]
            )
        for stage in plan.first:
            for pieces in frames_of(stage):
                yield sum(piece.length for piece in pieces), lambda pieces=pieces: self.values(pieces, keep=True)  # type: ignore[misc]
        if plan.again:
            yield sum(copy.span.length for copy in plan.again), lambda: self.copies(plan.again)
        for pieces in frames_of(plan.pieces):
            yield sum(piece.length for piece in pieces), lambda pieces=pieces: self.values(pieces, keep=False)  # type: ignore[misc]


def _bits(piece: Piece) -> int:
    """About what a value costs."""
    grid = GRIDS[piece.dtype]
    if grid.kind == FLOAT:
        return max(0, grid.mantissa - piece.shift + 2 + min(0, piece.scale - piece.size))
    return max(0, min(grid.bits, piece.scale + 2))


def _code_plain(plain: Plain, data: bytes, before: bytes) -> bytes:
    if plain.method == ZSTANDARD:
        return zstd.compress(data, ZSTANDARD_LEVEL, before, window_log=24, far=len(data) + len(before) > FRAME_BYTES)
    room = bytearray(before) + data
    writer = coder()
    writer.bytes(room, plain.places(), len(before), plain.trained, int(plain.method == MODELLED_FULL))
    return writer.finish()


def encode(
    target: ReadableBuffer, bases: Sequence[ReadableBuffer] = (), *, level: str = "default",
    maps: Sequence[SegmentMap] | None = None, progress: Progress | None = None, workers: int = 1,
) -> Iterator[bytes]:  # fmt: skip
    """Make a patch.

    Args:
        target: what a device is to get.
        bases: what it holds, none to :data:`MOST_BASES`; more of them only help.
        level: ``fast``, ``default`` or ``max``.
        maps: what the target and each base are made of, where the caller knows more than their bytes tell (external data of
            a model); a decoder needs none of it.
        progress: called as frames are done.
        workers: threads that code frames at the same time (the kernel lets go of the interpreter).

    Yields:
        The patch in chunks.

    Raises:
        Invalid: an unknown level, too many bases, or not as many maps.

    """
    if level not in LEVELS:
        raise Invalid(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    if len(bases) > MOST_BASES:
        raise Invalid(f"at most {MOST_BASES} bases are allowed, not {len(bases)}")
    view, views = memoryview(target).cast("B"), [memoryview(base).cast("B") for base in bases]
    encoder = Encoder(view, views, level)
    known = maps if maps is not None else [segment(data) for data in (view, *views)]
    if len(known) != 1 + len(views):
        raise Invalid(f"maps must be one for the target and one for each base, not {len(known)}")
    plan = make_plan(view, views, (known[0], known[1:]), level, encoder.fetch)
    encoder.weigh(plan)
    yield write_header(encoder.header())
    frames: Iterable[Frame] = _coded(encoder.jobs(plan), len(view), progress, workers)
    if (
        level == "max"
        and 0 < len(view) <= MOST_WHOLE
        and sum(map(len, views)) <= HISTORY_BYTES
        and _mostly_held(plan, len(view))
    ):
        whole = tuple(Span(number, 0, len(base)) for number, base in enumerate(views) if len(base))
        frames = min([[*frames], [encoder.plain(((0, len(view)),), whole, (), keep=False)]], key=_stored_size)
    for frame in frames:
        yield write_frame(frame)


def _mostly_held(plan: Plan, size: int) -> bool:
    """Whether copies make up so much that one model of plain bytes over everything may be smaller."""
    return sum(copy.span.length for copy in plan.copies) > 0.8 * size


def _stored_size(frames: Iterable[Frame]) -> int:
    return sum(len(frame.table) + len(frame.payload) + 16 for frame in frames)


def _coded(jobs: Iterable[tuple[int, Job]], total: int, progress: Progress | None, workers: int) -> Iterator[Frame]:
    done = 0
    sizes, work = [], []
    for size, job in jobs:
        sizes.append(size)
        work.append(job)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for size, frame in zip(sizes, pool.map(lambda job: job(), work), strict=True):
            done += size
            if progress:
                progress(done, total)
            yield frame
