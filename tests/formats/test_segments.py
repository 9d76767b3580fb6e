from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.formats.segments import Quant, Role, Segment, cover, fitting, tensor_segment


def test_cover_fills_the_gaps_and_keeps_the_first_of_two_names():
    tensors = [
        Segment(10, 4, Role.WEIGHT, "late"),
        Segment(2, 4, Role.WEIGHT, "first"),
        Segment(2, 4, Role.BIAS, "alias"),
        Segment(4, 4, Role.BIAS, "overlapping"),
        Segment(20, 9, Role.BIAS, "outside"),
        Segment(14, 0, Role.BIAS, "empty"),
    ]
    found = cover("opaque", 16, tensors)
    assert [(s.offset, s.length, s.name) for s in found.segments] == [
        (0, 2, ""), (2, 4, "first"), (6, 4, ""), (10, 4, "late"), (14, 2, ""),
    ]  # fmt: skip


@given(
    st.integers(0, 60), st.lists(st.tuples(st.integers(0, 60), st.integers(-3, 20)).map(lambda t: Segment(*t, Role.TENSOR)))
)  # fmt: skip
def test_cover_is_exact_for_any_claims(size, claims):
    end = 0
    for part in cover("opaque", size, claims).segments:
        assert part.offset == end
        assert part.length > 0
        end += part.length
    assert end == size


@pytest.mark.parametrize(
    ("dtype", "shape", "length", "expected"),
    [
        ("float32", (2, 3), 24, ("float32", (2, 3))),
        ("int4", (3,), 2, ("int4", (3,))),
        ("float32", (2, 3), 20, ("float32", (5,))),  # sparse: fewer values than the shape says
        ("float32", (2, 3), 21, ("uint8", (21,))),
        ("int4", (3,), 7, ("uint8", (7,))),
        ("", (3,), 6, ("uint8", (6,))),
        ("float32", (-1, 3), 12, ("float32", (3,))),
        ("float32", (1 << 40, 1 << 40), 12, ("float32", (3,))),
    ],
)
def test_type_and_shape_always_give_the_length(dtype, shape, length, expected):
    part = tensor_segment(5, length, Role.WEIGHT, "t", dtype, shape, 0)
    assert (part.dtype, part.shape) == expected
    assert part.length == length


def test_axes_are_checked_and_counted_from_the_front():
    assert tensor_segment(0, 24, Role.WEIGHT, "t", "float32", (2, 3), -1).channel_axis == 1
    assert tensor_segment(0, 24, Role.WEIGHT, "t", "float32", (2, 3), 2).channel_axis is None


@pytest.mark.parametrize(
    ("quant", "shape", "fits"),
    [
        (Quant((0.5,), (0,)), (2, 3), True),
        (Quant((0.5, 0.25), (0, 1), 0), (2, 3), True),
        (Quant((0.5, 0.25), (0, 1), -2), (2, 3), True),
        (Quant((0.5, 0.25), (0, 1), 1), (2, 3), False),
        (Quant((0.5, 0.25), (0, 1), 7), (2, 3), False),
        (Quant((0.5, 0.25), (0, 1)), (2, 3), False),
        (Quant((0.5, 0.25), (0,), 0), (2, 3), False),
        (Quant((float("nan"),), (0,)), (2, 3), False),
        (Quant((float("inf"),), (0,)), (2, 3), False),
        (Quant((0.0,), (0,)), (2, 3), False),
        (Quant((), ()), (2, 3), False),
        (None, (2, 3), False),
    ],
)
def test_only_quantisation_that_fits_is_kept(quant, shape, fits):
    found = fitting(quant, shape)
    assert (found is not None) == fits
    assert found is None or found.axis is None or found.axis >= 0
