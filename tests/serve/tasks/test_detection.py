"""Detectors whose graphs end in final boxes."""

from __future__ import annotations

import numpy as np
import pytest

from farshore.core.errors import Invalid, Unavailable

near = pytest.approx


def test_tflite_ssd(ask):
    outputs = {
        "boxes": [[[0.1, 0.2, 0.5, 0.6], [-0.1, 0.0, 1.2, 1.0], [0, 0, 1, 1], [0, 0, 1, 1]]],
        "classes": [[1, 0, 7, 0]],
        "scores": [[0.9, 0.95, 0.6, 0.99]],
        "count": [3],
    }
    told = ask("tflite-ssd", outputs, picture=(100, 200), labels=("cup", "jug"))["detections"]
    assert told == [
        {"class": "cup", "score": near(0.95), "box": [0, 0, 100, 200]},
        {"class": "jug", "score": near(0.9), "box": near([10, 40, 50, 120])},
        {"class": "7", "score": near(0.6), "box": [0, 0, 100, 200]},
    ]
    assert len(ask("tflite-ssd", outputs, picture=(1, 1), threshold=0.92)["detections"]) == 1
    assert len(ask("tflite-ssd", outputs, picture=(1, 1), settings={"threshold": 0.99})["detections"]) == 0
    assert len(ask("tflite-ssd", outputs, picture=(1, 1), top=2)["detections"]) == 2


def test_a_count_beyond_the_rows_and_nan_are_harmless(ask):
    outputs = {
        "boxes": [[[0, 0, 1, 1], [0, np.nan, 1, 1]]],
        "classes": [[0, 0]],
        "scores": [[0.9, 0.8]],
        "count": [1e9],
    }
    assert len(ask("tflite-ssd", outputs, picture=(10, 10))["detections"]) == 1


def test_tiny_yolov3_refuses_indices_outside(ask):
    outputs = {"boxes": [[[0, 0, 1, 1]]], "scores": [[[0.5]]], "indices": np.array([[[0, 0, 4]]], np.int32)}
    with pytest.raises(Unavailable):
        ask("tiny-yolov3", outputs, picture=(10, 10))


def test_rows_of_ultralytics_and_of_yolov7(ask):
    box = [
        8,
        16,
        32,
        48,
    ]  # left, top, right, bottom in a 64×64 input; the picture is 128×256, letterboxed into 32×64 at 16
    rows = {"yolo-end-to-end": [*box, 0.8, 1], "yolov7-end-to-end": [0, *box, 1, 0.8]}
    for name, row in rows.items():
        told = ask(name, {"detections": [[row]]}, picture=(128, 256), labels=("a", "b"), resize="letterbox")
        assert told["detections"] == [{"class": "b", "score": near(0.8), "box": near([0, 32, 128, 128])}], name
    relative = ask(
        "yolo-end-to-end",
        {"detections": [[[0.5, 0.25, 1.0, 0.5, 0.8, 0]]]},
        picture=(64, 64),
        settings={"coordinates": "relative"},
    )
    assert relative["detections"][0]["box"] == near([16, 32, 32, 64])


def test_efficient_nms_and_final_rtdetr(ask):
    outputs = {"boxes": [[[10, 20, 30, 40], [0, 0, 1, 1]]], "classes": [[2, 0]], "scores": [[0.7, 0.9]], "count": [[1]]}
    told = ask("efficient-nms", outputs, picture=(128, 64))["detections"]
    assert told == [{"class": "2", "score": near(0.7), "box": near([40, 10, 80, 30])}]
    del outputs["count"]
    told = ask("rtdetr-final", outputs, picture=(128, 64), settings={"image_shape": "orig_target_sizes"})["detections"]
    assert told[1] == {"class": "2", "score": near(0.7), "box": near([20, 10, 40, 30])}


@pytest.mark.parametrize(
    "name", ["tflite-ssd", "tiny-yolov3", "efficient-nms", "yolo-end-to-end", "yolov8", "deeplab", "movenet"]
)
def test_a_missing_role_is_told_at_load(ask, name):
    with pytest.raises(Invalid, match="missing"):
        ask(name, {}, picture=(1, 1))


def test_an_unknown_decoder_is_told(ask):
    with pytest.raises(Invalid, match="no decoder 'magic'"):
        ask("magic", {}, picture=(1, 1))


def test_every_family_of_recognition_has_its_decoder():
    from farshore import formats
    from farshore.serve.tasks import DECODERS

    assert {family.decoder for family in formats.FAMILIES} == set(DECODERS)
