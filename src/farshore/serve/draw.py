"""What was found, drawn on the picture."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from farshore.serve.frames import Drawing
from farshore.serve.pictures import Pixels

COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#b388eb", "#f79256")
_QUALITY = 90


def drawn(pixels: Pixels, members: Mapping[str, Any], kind: Drawing) -> bytes:
    """A picture with an answer drawn on it, each class in a colour of its own.

    Args:
        pixels: all of the picture's, upright.
        members: of ``/score``'s answer, whatever the task; raw ``outputs`` cannot be drawn.
        kind: how it is encoded.

    """
    height, width = pixels.shape[:2]
    image = _tinted(Image.frombytes("RGB", (width, height), pixels.tobytes(), "raw", "RGBX"), members)
    if "picture" in members:
        image = Image.open(io.BytesIO(base64.b64decode(members["picture"]["png"]))).convert("RGB")
    pen = _Pen(image)
    found = members.get("detections") or members.get("segments") or ()
    names = sorted({each["class"] for each in found})
    for each in found:
        number = names.index(each["class"])
        pen.box(each["box"], f"{legible(each['class'], number)} {each['score']:.2f}", number)
    for number, each in enumerate(members.get("poses", ())):
        pen.pose(each, number)
    if not found:
        pen.list(
            [
                f"{legible(each['class'], number)} {each.get('score', each.get('share', 0)):.2f}"
                for number, each in enumerate(members.get("classes", ()))
            ]
        )
    out = io.BytesIO()
    image.save(out, kind.upper(), **({"quality": _QUALITY} if kind == "jpeg" else {"compress_level": 1}))
    return out.getvalue()


def legible(name: str, number: int) -> str:
    """A class's name in the letters that Pillow's own font has, which are ASCII's; ``#1``, ``#2`` … where it has others.

    A font for every script would weigh more than the rest of the server. The names themselves stand in the JSON answer.

    Args:
        name: as the labels have it.
        number: the class's place among those of the picture, from 0 on, as for its colour.

    """
    plain = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    return plain if plain.strip() and plain.isascii() and plain.isprintable() else f"#{number + 1}"


class _Pen:
    """Draws in sizes that suit the picture."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._line = max(2, image.width // 240)
        self._font = ImageFont.load_default(max(11, image.width // 42))

    def box(self, box: list[float], text: str, number: int) -> None:
        """A rectangle with its name above it, or below where there is no room."""
        line, width = self._line, self._image.width
        colour = COLOURS[number % len(COLOURS)]
        top, left, bottom, right = box
        self._draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
        wide, high = self._size(text)
        x = max(0.0, min(left, width - wide - 2 * line))
        y = top - high - line if top > high + line else min(bottom, self._image.height - high - line)
        self.label(x, y, text, colour)

    def label(self, x: float, y: float, text: str, colour: str) -> None:
        """Text on a ground of that colour."""
        wide, high = self._size(text)
        self._draw.rectangle((x, y, x + wide + 2 * self._line, y + high + self._line), fill=colour)
        self._draw.text((x + self._line, y), text, fill="black", font=self._font)

    def pose(self, pose: Mapping[str, Any], number: int) -> None:
        """Points, and the box where there is one."""
        if "box" in pose:
            self.box(pose["box"], f"{pose['score']:.2f}", number)
        size = 1.5 * self._line
        for point in pose["keypoints"]:
            y, x = point["point"]
            self._draw.ellipse((x - size, y - size, x + size, y + size), fill=COLOURS[number % len(COLOURS)])

    def list(self, lines: list[str]) -> None:
        """Lines in the upper left corner."""
        y = float(self._line)
        for number, text in enumerate(lines[:10]):
            self.label(self._line, y, text, COLOURS[number % len(COLOURS)])
            y += self._size(text)[1] + 2 * self._line

    def _size(self, text: str) -> tuple[float, float]:
        _, _, wide, high = self._draw.textbbox((0, 0), text, font=self._font)
        return wide, high


def _tinted(image: Image.Image, members: Mapping[str, Any]) -> Image.Image:
    """Masks laid over the picture. Of a class map the largest class, usually the background, stays clear."""
    if "map" in members:
        classes = _spread(members["map"])
        areas = [(classes == each["number"], number) for number, each in enumerate(members["classes"][1:], 1)]
    else:
        segments = members.get("segments", ())
        names = sorted({each["class"] for each in segments})
        areas = [(_spread(each["mask"]) != 0, names.index(each["class"])) for each in segments]
    for area, number in areas:
        mask = Image.fromarray(area.astype(np.uint8) * 128).resize(image.size, Image.Resampling.NEAREST)
        image.paste(COLOURS[number % len(COLOURS)], (0, 0), mask)
    return image


def _spread(told: Mapping[str, Any]) -> NDArray[np.int64]:
    """Height, width and runs ``[value, length]`` as an array."""
    runs = np.array(told["runs"], np.int64).reshape(-1, 2)
    return np.repeat(runs[:, 0], runs[:, 1]).reshape(told["height"], told["width"])
