"""Pictures at the door: what they are, how large, which way up, and then their pixels.

Dimensions are read from the header and capped before anything is decoded. A JPEG that is far larger than what the model
wants is decoded at a smaller scale of the DCT, which costs a fraction of the time and memory.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from farshore.core.errors import Invalid, TooLarge
from farshore.serve import odd_jpegs

MAX_SCANS = 100
"""Scans of a progressive JPEG; each costs a pass over all coefficients, and ten are usual."""

SPARE = 2
"""A JPEG is decoded smaller only while it stays that many times larger than wanted: closer than that, answers would differ
from those of a whole decoding by more than quantised models differ from machine to machine."""

Pixels = NDArray[np.uint8]
"""H×W×4, contiguous: red, green, blue and a byte of padding, so that a pixel is one machine word."""

Kind = Literal["JPEG", "PNG", "BMP"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a picture's header says.

    Attributes:
        kind: its format.
        height: of the stored pixels, before EXIF's orientation is applied; ``width`` likewise.
        orientation: EXIF's 1…8; 1 is upright.

    """

    kind: Kind
    height: int
    width: int
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width as people see the picture."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_head(data: bytes, max_pixels: int) -> Head:
    """Look at the header alone.

    Args:
        data: the file.
        max_pixels: most pixels that are taken.

    Raises:
        Invalid: empty, not a JPEG, PNG or BMP, or its header is broken.
        TooLarge: more pixels than ``max_pixels``.

    """
    if not data:
        raise Invalid("no picture: the request's body is empty; send the bytes of a JPEG, PNG or BMP file")
    if data.startswith(b"\xff\xd8\xff"):
        head = _jpeg_head(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        head = _png_head(data)
    elif data.startswith(b"BM"):
        head = _bmp_head(data)
    else:
        raise Invalid("not a picture that is taken here: send the bytes of a JPEG, PNG or BMP file")
    if head.height < 1 or head.width < 1:
        raise Invalid(f"a {head.kind} without pixels ({head.width} × {head.height})")
    if head.height * head.width > max_pixels:
        raise TooLarge(f"a picture of {head.width} × {head.height} pixels; at most {max_pixels} pixels are taken")
    return head


def decode(data: bytes, head: Head, at_least: tuple[int, int] = (0, 0)) -> Pixels:
    """The pixels, upright.

    Args:
        data: the file.
        head: from :func:`read_head` of the same file.
        at_least: height and width, upright, that are wanted; a JPEG may come out smaller than it is, but not below
            ``SPARE`` times that. 0 wants every pixel.

    Raises:
        Invalid: truncated or broken.

    """
    stored = at_least[::-1] if head.orientation >= 5 else at_least
    if head.kind == "JPEG":
        return _turn(_decode_jpeg(data, stored), head.orientation)
    return _decode_pillow(data, head)


def _jpeg_head(data: bytes) -> Head:
    try:
        height, width, _, _ = odd_jpegs.read(simplejpeg.decode_jpeg_header, data)
    except KeyError:
        raise Invalid("a broken JPEG: its header ends before it says how colours are stored") from None
    except ValueError as error:
        raise Invalid(f"a broken JPEG: {_line(error)}") from None
    # Neither restart markers nor stuffed bytes look like a start of scan, so this counts scans, thumbnails included.
    if data.count(b"\xff\xda") > MAX_SCANS:
        raise Invalid(f"a JPEG of more than {MAX_SCANS} scans is not taken")
    return Head("JPEG", height, width, _orientation(data))


def _png_head(data: bytes) -> Head:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Invalid("a broken PNG: it does not start with a header")
    width, height = struct.unpack_from(">II", data, 16)
    return Head("PNG", height, width)


def _bmp_head(data: bytes) -> Head:
    if len(data) < 26:
        raise Invalid("a broken BMP: it is shorter than its header")
    size = struct.unpack_from("<I", data, 14)[0]
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return Head("BMP", abs(height), width)


def _decode_jpeg(data: bytes, at_least: tuple[int, int]) -> Pixels:
    height, width = SPARE * at_least[0], SPARE * at_least[1]
    factor = 2 if height and width else 1  # scales between whole and half are slower than whole

    def read(data: bytes, *, strict: bool = True) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, "RGBX", min_height=height, min_width=width, min_factor=factor, strict=strict
        )
        return pixels

    try:
        return odd_jpegs.read(read, data)
    except ValueError as error:
        if "colorspace" not in str(error).lower() and "color" not in str(error).lower():
            raise Invalid(f"a broken JPEG: {_line(error)}") from None
    return _open(data, "JPEG")  # CMYK: Pillow knows how to turn it into RGB


def _decode_pillow(data: bytes, head: Head) -> Pixels:
    return _open(data, head.kind, head)


def _open(data: bytes, kind: Kind, head: Head | None = None) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: the caller's limit was checked before
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                if head is not None and image.size != (head.width, head.height):
                    raise Invalid(f"a broken {kind}: two sizes are given")
                orientation = image.getexif().get(0x0112, 1) if kind == "PNG" else 1
                pixels = np.asarray(_eight_bits(image))
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise Invalid(f"a broken {kind}: {_line(error)}") from None
    return _turn(pixels, orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Eight bits; alpha is dropped, 16-bit greys keep their upper byte."""
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB").convert("RGBX")
    return image.convert("RGB").convert("RGBX")


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """``pixels`` as they should be seen (EXIF 2.32, tag 0x0112)."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.transpose(1, 0, 2)
        case 6:
            pixels = pixels[::-1].transpose(1, 0, 2)
        case 7:
            pixels = pixels[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            pixels = pixels[:, ::-1].transpose(1, 0, 2)
    return np.ascontiguousarray(pixels)


def _orientation(data: bytes) -> int:
    """EXIF's orientation in a JPEG; 1 where none can be read."""
    for segment in odd_jpegs.segments(data):
        if segment.marker == odd_jpegs.APP1 and data[segment.start : segment.start + 6] == b"Exif\0\0":
            return _tiff_orientation(data[segment.start + 6 : segment.end])
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    try:
        if order is None:
            return 1
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for index in range(min(count, 200)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * index)
            if tag == 0x0112:
                return int(value) if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass  # a broken EXIF block harms no pixel
    return 1


def _line(error: BaseException) -> str:
    """The first line of a foreign message, without its length running away."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
