from __future__ import annotations

import pytest

from farshore.formats import inspect
from farshore.formats.family import Facts, find_picture


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("float32", [1, 3, 224, 160], ("NCHW", 3, 224, 160)),
        ("uint8", [1, 224, 160, 3], ("NHWC", 3, 224, 160)),
        ("float16", ["n", 1, 64, 64], ("NCHW", 1, 64, 64)),
        ("float32", ["n", 3, "h", "w"], ("NCHW", 3, None, None)),
        ("float32", ["n", "c", "h", "w"], ("NCHW", 3, None, None)),
        ("float32", [1, 4, 64, 64], None),
        ("float32", [2, 3, 64, 64], None),
        ("float32", [1, 3, 8, 8], None),
        ("int64", [1, 3, 64, 64], None),
        ("float32", [3, 64, 64], None),
    ],
)
def test_which_inputs_are_pictures(shaped, dtype, shape, expected):
    picture, why = find_picture(inspect(shaped({"x": (dtype, shape)}, {"y": ("float32", [1])})))
    assert why
    if expected is None:
        assert picture is None
    else:
        assert (picture.layout, picture.channels, picture.height, picture.width) == expected


def test_lite_models_have_their_channels_last(build_tflite):
    data = build_tflite(tensors=[("x", 0, (1, 3, 64, 3), 0, None)], inputs=[0], outputs=[0])
    assert find_picture(inspect(data))[0] is None, "three rows are no picture"


@pytest.mark.parametrize(
    ("size", "cells"), [((416, 416), 3549), ((640, 480), 6300), ((300, 300), 38 * 38 + 19 * 19 + 100)]
)
def test_grid_cells(shaped, size, cells):
    info = inspect(shaped({"x": ("float32", [1, 3, *size])}, {"y": ("float32", [1])}))
    assert Facts(info, find_picture(info)[0], ()).cells((8, 16, 32)) == cells
