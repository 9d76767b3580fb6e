"""The frame of a patch: header, frames, tables of numbers. Everything is bounded here before it costs anything.

The format is docs/formats/patch.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from farshore.core.errors import Corrupt, Invalid, TooLarge
from farshore.delta.kernel import coder

MAGIC = b"FSPT"
VERSION = 1
LEVELS = ("fast", "default", "max")
MOST_BASES = 16
MOST_TABLE = 1 << 20
MOST_HEADER = 2048
FRAME_BYTES = 1 << 23
"""Most bytes of the target in one frame that is not a copy."""
HISTORY_BYTES = 1 << 23
"""Most bytes that a frame of plain bytes may look back on."""
MOST_KEPT = 1 << 24
"""Most bytes of the target that stay at hand for later frames."""
WORK, WORK_SHARE, ENTRY = 1 << 20, 16, 256
"""Most bytes that frames may read from bases and kept bytes, decode, and unpack as tables: so many, and so many times the target
and its bases. An entry of a table counts as so many bytes more, also while what it decodes to waits to be put out."""


ONE_PLACE = bytes(16)
"""For the kernel: data that stand nowhere but at their start."""


class Kind(IntEnum):
    """What a frame holds."""

    COPY = 0
    BYTES = 1
    VALUES = 2
    PLANES = 3


@dataclass(frozen=True, slots=True)
class Named:
    """Bytes by size and SHA-256."""

    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What a patch says before its first frame.

    Attributes:
        level: index into :data:`LEVELS`.
        target: what comes out.
        bases: what has to be held, in the order the frames count them.
        memory: MiB that a decoder needs at most.

    """

    level: int
    target: Named
    bases: tuple[Named, ...]
    memory: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One independently decodable piece.

    Attributes:
        kind: how it is coded.
        keep: later frames may refer to its bytes.
        check: CRC-32 of what it decodes to.
        table: packed numbers.
        table_size: bytes of the numbers unpacked.
        payload: coded bytes.

    """

    kind: Kind
    keep: bool
    check: int
    table: bytes
    table_size: int
    payload: bytes


# ---- numbers -----------------------------------------------------------------------------------------------------


def put(out: bytearray, number: int) -> None:
    """Append a non-negative number, seven bits a byte, least first."""
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


class Reader:
    """Numbers out of bytes; raises :class:`Corrupt` beyond the end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        """The next number below 2^63."""
        number = shift = 0
        while True:
            if self.at >= len(self.data) or shift > 56:
                raise Corrupt("patch is damaged: a number runs past its end; fetch it again")
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self.data) - self.at:
            raise Corrupt("patch is damaged: it ends too early; fetch it again")
        self.at += size
        return bytes(self.data[self.at - size : self.at])


def signed(number: int) -> int:
    """Undo :func:`zigzag`."""
    return number >> 1 if not number & 1 else -((number + 1) >> 1)


def zigzag(number: int) -> int:
    """A signed number as a non-negative one, small ones small."""
    return number << 1 if number >= 0 else -number * 2 - 1


def write_columns(columns: Sequence[Sequence[int]]) -> bytes:
    """Columns of equal length; a constant one takes one number."""
    rows = len(columns[0])
    out = bytearray()
    put(out, rows)
    for column in columns:
        constant = rows > 0 and all(number == column[0] for number in column)
        out.append(constant)
        for number in column[:1] if constant else column:
            put(out, zigzag(number))
    return bytes(out)


def read_columns(reader: Reader, count: int, most: int) -> list[list[int]]:
    """The opposite of :func:`write_columns`; at most ``most`` rows."""
    rows = reader.number()
    if rows > most:
        raise Invalid("patch has more entries in a table than the format allows")
    columns = []
    for _ in range(count):
        if reader.take(1)[0]:
            columns.append([signed(reader.number())] * rows)
        else:
            columns.append([signed(reader.number()) for _ in range(rows)])
    return columns


def pack(table: bytes) -> bytes:
    """A table as stored: modelled as plain bytes, or as it is if that is not larger."""
    data = bytearray(table)
    writer = coder()
    writer.bytes(data, ONE_PLACE, 0, 0, 1)
    packed = writer.finish()
    return packed if len(packed) < len(table) else table


