"""Settings that the other rows read from a file; the rows themselves are tried in ``test_families``."""

from __future__ import annotations

import pytest

from farshore.formats import inspect, recognise


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ([1, 64, 64], "NCHW", "HW"),
        ([1, 1, 64, 64], "NCHW", "HW"),
        ([1, 64, 64, 1], "NHWC", "HW"),
    ],
)
def test_class_numbers_by_place(shaped, shape, layout, expected):
    picture = [1, 3, 64, 64] if layout == "NCHW" else [1, 64, 64, 3]
    found = recognise(inspect(shaped({"x": ("uint8", picture)}, {"y": ("int64", shape)})))
    assert (found.decoder, found.settings["layout"]) == ("deeplab", expected)


@pytest.mark.parametrize(
    ("picture", "shape", "layout"), [([1, 3, 64, 64], [1, 5, 32, 32], "CHW"), ([1, 64, 64, 3], [1, 32, 32, 5], "HWC")]
)
def test_a_number_for_each_class_by_place(shaped, picture, shape, layout):
    data = shaped({"x": ("uint8", picture)}, {"y": ("float32", shape)})
    found = recognise(inspect(data), {"labels.txt": b"background\na\nb\nc\nd\n"})
    assert (found.decoder, found.settings["layout"], found.labels.skip) == ("deeplab", layout, 0)


def test_three_channels_are_a_picture_unless_there_are_three_classes(shaped):
    data = shaped({"x": ("uint8", [1, 3, 64, 64])}, {"y": ("float32", [1, 3, 64, 64])})
    assert recognise(inspect(data)).decoder == "image-to-image"
    assert recognise(inspect(data), {"labels.txt": b"sky\nsea\nland\n"}).decoder == "deeplab"


@pytest.mark.parametrize(("op", "expected"), [("Sigmoid", [0.0, 1.0]), ("Tanh", [-1.0, 1.0]), ("Conv", [0.0, 255.0])])
def test_the_range_of_an_answered_picture(shaped, op, expected):
    data = shaped({"x": ("uint8", [1, 3, 64, 64])}, {"y": ("float32", [1, 3, 128, 128])}, {}, [op])
    assert recognise(inspect(data)).settings["range"] == expected


@pytest.mark.parametrize("shape", [[1, 10], [1, 10, 1, 1], [1, 1, 1, 10], ["n", 10]])
def test_one_number_a_class_in_any_form(shaped, shape):
    found = recognise(inspect(shaped({"x": ("uint8", [1, 3, 64, 64])}, {"y": ("float32", shape)})))
    assert (found.decoder, found.outputs) == ("classification", {"scores": "y"})


def test_scores_show_in_the_quantisation(build_tflite):
    for scale, softmax in ((1 / 256, False), (0.1, True)):
        data = build_tflite(
            tensors=[("x", 3, (1, 64, 64, 3), 0, None), ("y", 3, (1, 10), 0, ([scale], [0], 0))],
            codes=["Own"], operators=[(0, [0], [1])], inputs=[0], outputs=[1],
        )  # fmt: skip
        assert recognise(inspect(data)).settings["softmax"] is softmax


@pytest.mark.parametrize(
    ("classes", "picture", "mean"),
    [(1000, [1, 3, 224, 224], (123.675, 116.28, 103.53)), (1001, [1, 224, 224, 3], (127.5,) * 3)],
)
def test_imagenets_usual_normalisations_are_assumed_and_said_to_be(shaped, classes, picture, mean):
    found = recognise(inspect(shaped({"x": ("float32", picture)}, {"y": ("float32", [1, classes])})))
    assert found.input.mean == mean
    assert {reason.source for reason in found.reasons if reason.what == "input.mean"} == {"assumed"}
