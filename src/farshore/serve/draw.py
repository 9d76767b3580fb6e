"""What was found, drawn on the picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from farshore.serve.frames import Drawing
from farshore.serve.pictures import Pixels

COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#b388eb", "#f79256")
_QUALITY = 90


def drawn(pixels: Pixels, members: Mapping[str, Any], kind: Drawing) -> bytes:
    """A picture with an answer drawn on it, each class in a colour of its own.

    Args:
        pixels: H×W×3, uint8, RGB, upright.
        members: of ``/score``'s answer: ``detections``, ``poses``, ``classes`` with or without ``map``; others are left out.
        kind: how it is encoded.

    """
    image = Image.fromarray(pixels)
    if "map" in members:
        image = _tinted(image, members)
    pen = _Pen(image)
    found = members.get("detections", ())
    names = sorted({each["class"] for each in found})
    for each in found:
        pen.box(each["box"], f"{each['class']} {each['score']:.2f}", names.index(each["class"]))
    for number, each in enumerate(members.get("poses", ())):
        pen.pose(each, number)
    if not found and "poses" not in members:
        pen.list(
            [f"{each['class']} {each.get('score', each.get('share', 0)):.2f}" for each in members.get("classes", ())]
        )
    out = io.BytesIO()
    image.save(out, kind.upper(), **({"quality": _QUALITY} if kind == "jpeg" else {"compress_level": 1}))
    return out.getvalue()


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
    """The class map laid over the picture; the largest class, usually the background, stays clear."""
    runs = np.array(members["map"]["runs"], np.int64).reshape(-1, 2)
    classes = np.repeat(runs[:, 0], runs[:, 1]).reshape(members["map"]["height"], members["map"]["width"])
    over = np.zeros((*classes.shape, 4), np.uint8)
    for number, each in enumerate(members.get("classes", ())[1:]):
        colour = COLOURS[(number + 1) % len(COLOURS)]
        over[classes == each["number"]] = (*bytes.fromhex(colour[1:]), 128)
    layer = Image.fromarray(over).resize(image.size, Image.Resampling.NEAREST)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")
