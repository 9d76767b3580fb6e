"""A patch and its bases → the target, in order, in bounded memory, or an error; never another file."""

from __future__ import annotations

import hashlib
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from farshore.core.errors import Corrupt, Invalid, TooLarge
from farshore.delta import zstd
from farshore.delta.container import (
    ENTRY,
    FRAME_BYTES,
    MAGIC,
    MOST_FRAME_HEAD,
    MOST_HEADER,
    MOST_KEPT,
    MOST_TABLE,
    WORK,
    WORK_SHARE,
    Frame,
    Header,
    Kind,
    Named,
    frame_size,
    read_frame,
    read_header,
    unpack,
)  # fmt: skip
from farshore.delta.frames import (
    KEPT,
    MODELLED,
    MODELLED_FULL,
    MOST_ENTRIES,
    STORED,
    ZSTANDARD,
    Copy,
    Piece,
    Plain,
    Span,
    read_copies,
    read_pieces,
    read_plain,
)  # fmt: skip
from farshore.delta.kernel import coder
from farshore.delta.matrices import decode_values, join_planes, planes_length

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MOST_FRAME = 2 * FRAME_BYTES + MOST_TABLE
STEP = 1 << 20
Part = tuple[int, "bytes | Span"]
"""An offset in the target, and its bytes or where a base holds them."""


