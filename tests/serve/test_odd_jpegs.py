"""JPEGs that cameras write and the standard does not know: taken if all of the picture is there, refused if a part is not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from farshore.core.errors import Invalid
from farshore.serve import odd_jpegs, pictures


def scene() -> np.ndarray:
    y, x = np.mgrid[:96, :128]
    return np.stack((x, y * 2, 128 + 100 * np.sin(x / 9)), -1).astype(np.uint8)


def encoded(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene()).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def decoded(data: bytes, least: tuple[int, int] = (0, 0)) -> np.ndarray:
    return pictures.decode(data, pictures.read_head(data, 1 << 30), least)[:, :, :3]


def scans_say(data: bytes, numbers: bytes) -> bytes:
    start = data.index(b"\xff\xda")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[: end - 3] + numbers + data[end:]


def jfif(data: bytes, major: int) -> bytes:
    at = data.index(b"JFIF\0") + 5
    return data[:at] + bytes([major, 9]) + data[at + 2 :]


Change = Callable[[bytes], bytes]
KINDS = {"baseline": {}, "restarts": {"restart_marker_blocks": 4}, "no subsampling": {"subsampling": 0}}
HARMLESS: dict[str, Change] = {
    "no end": lambda data: data[:-2],
    "half an end": lambda data: data[:-1],
    "filled up before its end": lambda data: data[:-2] + bytes(64) + data[-2:],
    "filled up behind its end": lambda data: data + bytes(4096),
    "scans of numbers that mean nothing": lambda data: scans_say(data, b"\x01\x00\x00"),
    "another revision of JFIF": lambda data: jfif(data, 9),
    "all of it": lambda data: jfif(scans_say(data, b"\x00\x00\x00"), 9)[:-2],
}
HARMED: dict[str, Change] = {
    "cut": lambda data: data[: len(data) // 2],
    "cut, and ended": lambda data: data[: len(data) // 2] + b"\xff\xd9",
    "cut by little": lambda data: data[:-12],
    "bytes lost in its middle": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 60 :],
    "cut and strange": lambda data: jfif(scans_say(data, b"\x01\x00\x00"), 9)[: len(data) // 2],
    "cut and strange, and ended": lambda data: scans_say(data, b"\x01\x00\x00")[: len(data) // 2] + b"\xff\xd9",
    "garbage in its header": lambda data: data[: data.index(b"\xff\xdb")] + b"\0\0\0" + data[data.index(b"\xff\xdb") :],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", HARMLESS)
def test_a_whole_picture_is_taken_to_the_last_pixel(kind: str, change: str) -> None:
    data = encoded(**KINDS[kind])
    odd = HARMLESS[change](data)
    assert odd != data
    assert (decoded(odd) == decoded(data)).all()
    assert (decoded(odd, (12, 16)) == decoded(data, (12, 16))).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", HARMED)
def test_a_picture_that_lacks_a_part_is_refused(kind: str, change: str) -> None:
    with pytest.raises(Invalid, match="a broken JPEG: "):
        decoded(HARMED[change](encoded(**KINDS[kind])))


def test_a_progressive_picture_without_an_end_may_lack_a_scan() -> None:
    data = encoded(progressive=True)
    with pytest.raises(Invalid, match="Premature end"):
        decoded(data[: data.rindex(b"\xff\xda")])
    with pytest.raises(Invalid, match="Premature end"):
        decoded(data[:-2])
    assert (decoded(data[:-2] + bytes(9) + data[-2:]) == decoded(data)).all()


def test_grey_pictures_and_cmyk_without_an_end() -> None:
    for mode in ("L", "CMYK"):
        out = io.BytesIO()
        Image.fromarray(scene()).convert(mode).save(out, "JPEG")
        assert (decoded(out.getvalue()[:-2]) == decoded(out.getvalue())).all()


def test_no_cut_makes_more_than_a_refusal_or_the_whole() -> None:
    """Every place where a file may end, with every mend in reach."""
    data = scans_say(encoded(), b"\x01\x00\x00")
    whole = decoded(data)
    for end in range(3, len(data), 5):
        try:
            found = decoded(data[:end])
        except Invalid:
            continue
        assert (found == whole).all(), end


def test_segments_end_with_the_first_scan_and_stay_inside() -> None:
    data = encoded(progressive=True)
    found = list(odd_jpegs.segments(data))
    assert [each.marker for each in found].count(0xDA) == 1
    assert found[-1].marker == 0xDA
    assert list(odd_jpegs.segments(b"\xff\xd8\xff\xe0\x00\x01")) == []
    assert list(odd_jpegs.segments(b"\xff\xd8")) == []
