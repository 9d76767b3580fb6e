"""Which way up, how large, which colours: against pictures whose right pixels are known."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from farshore.core.errors import Invalid, TooLarge
from farshore.serve import pictures

ANY = 1 << 40


def scene(width: int = 48, height: int = 32) -> np.ndarray:
    """Four corners of different colours, so that every turn shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 250, 10)
    pixels[height // 2 :, : width // 2] = (10, 10, 250)
    pixels[height // 2 :, width // 2 :] = (240, 240, 240)
    return pixels


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def decoded(data: bytes, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
    head = pictures.read_head(data, ANY)
    pixels = pictures.decode(data, head, at_least)
    assert pixels.flags.c_contiguous
    return pixels[:, :, :3]


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_pixels_are_exact(kind: str) -> None:
    assert (decoded(encoded(scene(), kind)) == scene()).all()


def test_jpeg_pixels_are_near() -> None:
    data = encoded(scene(), "JPEG", quality=98, subsampling=0)
    assert np.abs(decoded(data).astype(int) - scene()).mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_other_png_modes_become_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 6), 200 << 8, np.uint16))
    else:
        image = Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    pixels = decoded(out.getvalue())
    assert pixels.shape == (4, 6, 3)
    # A palette of web colours has 204, and black and white dither.
    assert pixels.mean() == pytest.approx(200, abs=6 if mode == "P" else 60 if mode == "1" else 0)


def test_grey_and_cmyk_jpegs_become_rgb() -> None:
    for mode, colour in (("L", 90), ("CMYK", (0, 0, 0, 165))):
        out = io.BytesIO()
        Image.new(mode, (16, 16), colour).save(out, "JPEG")
        assert np.abs(decoded(out.getvalue()).astype(int) - 90).max() < 12, mode


# EXIF 2.32, tag 0x0112: what has to be done to the stored pixels so that they stand upright.
TURNS = {
    1: lambda p: p, 2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud,
    5: lambda p: np.rot90(np.fliplr(p), 1), 6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(np.fliplr(p), -1), 8: lambda p: np.rot90(p, 1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("order", ["II", "MM"])
def test_exif_orientation_of_jpegs(orientation: int, order: str) -> None:
    mark, sign = (b"II*\0", "<") if order == "II" else (b"MM\0*", ">")
    exif = b"Exif\0\0" + mark + struct.pack(sign + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    data = encoded(scene(), "JPEG", quality=98, subsampling=0, exif=exif)
    upright = TURNS[orientation](scene())
    head = pictures.read_head(data, ANY)
    assert head.orientation == orientation
    assert head.upright == upright.shape[:2]
    assert np.abs(decoded(data).astype(int) - upright).mean() < 3


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_of_pngs(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (decoded(encoded(scene(), "PNG", exif=exif)) == TURNS[orientation](scene())).all()


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0XX**\0\0\0\0"]
)
def test_broken_exif_harms_nothing(exif: bytes) -> None:
    data = encoded(scene(), "JPEG")
    block = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert pictures.read_head(data[:2] + block + data[2:], ANY).orientation == 1


def test_large_jpegs_are_decoded_smaller_but_never_too_small() -> None:
    y, x = np.mgrid[:640, :960]
    data = encoded(np.stack((x / 4, y / 3, 128 + 100 * np.sin(x / 60)), -1).astype(np.uint8), "JPEG", quality=95)
    assert decoded(data).shape[:2] == (640, 960)
    assert decoded(data, (320, 400)).shape[:2] == (640, 960)
    small = decoded(data, (70, 100))
    assert small.shape[:2] == (160, 240)
    exact = np.asarray(Image.fromarray(decoded(data)).resize((240, 160), Image.Resampling.BOX))
    assert np.abs(small.astype(int) - exact).mean() < 3


def test_what_is_broken_is_said_in_words() -> None:
    """Also where the decoder's own message is a number."""
    data = encoded(scene(), "JPEG")
    for cut in range(3, len(data) - 2, 7):
        with pytest.raises(Invalid) as caught:
            pictures.decode(data[:cut], pictures.read_head(data[:cut], ANY))
        assert caught.value.message.startswith("a broken JPEG: ")
        assert len(caught.value.message.split()) > 4
    start = data.index(b"\xff\xc0")
    odd = data[: start + 11] + b"\x99" + data[start + 12 :]  # sampling that no colour space has
    with pytest.raises(Invalid, match=r"a broken JPEG: [^-]"):
        pictures.read_head(odd, ANY)


def test_limits() -> None:
    data = encoded(scene(), "PNG")
    pictures.read_head(data, 48 * 32)
    with pytest.raises(TooLarge, match="48 × 32"):
        pictures.read_head(data, 48 * 32 - 1)
    with pytest.raises(Invalid, match="empty"):
        pictures.read_head(b"", ANY)
