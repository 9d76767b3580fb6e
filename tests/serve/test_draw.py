"""What was found, drawn where it was found."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from farshore.serve import pictures
from farshore.serve.draw import COLOURS, drawn, legible

from .conftest import Client, Device, picture, serve


def black(width: int = 200, height: int = 100) -> np.ndarray:
    data = picture((0, 0, 0), (width, height))
    return pictures.decode(data, pictures.read_head(data, 1 << 20))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def colour(image: Image.Image, x: int, y: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*image.getpixel((x, y)))


def test_boxes_stand_where_they_should_and_text_stays_inside() -> None:
    found = [
        {"class": "ship", "score": 0.5, "box": [40, 20, 80, 60]},
        {"class": "buoy", "score": 0.9, "box": [0, 190, 99, 199]},
    ]
    image = opened(drawn(black(), {"detections": found}, "png"))
    assert image.size == (200, 100)
    for one, expected in zip(found, (COLOURS[1], COLOURS[0]), strict=True):
        top, left, bottom, _ = one["box"]
        assert colour(image, left, (top + bottom) // 2) == expected
    assert colour(image, 40, 60) == "#000000"


def test_points_lists_masks_and_pictures() -> None:
    pose = {"score": 0.5, "keypoints": [{"name": "nose", "score": 1, "point": [50, 100]}]}
    assert colour(opened(drawn(black(), {"poses": [pose]}, "png")), 100, 50) == COLOURS[0]
    listed = opened(drawn(black(), {"classes": [{"class": "cat", "score": 0.9}]}, "png"))
    assert colour(listed, 3, 3) == COLOURS[0]
    mask = {"height": 1, "width": 2, "runs": [[0, 1], [1, 1]]}
    segment = {"class": "cat", "score": 0.9, "box": [0, 100, 100, 200], "mask": mask}
    half = [int(COLOURS[0][place : place + 2], 16) / 2 for place in (1, 3, 5)]
    image = opened(drawn(black(), {"segments": [segment]}, "png"))
    assert image.getpixel((150, 60)) == pytest.approx(half, abs=2)
    assert colour(image, 50, 60) == "#000000"
    both = {
        "map": mask,
        "classes": [{"class": "sky", "number": 0, "share": 0.5}, {"class": "sea", "number": 1, "share": 0.5}],
    }
    image = opened(drawn(black(), both, "png"))
    assert colour(image, 50, 90) == "#000000", "the largest class stays clear"
    assert colour(image, 150, 90) != "#000000"
    png = base64.b64encode(picture((1, 2, 3), (7, 5))).decode()
    image = opened(drawn(black(), {"picture": {"height": 5, "width": 7, "png": png}}, "png"))
    assert (image.size, colour(image, 3, 3)) == ((7, 5), "#010203")
    assert opened(drawn(black(), {"outputs": {}}, "jpeg")).size == (200, 100)


def test_accept_asks_for_it(device: Device) -> None:
    digest = device.colours(4, activate=True)
    sent = picture((255, 51, 0), (320, 200))

    async def main(client: Client) -> None:
        await client.ready()
        for accept, kind in (
            ("image/jpeg", "image/jpeg"), ("image/png", "image/png"), ("image/*", "image/jpeg"), ("*/*", "application/json"),
            ("application/json, image/png;q=0.5", "application/json"), ("text/html, image/png;q=0.9, */*;q=0.1", "image/png"),
            ("image/png;q=0", "application/json"), ("image/png;q=x, ;;,", "application/json"),
        ):  # fmt: skip
            status, headers, body = await client.ask("POST", "/score", sent, {"Accept": accept})
            assert (status, headers["content-type"]) == (200, kind), accept
            assert (headers["x-farshore-version"], headers["x-farshore-digest"]) == ("4", digest)
            if kind != "application/json":
                image = opened(body)
                assert (image.size, image.format) == ((320, 200), kind.partition("/")[2].upper())
                assert image.getpixel((300, 190)) == pytest.approx((255, 51, 0), abs=6)
        status, headers, body = await client.ask("POST", "/score", b"nothing", {"Accept": "image/png"})
        assert (status, headers["content-type"], body["error"]["code"]) == (400, "application/json", "invalid")

    serve(device, main)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ship", "ship"),
        ("Schlüssel", "Schlussel"),
        ("città", "citta"),
        ("猫", "#3"),
        ("крест", "#3"),
        ("", "#3"),
        ("a\nb", "#3"),
    ],
)
def test_names_are_drawn_in_letters_that_the_font_has(name: str, told: str) -> None:
    assert legible(name, 2) == told


def test_a_name_that_cannot_be_drawn_is_a_number_on_the_picture() -> None:
    def text(name: str) -> bytes:
        found = [{"class": name, "score": 0.5, "box": [40, 20, 80, 60]}]
        return opened(drawn(black(), {"detections": found}, "png")).tobytes()

    assert text("猫") == text("#1") != text("#2")
    classes = [{"class": "a", "score": 0.5}, {"class": "犬", "score": 0.5}]
    spelled = [{"class": "a", "score": 0.5}, {"class": "#2", "score": 0.5}]
    one, other = (opened(drawn(black(), {"classes": each}, "png")).tobytes() for each in (classes, spelled))
    assert one == other
