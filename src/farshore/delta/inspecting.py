"""What a patch says about itself, without its bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from farshore.delta.container import LEVELS, Frame, Kind, unpack
from farshore.delta.decoder import Held, Stream, decode_frame
from farshore.delta.frames import NOTHING, Piece, read_copies, read_pieces, read_plain
from farshore.delta.grids import GRIDS
from farshore.delta.kernel import coder
from farshore.delta.matrices import decode_values

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FRAME_HEAD = 16
"""Bytes of a frame before its table, about."""

AHEAD = 8
"""Bytes that a decoder reads before its first decision."""


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A range of the target in a frame.

    Attributes:
        offset, length: in the target.
        how: ``copy``, ``bytes``, ``values`` or ``planes``.
        what: number format and matrix shape of values, else "".
        based: whether a base helps.
        source: number format of the base's tensor that lets expect the values, "" if none does.
        near: how near it lets expect them: log2 of the values' magnitude over that of the misses.
        zeros: whether zeros among the values are told apart, as after pruning.
        cost: bytes of the patch that it takes; within a frame shared out by length where nothing better is known.

    """

    offset: int
    length: int
    how: str
    what: str = ""
    based: bool = False
    source: str = ""
    near: int = 0
    zeros: bool = False
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """A frame: what it costs, and what it holds.

    Attributes:
        kind: ``copy``, ``bytes``, ``values`` or ``planes``.
        size: bytes in the patch.
        target_bytes: bytes of the target.
        parts: ranges, as coded.

    """

    kind: str
    size: int
    target_bytes: int
    parts: tuple[PartInfo, ...]


@dataclass(frozen=True, slots=True)
class PatchInfo:
    """A patch.

    Attributes:
        level: ``fast``, ``default`` or ``max``.
        target_size, target_digest: what comes out (SHA-256, hex).
        bases: (size, SHA-256 hex) of what has to be held.
        memory: MiB that a decoder needs at most.
        size: bytes of the patch.
        frames: in order.
        exact: whether each matrix of values was decoded, so that its cost is what the coder spent on it.

    """

    level: str
    target_size: int
    target_digest: str
    bases: tuple[tuple[int, str], ...]
    memory: int
    size: int
    frames: tuple[FrameInfo, ...]
    exact: bool = False


def info(patch: ReadableBuffer, bases: Sequence[ReadableBuffer] | None = None) -> PatchInfo:
    """Read a patch's header and tables; with its bases at hand also what each matrix of values costs, which takes as long as
    applying it.

    Args:
        patch: the whole.
        bases: buffers held, in any order; None to look at the patch alone.

    Raises:
        Invalid: not a patch, of an unknown version, or for bases that are not held.
        Corrupt: damaged or cut off.

    """
    data = memoryview(patch).cast("B")
    stream = Stream(data)
    header = stream.header()
    held = None if bases is None else Held(header, bases)
    frames = []
    for frame in stream.frames():
        numbers = unpack(frame)
        how = frame.kind.name.lower()
        if frame.kind is Kind.COPY:
            parts = [PartInfo(c.offset, c.span.length, how, based=True) for c in read_copies(numbers)]
        elif frame.kind is Kind.BYTES:
            plain = read_plain(numbers)
            parts = [PartInfo(offset, size, how, based=bool(plain.history)) for offset, size in plain.ranges]
            parts += [PartInfo(c.offset, c.span.length, "copy", based=True) for c in plain.copies]
        else:
            parts = [_matrix(piece, how) for piece in read_pieces(numbers)]
        size = len(frame.table) + len(frame.payload) + FRAME_HEAD
        shares = _lengths(parts) if held is None else _spent(frame, held, parts)
        parts = [replace(part, cost=cost) for part, cost in zip(parts, _shared(frame, shares), strict=True)]
        frames.append(FrameInfo(how, size, sum(part.length for part in parts), tuple(parts)))
    needed = tuple((named.size, named.digest.hex()) for named in header.bases)
    return PatchInfo(
        LEVELS[header.level],
        header.target.size,
        header.target.digest.hex(),
        needed,
        header.memory,
        len(data),
        tuple(frames),
        held is not None,
    )


def _shared(frame: Frame, shares: Sequence[float]) -> list[float]:
    """A frame's bytes: the payload by the shares, head and table to all entries alike."""
    whole, each = sum(shares) or 1, (len(frame.table) + FRAME_HEAD) / max(len(shares), 1)
    return [each + len(frame.payload) * share / whole for share in shares]


def _spent(frame: Frame, held: Held, parts: Sequence[PartInfo]) -> list[float]:
    """What of the payload went into each part; decodes what tells it, and what later frames refer to."""
    if frame.kind is Kind.VALUES:
        return _spent_on_values(frame, held)
    if frame.keep:
        held.kept.add(decode_frame(frame, held))
    return _lengths(parts)


def _lengths(parts: Sequence[PartInfo]) -> list[float]:
    return [0.0 if part.how == "copy" else float(part.length) for part in parts]


def _spent_on_values(frame: Frame, held: Held) -> list[float]:
    reader, made, spent, before = coder(frame.payload), [], [], AHEAD
    for piece in read_pieces(unpack(frame)):
        made.append((piece.offset, decode_values(reader, piece, held.fetch)))
        spent.append(float(max(reader.size - before, 0)))
        before = reader.size
    if frame.keep:
        held.kept.add(list(made))
    return spent


def _matrix(piece: Piece, how: str) -> PartInfo:
    what, based = f"{GRIDS[piece.dtype].name} {piece.rows}x{piece.cols}", piece.source != NOTHING
    if not based:
        return PartInfo(piece.offset, piece.length, how, what, zeros=bool(piece.flags & 2))
    source, near = GRIDS[piece.source_dtype].name, piece.size - piece.scale
    return PartInfo(piece.offset, piece.length, how, what, True, source, near, bool(piece.flags & 2))
