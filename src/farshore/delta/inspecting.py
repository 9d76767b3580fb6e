"""What a patch says about itself, without its bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from farshore.delta.container import LEVELS, Kind, unpack
from farshore.delta.decoder import Stream
from farshore.delta.frames import NOTHING, read_copies, read_pieces, read_plain
from farshore.delta.grids import GRIDS

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A range of the target in a frame.

    Attributes:
        offset, length: in the target.
        how: ``copy``, ``bytes``, ``values`` or ``planes``.
        what: number format and matrix shape of values, else "".
        based: whether a base helps.

    """

    offset: int
    length: int
    how: str
    what: str = ""
    based: bool = False


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

    """

    level: str
    target_size: int
    target_digest: str
    bases: tuple[tuple[int, str], ...]
    memory: int
    size: int
    frames: tuple[FrameInfo, ...]


def info(patch: ReadableBuffer) -> PatchInfo:
    """Read a patch's header and tables.

    Raises:
        Invalid: not a patch, or of an unknown version.
        Corrupt: damaged or cut off.

    """
    data = memoryview(patch).cast("B")
    stream = Stream(data)
    header = stream.header()
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
            parts = [
                PartInfo(p.offset, p.length, how, f"{GRIDS[p.dtype].name} {p.rows}x{p.cols}", p.source != NOTHING)
                for p in read_pieces(numbers)
            ]  # fmt: skip
        size = len(frame.table) + len(frame.payload) + 16
        frames.append(FrameInfo(how, size, sum(part.length for part in parts), tuple(parts)))
    bases = tuple((named.size, named.digest.hex()) for named in header.bases)
    return PatchInfo(
        LEVELS[header.level],
        header.target.size,
        header.target.digest.hex(),
        bases,
        header.memory,
        len(data),
        tuple(frames),
    )