class Kept:
    """Decoded bytes that later frames may refer to."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, parts: list[Part]) -> None:
        """Keep decoded parts."""
        for offset, data in parts:
            if isinstance(data, Span):
                continue  # later frames refer to the base itself
            self._size += len(data)
            if self._size > MOST_KEPT or len(self._parts) >= MOST_ENTRIES:
                raise TooLarge("patch keeps more bytes for later frames than the format allows")
            at = bisect_right(self._starts, offset)
            self._starts.insert(at, offset)
            self._parts.insert(at, data)

    def fetch(self, span: Span) -> memoryview:
        """The bytes of a span of the target; they must have been kept as one."""
        at = bisect_right(self._starts, span.offset) - 1
        if at >= 0:
            start = span.offset - self._starts[at]
            if start + span.length <= len(self._parts[at]):
                return memoryview(self._parts[at])[start : start + span.length]
        raise Invalid("patch refers to bytes of the target that it did not keep")


def decode_frame(frame: Frame, held: Held, *, twin: bool = False) -> list[Part]:
    """The parts of the target that a frame holds, checked."""
    held.spend(frame.table_size)
    numbers = unpack(frame, twin=twin)
    fetch = held.fetch
    if frame.kind is Kind.COPY:
        copies = read_copies(numbers)
        held.spend(ENTRY * len(copies))
        return _copies(copies, frame, fetch)
    if frame.kind is Kind.BYTES:
        plain = read_plain(numbers)
        held.spend(ENTRY * (len(plain.ranges) + len(plain.history) + len(plain.copies)))
        held.spend(sum(size for _, size in plain.ranges))
        return _plain(plain, frame, fetch, twin=twin)
    pieces = read_pieces(numbers)
    held.spend(sum(ENTRY + piece.length for piece in pieces))
    if frame.kind is Kind.VALUES:
        reader = coder(frame.payload, twin=twin)
        parts = [(piece.offset, decode_values(reader, piece, fetch)) for piece in pieces]
    else:
        parts = _planes(pieces, frame, fetch)
    check = 0
    for _, data in parts:
        check = zlib.crc32(data, check)
    if check != frame.check:
        raise Corrupt("a frame of the patch decodes to other bytes than it should; discard the patch")
    return list(parts)


def _copies(copies: tuple[Copy, ...], frame: Frame, fetch: Callable[[Span], memoryview], check: int = 0) -> list[Part]:
    for copy in copies:
        for start in range(0, copy.span.length, STEP):
            step = Span(copy.span.source, copy.span.offset + start, min(STEP, copy.span.length - start))
            check = zlib.crc32(fetch(step), check)
    if check != frame.check:
        raise Corrupt("a frame of the patch leads to other bytes than it should; discard the patch")
    return [(copy.offset, copy.span) for copy in copies]


def _plain(plain: Plain, frame: Frame, fetch: Callable[[Span], memoryview], *, twin: bool) -> list[Part]:
    history = b"".join(fetch(span) for span in plain.history)
    length = sum(size for _, size in plain.ranges)
    if plain.method == STORED:
        data = frame.payload
    elif plain.method == ZSTANDARD:
        data = zstd.decompress(frame.payload, length, history)
    else:
        assert plain.method in {MODELLED, MODELLED_FULL}
        room = bytearray(len(history) + length)
        room[: len(history)] = history
        coder(frame.payload, twin=twin).bytes(
            room, plain.places(), len(history), plain.trained, int(plain.method == MODELLED_FULL)
        )
        data = bytes(memoryview(room)[len(history) :])
    if len(data) != length:
        raise Corrupt("a frame of the patch holds fewer bytes than it says; discard the patch")
    parts: list[Part] = []
    at = 0
    for offset, size in plain.ranges:
        parts.append((offset, data[at : at + size]))
        at += size
    return parts + _copies(plain.copies, frame, fetch, zlib.crc32(data))


def _planes(pieces: tuple[Piece, ...], frame: Frame, fetch: Callable[[Span], memoryview]) -> list[tuple[int, bytes]]:
    length = sum(planes_length(piece) for piece in pieces)
    planes = memoryview(zstd.decompress(frame.payload, length))
    if len(planes) != length:
        raise Corrupt("a frame of the patch holds fewer bytes than it says; discard the patch")
    parts, at = [], 0
    for piece in pieces:
        size = planes_length(piece)
        parts.append((piece.offset, join_planes(piece, planes[at : at + size], fetch)))
        at += size
    return parts


class Held:
    """The bases that a patch names, what is kept of the target, and how much more of them may be read."""

    def __init__(self, header: Header, bases: Sequence[ReadableBuffer]) -> None:
        views = [memoryview(base).cast("B") for base in bases]
        self._views = [_held(named, views) for named in header.bases]
        self._left = WORK + WORK_SHARE * (header.target.size + sum(named.size for named in header.bases))
        self.kept = Kept()

    def spend(self, work: int) -> None:
        """Count work, so that a few hostile bytes cannot ask for hours of it."""
        self._left -= work
        if self._left < 0:
            raise TooLarge("patch asks for more work than the format allows for its target")

    def fetch(self, span: Span) -> memoryview:
        """The bytes of a span of a base or of what is kept."""
        self.spend(span.length)
        if span.source == KEPT:
            return self.kept.fetch(span)
        if span.source >= len(self._views):
            raise Invalid("patch refers to a base that it does not name")
        view = self._views[span.source]
        if span.offset + span.length > len(view):
            raise Invalid("patch refers to bytes beyond the end of a base")
        return view[span.offset : span.offset + span.length]


def _held(named: Named, views: list[memoryview]) -> memoryview:
    """The base a patch names, whatever the order in which the caller holds them."""
    for view in views:
        if len(view) == named.size and hashlib.sha256(view).digest() == named.digest:
            return view
    raise Invalid(f"patch needs a base that is not held: sha256:{named.digest.hex()} ({named.size} bytes)")


class _Ordered:
    """Parts as they come → the target from its start, hashed and counted."""

    def __init__(self, header: Header, bases: Held) -> None:
        self._header = header
        self._bases = bases
        self._waiting: dict[int, bytes | Span] = {}
        self._held = 0
        self._hash = hashlib.sha256()
        self.position = 0

    def add(self, parts: list[Part]) -> Iterator[bytes]:
        for offset, data in parts:
            length = data.length if isinstance(data, Span) else len(data)
            if offset in self._waiting or offset < self.position or offset + length > self._header.target.size:
                raise Invalid("patch holds a place of the target twice, or one outside it")
            if not length:
                continue
            self._waiting[offset] = data
            self._held += ENTRY + (0 if isinstance(data, Span) else length)
        if self._held > self._header.memory << 20:
            raise Invalid("patch needs more memory than it says")
        while (ready := self._waiting.pop(self.position, None)) is not None:
            yield from self._out(ready)

    def _out(self, data: bytes | Span) -> Iterator[bytes]:
        self._held -= ENTRY
        if isinstance(data, Span):
            for start in range(0, data.length, STEP):
                step = Span(data.source, data.offset + start, min(STEP, data.length - start))
                yield self._emit(bytes(self._bases.fetch(step)))
        else:
            self._held -= len(data)
            yield self._emit(data)

    def _emit(self, data: bytes) -> bytes:
        self._hash.update(data)
        self.position += len(data)
        return data

    def finish(self) -> None:
        if self._waiting or self.position != self._header.target.size:
            raise Corrupt("patch ends before the target is whole; fetch it again")
        if self._hash.digest() != self._header.target.digest:
            raise Corrupt("patch led to other bytes than its target; discard both")


class Stream:
    """A patch as it arrives, cut into header and frames."""

    def __init__(self, chunks: ReadableBuffer | Iterable[ReadableBuffer]) -> None:
        self._chunks = iter([chunks]) if isinstance(chunks, bytes | bytearray | memoryview) else iter(chunks)  # type: ignore[arg-type]
        self._data = bytearray()

    def _more(self) -> bool:
        for chunk in self._chunks:
            self._data += memoryview(chunk)
            return True
        return False

    def header(self) -> Header:
        """The header; raises as :func:`read_header`."""
        while True:
            try:
                header, length = read_header(bytes(memoryview(self._data)[:MOST_HEADER]))
            except Corrupt:
                if len(self._data) >= MOST_HEADER or not MAGIC.startswith(bytes(self._data[:4])) or not self._more():
                    raise
                continue
            del self._data[:length]
            return header

    def frames(self) -> Iterator[Frame]:
        """The frames, each as soon as it is whole."""
        while self._data or self._more():
            size = frame_size(bytes(memoryview(self._data)[:MOST_FRAME_HEAD]), MOST_FRAME)
            if size is None or size > len(self._data):
                if not self._more():
                    raise Corrupt("patch is cut off; fetch the rest")
                continue
            frame = read_frame(bytes(memoryview(self._data)[:size]))
            del self._data[:size]
            yield frame


def decode(
    patch: ReadableBuffer | Iterable[ReadableBuffer], bases: Sequence[ReadableBuffer], *, max_size: int = 1 << 40, max_memory: int = 256,
    workers: int = 1, twin: bool = False,
) -> Iterator[bytes]:  # fmt: skip
    """Turn bases into the target.

    Args:
        patch: the patch, whole or in chunks of any size as they arrive.
        bases: buffers held (bytes, mmap), in any order; those that the patch names must be among them.
        max_size: bytes of the largest target accepted.
        max_memory: MiB of the most memory accepted.
        workers: threads that decode frames at the same time (each takes memory of its own).
        twin: decode with the Python twin of the kernel.

    Yields:
        The target's bytes in order. Use them only after the last: the digest is checked at the end.

    Raises:
        Invalid: not a patch, of an unknown version, for bases that are not held, or over a limit.
        Corrupt: damaged, cut off, or leading to other bytes than it says.

    """
    stream = Stream(patch)
    header = stream.header()
    if header.target.size > max_size or header.memory > max_memory:
        raise TooLarge(f"patch makes {header.target.size} bytes in {header.memory} MiB of memory: more than allowed")
    held = Held(header, bases)
    ordered = _Ordered(header, held)
    for parts in _decoded(stream.frames(), held, workers, twin=twin):
        yield from ordered.add(parts)
    ordered.finish()


def _decoded(frames: Iterator[Frame], held: Held, workers: int, *, twin: bool) -> Iterator[list[Part]]:
    if workers <= 1:
        for frame in frames:
            parts = decode_frame(frame, held, twin=twin)
            if frame.keep:
                held.kept.add(parts)
            yield parts
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[list[Part]]] = deque()
        for frame in frames:
            if frame.keep:  # what follows may refer to it
                while running:
                    yield running.popleft().result()
                parts = decode_frame(frame, held, twin=twin)
                held.kept.add(parts)
                yield parts
                continue
            running.append(pool.submit(decode_frame, frame, held, twin=twin))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
