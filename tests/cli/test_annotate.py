"""Boxes drawn on a picture."""

import io

from PIL import Image

from farshore.cli.annotate import COLOURS, annotate


def test_boxes_stand_where_they_should_and_text_stays_inside(tmp_path):
    blank = io.BytesIO()
    Image.new("RGB", (200, 100), "black").save(blank, "PNG")
    found = [
        {"class": "ship", "score": 0.5, "box": [40, 20, 80, 60]},
        {"class": "buoy", "score": 0.9, "box": [0, 190, 99, 199]},
    ]
    annotate(blank.getvalue(), found, tmp_path / "out.png")
    drawn = Image.open(tmp_path / "out.png")
    assert drawn.size == (200, 100)
    colours = {"buoy": COLOURS[0], "ship": COLOURS[1]}
    for one in found:
        top, left, bottom, _ = one["box"]
        assert "#{:02x}{:02x}{:02x}".format(*drawn.getpixel((left, (top + bottom) // 2))) == colours[one["class"]]
    assert drawn.getpixel((40, 60)) == (0, 0, 0)
