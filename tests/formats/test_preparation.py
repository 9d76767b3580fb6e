from __future__ import annotations

import dataclasses

import pytest

from farshore.formats import Normalisation, inspect, overrides, recognise


@pytest.fixture(scope="module")
def int8(build_tflite):
    """A LiteRT classifier of three classes with an int8 picture, and what its metadata might say."""

    def make(scale, zero, normalisation=None, dtype=9):
        data = build_tflite(
            tensors=[("x", dtype, (1, 32, 32, 3), 0, ([scale], [zero], 0)), ("y", 0, (1, 3), 0, None)],
            codes=[25], operators=[(0, [0], [1])], inputs=[0], outputs=[1],
        )  # fmt: skip
        info = inspect(data)
        return dataclasses.replace(info, normalisation={"x": normalisation} if normalisation else {})

    return make


@pytest.mark.parametrize(
    ("scale", "zero", "normalisation", "mean", "std"),
    [
        (1 / 255, -128, None, 0, 1),  # full range: −128…127
        (1 / 255, -128, Normalisation((0.0,), (255.0,)), 0, 1),
        (1 / 128, 0, Normalisation((127.5,), (127.5,)), 0, 1),
        (1 / 32, 0, Normalisation((127.5,), (63.75,)), 127.5, 63.75),  # ends at ±64: not the full range
    ],
)
def test_signed_pictures(int8, scale, zero, normalisation, mean, std):
    found = recognise(int8(scale, zero, normalisation))
    assert (found.input.mean, found.input.std) == ((mean,) * 3, (std,) * 3)


def test_unsigned_pictures_are_fed_as_they_are(int8):
    found = recognise(int8(1 / 128, 128, Normalisation((127.5,), (127.5,)), dtype=3))
    assert (found.input.mean, found.input.std) == ((0, 0, 0), (1, 1, 1))


def test_metadata_goes_before_the_family_and_the_operator_before_both(shaped):
    info = inspect(shaped({"x": ("float32", [1, 3, 416, 416])}, {"y": ("float32", [1, 3549, 85])}))
    assert recognise(info).input.std == (1, 1, 1)
    info = dataclasses.replace(
        info, normalisation={"x": Normalisation((10.0, 20.0, 30.0), (2.0,))}, colours={"x": "RGB"}
    )
    found = recognise(info)
    assert (found.input.mean, found.input.std, found.input.colour) == ((10, 20, 30), (2, 2, 2), "RGB")
    found = recognise(info, {}, overrides({"input": {"std": 5, "colour": "BGR"}}))
    assert (found.input.mean, found.input.std, found.input.colour) == ((0, 0, 0), (5, 5, 5), "BGR")


def test_an_input_is_named_where_several_could_be(shaped):
    info = inspect(
        shaped({"a": ("float32", [1, 3, 64, 64]), "b": ("float32", [1, 3, 32, 32])}, {"y": ("float32", [1, 7])})
    )
    assert recognise(info).decoder == "tensors"
    said = {"decoder": "classification", "input": {"tensor": "b", "mean": 0, "std": 255}}
    assert recognise(info, {}, overrides(said)).input.width == 32


def test_sides_too_large_to_feed_are_refused(shaped):
    from farshore.core.errors import Invalid

    info = inspect(shaped({"x": ("uint8", [1, 3, 20000, 64])}, {"y": ("float32", [1, 7])}))
    with pytest.raises(Invalid, match="at most 16384"):
        recognise(info)