def unpack(frame: Frame, *, twin: bool = False) -> Reader:
    """The numbers of a frame's table."""
    if len(frame.table) == frame.table_size:
        return Reader(frame.table)
    data = bytearray(frame.table_size)
    coder(frame.table, twin=twin).bytes(data, ONE_PLACE, 0, 0, 1)
    return Reader(data)


# ---- header and frames -------------------------------------------------------------------------------------------


def write_header(header: Header) -> bytes:
    """The first bytes of a patch."""
    out = bytearray(MAGIC)
    out.append(VERSION)
    out.append(header.level)
    put(out, header.memory)
    put(out, len(header.bases))
    for named in (header.target, *header.bases):
        put(out, named.size)
        out += named.digest
    return bytes(out + zlib.crc32(out).to_bytes(4, "little"))


def read_header(data: bytes | memoryview) -> tuple[Header, int]:
    """A header and its length.

    Raises:
        Invalid: not a patch, or one of a version that this code does not know.
        Corrupt: damaged, or too short (the caller may have more).

    """
    reader = Reader(data)
    if reader.take(4) != MAGIC:
        raise Invalid("not a Farshore patch")
    if (version := reader.take(1)[0]) != VERSION:
        raise Invalid(f"patch has format version {version}; this program knows {VERSION}: update it")
    level = reader.take(1)[0]
    memory = reader.number()
    count = reader.number()
    if count > MOST_BASES:
        raise Invalid(f"patch names {count} bases; at most {MOST_BASES} are allowed")
    names = [Named(reader.number(), reader.take(32)) for _ in range(count + 1)]
    length = reader.at
    if reader.take(4) != zlib.crc32(bytes(data[:length])).to_bytes(4, "little"):
        raise Corrupt("patch's header is damaged; fetch it again")
    if level >= len(LEVELS) or memory > 1 << 20:
        raise Invalid("patch's header holds a value out of range")
    return Header(level, names[0], tuple(names[1:]), memory), reader.at


def write_frame(frame: Frame) -> bytes:
    """A frame as stored."""
    out = bytearray([frame.kind | frame.keep << 3])
    put(out, frame.table_size)
    put(out, len(frame.table))
    put(out, len(frame.payload))
    out += frame.check.to_bytes(4, "little")
    whole = zlib.crc32(frame.payload, zlib.crc32(frame.table, zlib.crc32(out)))
    return b"".join((bytes(out), whole.to_bytes(4, "little"), frame.table, frame.payload))


MOST_FRAME_HEAD = 1 + 3 * 9 + 8


def frame_size(data: bytes | memoryview, most: int) -> int | None:
    """Bytes of the frame that starts ``data``, None if its head is not complete yet.

    Raises:
        TooLarge: the frame is longer than ``most``.

    """
    try:
        reader = Reader(data)
        reader.take(1)
        numbers = [reader.number() for _ in range(3)]
        reader.take(8)
    except Corrupt:
        if len(data) >= MOST_FRAME_HEAD:
            raise
        return None
    size = reader.at + numbers[1] + numbers[2]
    if size > most or numbers[0] > MOST_TABLE or numbers[1] > numbers[0]:
        raise TooLarge("patch holds a frame larger than the format allows")
    return size


def read_frame(data: bytes | memoryview) -> Frame:
    """The frame that fills ``data``.

    Raises:
        Corrupt: it does not match its checksum.

    """
    reader = Reader(data)
    kind = reader.take(1)[0]
    table_size, table_length, payload_length = (reader.number() for _ in range(3))
    check = int.from_bytes(reader.take(4), "little")
    head = reader.at
    whole = int.from_bytes(reader.take(4), "little")
    frame_table, payload = reader.take(table_length), reader.take(payload_length)
    if zlib.crc32(payload, zlib.crc32(frame_table, zlib.crc32(bytes(data[:head])))) != whole:
        raise Corrupt("a frame of the patch is damaged; fetch it again")
    if kind & 7 > max(Kind) or kind > 15:
        raise Invalid("patch holds a kind of frame that this program does not know: update it")
    return Frame(Kind(kind & 7), bool(kind & 8), check, frame_table, table_size, payload)
