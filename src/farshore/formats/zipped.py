"""Small files in a ZIP that may follow other bytes, as LiteRT metadata packs them behind the model.

Nothing is ever extracted to a disk, and the archive's word is not taken: names must be plain, sizes are capped before and
while unpacking, checksums are compared (PKWARE APPNOTE 6.3).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from farshore.formats.bounds import Malformed

MAX_FILES = 64
MAX_FILE = 4 << 20
"""Bytes of one packed file. ImageNet's 22 000 labels take 0.6 MB."""
MAX_TOTAL = 16 << 20

_END = struct.Struct("<4s4H2IH")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    local: int


def files(view: memoryview) -> dict[str, bytes]:
    """The files of the ZIP that ends ``view``; none if there is no ZIP.

    Args:
        view: any bytes, perhaps with a ZIP at their end.

    Raises:
        Malformed: there is a ZIP, but it is broken, encrypted, split, larger than the limits, or holds names that are not
            plain.

    """
    found = _end(view)
    if found is None:
        return {}
    count, size, offset, at = found
    base = at - size - offset  # some writers count from the file's first byte, some from the archive's
    if count > MAX_FILES or base < 0:
        raise Malformed("a ZIP with too many files or impossible offsets")
    contents: dict[str, bytes] = {}
    position, left = at - size, MAX_TOTAL
    for _ in range(count):
        member, position = _entry(view, position, at)
        if member.name in contents:
            raise Malformed("a ZIP with two files of one name")
        contents[member.name] = _content(view, member, base, min(left, MAX_FILE))
        left -= len(contents[member.name])
    return contents


def _end(view: memoryview) -> tuple[int, int, int, int] | None:
    """Entries, size and offset of the central directory, and where its end record stands."""
    tail = bytes(view[-(_END.size + 0xFFFF) :])
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        if at + _END.size <= len(tail):
            _, disk, start, here, count, size, offset, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment == len(tail):
                position = len(view) - len(tail) + at
                if disk or start or here != count or 0xFFFF_FFFF in {size, offset} or size > position:
                    raise Malformed("a ZIP that is split or of the 64-bit kind")
                return count, size, offset, position
        at = tail.rfind(b"PK\5\6", 0, at)
    return None


def _entry(view: memoryview, position: int, end: int) -> tuple[_Member, int]:
    if position + _ENTRY.size > end:
        raise Malformed("a ZIP whose directory is cut")
    magic, _, _, flags, method, _, _, crc, packed, size, name, extra, comment, *_, local = _ENTRY.unpack_from(
        view, position
    )
    text = position + _ENTRY.size
    if magic != b"PK\1\2" or text + name + extra + comment > end:
        raise Malformed("a ZIP whose directory is broken")
    try:
        plain = str(view[text : text + name], "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("a ZIP with a name that is not UTF-8") from error
    if not plain or plain.startswith(".") or any(sign in plain for sign in "/\\\0"):
        raise Malformed("a ZIP with a name that is not plain")
    return _Member(plain, method, flags, crc, packed, size, local), text + name + extra + comment


def _content(view: memoryview, member: _Member, base: int, limit: int) -> bytes:
    start = base + member.local
    if member.size > limit or member.flags & 1 or start + _LOCAL.size > len(view):
        raise Malformed("a ZIP with a file that is encrypted, cut or too large")
    magic, *_, name, extra = _LOCAL.unpack_from(view, start)
    start += _LOCAL.size + name + extra
    if magic != b"PK\3\4" or start + member.packed > len(view):
        raise Malformed("a ZIP with a file that is cut")
    packed = view[start : start + member.packed]
    if member.method == 0:
        content = bytes(packed[: limit + 1])
    elif member.method == 8:
        try:
            content = zlib.decompressobj(-15).decompress(packed, member.size + 1)
        except zlib.error as error:
            raise Malformed("a ZIP with a file that does not unpack") from error
    else:
        raise Malformed("a ZIP with a file packed in an unknown way")
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise Malformed("a ZIP with a file that is not what its directory says")
    return content
