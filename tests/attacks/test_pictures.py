"""Pictures that mean harm: whatever comes, a 4xx or an answer, at once, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import random
import resource
import struct
import time
import zlib

import pytest
from PIL import Image

from farshore.core.errors import FarshoreError, Invalid
from farshore.serve import pictures

LIMIT = 40_000_000


def photo(kind: str, size: tuple[int, int] = (96, 64), **options: object) -> bytes:
    image = Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 40)
    out = io.BytesIO()
    Image.merge("RGB", (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image)).save(out, kind, **options)
    return out.getvalue()


def png(width: int, height: int, idat: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A real JPEG whose header is made to say another size."""
    data = bytearray(photo("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(photo("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def refusal(data: bytes) -> FarshoreError:
    """The error that ``data`` gets; it must be one, and a 4xx."""
    with pytest.raises(FarshoreError) as caught:
        pictures.decode(data, pictures.read_head(data, LIMIT))
    assert 400 <= caught.value.status < 500
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


NOT_TAKEN = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"hello, world" * 100,
    "HTML": b"<html><img src=x></html>",
    "JPEG signature alone": b"\xff\xd8\xff",
    "PNG signature alone": b"\x89PNG\r\n\x1a\n",
    "BMP signature alone": b"BM",
    "GIF": b"GIF89a" + bytes(100),
    "WebP": b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(100),
    "TIFF": b"II*\x00" + bytes(100),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file",
    "ZIP": b"PK\x03\x04" + bytes(100),
    "truncated JPEG": photo("JPEG")[:-600],
    "truncated PNG": photo("PNG")[:-600],
    "truncated BMP": photo("BMP")[:-600],
    "PNG without pixels": png(0, 5, b""),
    "PNG with a broken stream": png(10, 10, b"nonsense"),
    "BMP of negative width": bmp_of_size(-96, 64),
    "JPEG without pixels": jpeg_of_size(0, 0),
}


@pytest.mark.parametrize("data", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_what_is_no_picture_is_refused_with_a_reason(data: bytes) -> None:
    refusal(data)


GIANTS = {
    "JPEG": jpeg_of_size(60_000, 60_000),
    "PNG": png(60_000, 60_000, zlib.compress(bytes(1 << 20))),
    "BMP": bmp_of_size(60_000, 60_000),
    "BMP upside down": bmp_of_size(60_000, -60_000),
    "PNG of the largest sides": png(0x7FFFFFFF, 0x7FFFFFFF, b""),
    "BMP of the smallest side": bmp_of_size(1, -(1 << 31)),
    "a line": png(1, 1 << 31, b""),
}


@pytest.mark.parametrize("data", GIANTS.values(), ids=GIANTS.keys())
def test_giants_are_refused_by_their_header(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    error = refusal(data)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    if data != GIANTS["PNG of the largest sides"]:
        assert error.code in {"too_large", "invalid"}
        assert "pixels" in error.message


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = photo("JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    refusal(data[:at] + data[at:-2] * 1000 + b"\xff\xd9")


def test_a_text_bomb_in_a_png_is_refused_or_ignored() -> None:
    body = b"comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    plain = photo("PNG")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = plain[:33] + chunk + plain[33:]
    with contextlib.suppress(Invalid):
        pictures.decode(data, pictures.read_head(data, LIMIT))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 96 << 10


SEEDS = [
    photo("JPEG"), photo("JPEG", progressive=True), photo("JPEG", quality=30, subsampling=2), photo("PNG"), photo("BMP"),
    photo("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
]  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` with bytes flipped, cut out, doubled or replaced, mostly near its head, where meaning is dense."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(min(len(changed), 700) if chance.random() < 0.7 else len(changed))
        match chance.randrange(5):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                del changed[at : at + chance.randrange(1, 64)]
            case 3:
                changed[at:at] = changed[at : at + chance.randrange(1, 64)]
            case _:
                changed[at : at + 4] = struct.pack(">I", chance.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)))
        if not changed:
            return b""
    return bytes(changed)


def harm(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    refused = 0
    for _ in range(rounds):
        data = mutated(chance.choice(SEEDS), chance)
        try:
            head = pictures.read_head(data, LIMIT)
            pixels = pictures.decode(data, head, (16, 16))
        except Invalid:  # 400, or 413: nothing else may come out
            refused += 1
        else:
            assert pixels.ndim == 3
            assert pixels.shape[2] == 4
    assert 0 < refused < rounds


def test_a_thousand_mutated_pictures() -> None:
    harm(1000, 1)


@pytest.mark.deep
def test_ten_thousand_mutated_pictures() -> None:
    harm(10_000, 2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20
