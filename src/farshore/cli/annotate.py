"""Boxes drawn on a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#b388eb", "#f79256")


def annotate(picture: bytes, detections: list[dict[str, Any]], path: Path) -> None:
    """Write ``picture`` with its detections drawn on it, each class in a colour of its own.

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
    names = sorted({found["class"] for found in detections})
    for found in detections:
        colour = COLOURS[names.index(found["class"]) % len(COLOURS)]
        top, left, bottom, right = found["box"]
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        text = f"{found['class']} {found['score']:.2f}"
        _, _, width, height = draw.textbbox((0, 0), text, font=font)
        x = max(0.0, min(left, image.width - width - 2 * line))
        y = top - height - line if top > height + line else min(bottom, image.height - height - line)
        draw.rectangle((x, y, x + width + 2 * line, y + height + line), fill=colour)
        draw.text((x + line, y), text, fill="black", font=font)
    image.save(path, quality=90)
