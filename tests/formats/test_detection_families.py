"""Settings that the detection rows read from a file; the rows themselves are tried in ``test_families``."""

from __future__ import annotations

import pytest

from farshore.formats import inspect, recognise

SQUARE = {"x": ("float32", [1, 3, 640, 640])}


def settings(data: bytes) -> dict:
    return recognise(inspect(data)).settings


@pytest.mark.parametrize(("ops", "decoded"), [(["Conv"], False), (["Exp", "Mul"], True)])
def test_yolox_is_decoded_where_the_graph_has_an_exponential(shaped, ops, decoded):
    data = shaped({"x": ("float32", [1, 3, 416, 416])}, {"y": ("float32", [1, 3549, 85])}, {}, ops)
    assert settings(data)["decoded"] is decoded


@pytest.mark.parametrize(
    ("height", "width"),
    [(240, 320), (480, 640)],  # the two sizes that the face detector is published in
)
def test_priors_of_the_face_detector(shaped, height, width):
    # Its own code (vision/utils/box_utils.py): for each stride, a row of priors for every cell, rounded up.
    count = sum(
        many * -(-height // stride) * -(-width // stride) for stride, many in ((8, 3), (16, 2), (32, 2), (64, 3))
    )
    assert count in {4420, 17640}
    outputs = {"s": ("float32", [1, count, 2]), "b": ("float32", [1, count, 4])}
    found = settings(shaped({"x": ("float32", [1, 3, height, width])}, outputs, {}, ["Conv"]))
    assert (found["decoded"], found["priors"], found["variances"]) == (False, "ultra-light", [0.1, 0.2])
    assert (found["background"], found["coordinates"]) == (0, "relative")
    found = settings(shaped({"x": ("float32", [1, 3, height, width])}, outputs, {}, ["Exp", "Softmax"]))
    assert (found["decoded"], found["activation"]) == (True, "none")


def test_other_scores_and_boxes_are_asked_about(shaped):
    outputs = {"s": ("float32", [1, 1000, 3]), "b": ("float32", [1, 1000, 4])}
    found = recognise(inspect(shaped(SQUARE, outputs)), {"labels.txt": b"a\nb\nc\n"})
    asked = {question.option for question in found.questions if question.blocking}
    assert asked == {"decode.coordinates", "decode.boxes", "input.mean"}


@pytest.mark.parametrize(
    ("queries", "width", "activation", "classes"), [(100, 92, "softmax", 91), (300, 80, "sigmoid", 80)]
)
def test_detr_old_and_new(shaped, queries, width, activation, classes):
    outputs = {"logits": ("float32", [1, queries, width]), "pred_boxes": ("float32", [1, queries, 4])}
    found = recognise(inspect(shaped(SQUARE, outputs)), {"labels.txt": b"name\n" * classes})
    assert found.settings["activation"] == activation
    assert found.labels.skip == 0
    assert found.pipeline()


def test_lite_exports_give_fractions(build_tflite):
    data = build_tflite(
        tensors=[("x", 0, (1, 640, 640, 3), 0, None), ("y", 0, (1, 84, 8400), 0, None)],
        codes=[9], operators=[(0, [0], [1])], inputs=[0], outputs=[1],
    )  # fmt: skip
    found = recognise(inspect(data))
    assert (found.decoder, found.settings["coordinates"], found.input.layout) == ("yolov8", "relative", "NHWC")


def test_heads_of_any_layout_name_their_strides(shaped):
    for layout, shape in (
        ("CHW", (255, 20, 20)),
        ("HWC", (20, 20, 255)),
        ("HWAC", (20, 20, 3, 85)),
        ("AHWC", (3, 20, 20, 85)),
    ):
        big = tuple(side * 2 if side == 20 else side for side in shape)
        data = shaped(SQUARE, {"a": ("float32", [1, *shape]), "b": ("float32", [1, *big])})
        found = recognise(inspect(data))
        assert (found.decoder, found.settings["layout"], found.settings["strides"]) == ("yolo-heads", layout, [16, 32])
        assert found.outputs == {"head16": "b", "head32": "a"}
