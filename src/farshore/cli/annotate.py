"""Boxes drawn on a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#b388eb", "#f79256")


def annotate(picture: bytes, detections: list[dict[str, Any]], path: Path) -> None:
    """Write ``picture`` with its detections drawn on it.

    Args:
        picture: an encoded picture.
        detections: ``class``, ``score``, ``box`` [top, left, bottom, right] in pixels.
        path: where; the ending says the format.

    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    image = ImageOps.exif_transpose(Image.open(io.BytesIO(picture))).convert("RGB")
    draw = ImageDraw.Draw(image)
    line = max(2, image.width // 240)
    font = ImageFont.load_default(max(11, image.width // 42))
    colours: dict[str, str] = {}
    for found in detections:
        colour = colours.setdefault(found["class"], COLOURS[len(colours) % len(COLOURS)])
        top, left, bottom, right = found["box"]
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        text = f"{found['class']} {found['score']:.2f}"
        box = draw.textbbox((left + line, top), text, font=font)
        draw.rectangle((box[0] - line, box[1] - 1, box[2] + line, box[3] + 1), fill=colour)
        draw.text((left + line, top), text, fill="black", font=font)
    image.save(path, quality=90)
