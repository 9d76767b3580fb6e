"""JPEGs as cameras write them: whole, and not quite as the standard has it.

libjpeg decodes a picture of which something is missing, or which is out of order, and says so in a warning; of several it tells the first
one alone. A warning that the picture lacks a part refuses it: grey stripes would be answered as if the camera had seen them. Some
warnings speak of nothing that is missing, and many cameras earn them. Their cause is mended, and the decoder asked again, so that
what it then says is of the picture itself.

Markers and segments are those of ITU-T T.81, annex B; warnings those of libjpeg's ``jerror.h``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

APP0, APP1 = 0xE0, 0xE1
_EOI, _SOS = 0xD9, 0xDA
_SEQUENTIAL = {0xC0, 0xC1}  # start of frame: baseline, extended
_END = b"\xff\xd9"

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the header: its marker, and where its content starts and ends."""

    marker: int
    start: int
    end: int


class Read(Protocol[T_co]):
    """A decoder: raises ValueError with libjpeg's first warning if ``strict``, else only where it cannot go on."""

    def __call__(self, data: bytes, *, strict: bool) -> T_co: ...


def read(decode: Read[T_co], data: bytes) -> T_co:
    """Decode, and again where all that a warning spoke of could be mended.

    Args:
        decode: what is wanted of the file.
        data: the file.

    Raises:
        ValueError: libjpeg's message: a part is missing or wrong.

    """
    for mend in (*_MENDS, None):
        try:
            return decode(data, strict=True)
        except ValueError as error:
            said = str(error)
            if _PADDED in said:
                # Noticed when everything was decoded, and nothing was said before: the rest is of no interest.
                return decode(data, strict=False)
            mended = next((mended for text, how in _MENDS if text in said and (mended := how(data)) is not None), None)
            if mend is None or mended is None or mended == data:
                raise
            data = mended
    raise AssertionError("the last round returns or raises")


def segments(data: bytes) -> Iterator[Segment]:
    """The segments of the header, the first start of scan being the last of them."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _EOI or length < 2:
            return
        yield Segment(marker, position + 4, position + 2 + length)
        if marker == _SOS:
            return
        position += 2 + length


def _with_end(data: bytes) -> bytes | None:
    """The file with an end, if that is all it can lack: with several scans, one of them may be lacking as well."""
    found = list(segments(data))
    frame = next((each for each in found if each.marker in _SEQUENTIAL), None)
    scan = found[-1] if found and found[-1].marker == _SOS else None
    if frame is None or scan is None or frame.end > len(data) or scan.end > len(data):
        return None
    whole = data[frame.start + 5] == data[scan.start]  # the only scan has all the components
    return data.removesuffix(b"\xff") + _END if whole and not data.endswith(_END) else None


def _with_usual_scans(data: bytes) -> bytes | None:
    """A sequential file whose scans say, as the standard wants it, that they hold all coefficients; there is nothing else they could."""
    found = list(segments(data))
    if not any(each.marker in _SEQUENTIAL for each in found) or found[-1].marker != _SOS:
        return None
    mended, position = bytearray(data), found[-1].start - 4
    while position >= 0:  # a stuffed byte follows every 0xff of the picture, so that this is found in no picture
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data) or end < position + 8:
            return None
        mended[end - 3 : end] = b"\x00\x3f\x00"
        position = data.find(b"\xff\xda", end)
    return bytes(mended)


def _with_known_jfif(data: bytes) -> bytes | None:
    """The file as JFIF 1.02, which all its numbers are of: what they mean never changed."""
    for each in segments(data):
        if each.marker == APP0 and data[each.start : each.start + 5] == b"JFIF\0" and each.end >= each.start + 7:
            return data[: each.start + 5] + b"\x01\x02" + data[each.start + 7 :]
    return None


_PADDED = "before marker 0xd9"
_MENDS = (
    ("Premature end of JPEG file", _with_end),
    ("Invalid SOS parameters for sequential", _with_usual_scans),
    ("unknown JFIF revision", _with_known_jfif),
)
