"""Where a picture lies in the tensor, and with which numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.core.manifest import PictureInput, Tensor
from farshore.serve.prepare import Placement, Preparer, place


def spec(**more):
    return PictureInput("x", **{"layout": "NHWC", "width": 8, "height": 4, **more})


def prepared(spec, dtype, colour, picture=(4, 8), **quantised):
    pixels = np.zeros((*picture, 4), np.uint8)
    pixels[..., :3] = colour
    preparer, where = Preparer(spec, Tensor("x", dtype, (1, "?", "?", 3), **quantised)), place(spec, picture)
    return preparer.tensor(preparer.resized(pixels, where), where)


PLACES = [
    ("stretch", (100, 300), Placement((100, 300), (4, 8), 0, 0, 4, 8)),
    ("letterbox", (100, 100), Placement((100, 100), (4, 8), 0, 2, 4, 4)),
    ("letterbox", (100, 400), Placement((100, 400), (4, 8), 1, 0, 2, 8)),
    ("letterbox-corner", (100, 100), Placement((100, 100), (4, 8), 0, 0, 4, 4)),
    ("letterbox", (1, 10_000), Placement((1, 10_000), (4, 8), 1, 0, 1, 8)),
]


@pytest.mark.parametrize(("resize", "picture", "expected"), PLACES)
def test_places(resize, picture, expected):
    assert place(spec(resize=resize), picture) == expected


def test_boxes_and_points_find_their_way_back():
    where = place(spec(width=100, height=100, resize="letterbox"), (50, 200))  # 25 rows in the middle, from 37
    assert where.top == 37
    boxes = where.boxes(np.array([[37, 0, 62, 100], [40, 10, 45, 60], [0, -10, 200, 300]]))
    assert boxes.tolist() == [[0, 0, 50, 200], [6, 20, 16, 120], [0, 0, 50, 200]]
    assert where.points(np.array([[37, 50], [62, 110]])).tolist() == [[0, 100], [50, 220]]


@given(
    st.sampled_from(["stretch", "letterbox", "letterbox-corner"]),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
)
def test_a_placement_lies_inside_and_its_frame_is_the_whole_picture(resize, picture, size):
    where = place(spec(height=size[0], width=size[1], resize=resize), picture)
    assert where.top >= 0
    assert where.left >= 0
    assert 1 <= where.height <= size[0] - where.top
    assert 1 <= where.width <= size[1] - where.left
    frame = [[where.top, where.left, where.top + where.height, where.left + where.width]]
    assert where.boxes(np.array(frame))[0] == pytest.approx([0, 0, *picture])


def test_bytes_are_passed_as_they_are():
    tensor = prepared(spec(), "uint8", (1, 2, 3))
    assert tensor.dtype == np.uint8
    assert tensor.shape == (1, 4, 8, 3)
    assert (tensor == [1, 2, 3]).all()


def test_floats_are_normalised_in_the_tensors_colour_order():
    tensor = prepared(
        spec(layout="NCHW", colour="BGR", mean=(3.0, 2.0, 1.0), std=(1.0, 2.0, 4.0)), "float32", (9, 6, 3)
    )
    assert tensor.shape == (1, 3, 4, 8)
    assert tensor.dtype == np.float32
    assert [tensor[0, c].mean() for c in range(3)] == [0, 2, 2]
    half = prepared(spec(std=(255.0,) * 3), "float16", (255, 0, 255))
    assert half.dtype == np.float16
    assert half[0, 0, 0].tolist() == [1, 0, 1]


def test_signed_bytes():
    assert (prepared(spec(), "int8", (0, 128, 255))[0, 0, 0] == [-128, 0, 127]).all()
    # Quantised −1…1: real = (value − 127.5) / 127.5 = scale × (stored − zero).
    quantised = spec(mean=(127.5,) * 3, std=(127.5,) * 3)
    tensor = prepared(quantised, "int8", (0, 128, 255), scale=0.01, zero_point=5)
    assert tensor[0, 0, 0].tolist() == [-95, 5, 105]


def test_grey_is_luma():
    tensor = prepared(spec(colour="GRAY", mean=(0.0,), std=(1.0,)), "float32", (255, 0, 0))
    assert tensor.shape == (1, 4, 8, 1)
    assert np.unique(tensor).tolist() == [76]


def test_what_is_left_of_a_letterbox_is_filled():
    tensor = prepared(spec(resize="letterbox", pad=114), "uint8", (9, 9, 9), picture=(4, 4))
    assert np.unique(tensor[0, :, 2:6]).tolist() == [9]
    assert np.unique(np.concatenate((tensor[0, :, :2], tensor[0, :, 6:]))).tolist() == [114]


@pytest.mark.parametrize(
    ("wrong", "dtype"), [({"std": (0.0,) * 3}, "float32"), ({"mean": (1.0, 2.0)}, "float32"), ({}, "int64")]
)
def test_what_cannot_be_fed_is_refused(wrong, dtype):
    with pytest.raises(Invalid):
        prepared(spec(**wrong), dtype, (0, 0, 0))
