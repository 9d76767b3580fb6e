"""The ONNX form: Tiny YOLOv3's signature, boxes in pixels of the picture, labels in its metadata."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from export_onnx import BOXES_PER_CLASS, SAME_THING, SCORE_FLOOR, to_onnx
from measure import overlap
from network import SIDE, anchors

CLASSES = ("a", "b", "c")


@pytest.fixture
def model(random_weights):
    return to_onnx(random_weights(len(CLASSES), seed=1), CLASSES, "test")


def answer(model, height, width):
    pixels = np.random.default_rng(2).random((1, 3, SIDE, SIDE), np.float32)
    session = onnxruntime.InferenceSession(model)
    return session.run(None, {"input_1": pixels, "image_shape": np.array([[height, width]], np.float32)})


def test_signature_is_tiny_yolov3s(model):
    session = onnxruntime.InferenceSession(model)
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("input_1", "tensor(float)", [1, 3, SIDE, SIDE]),
        ("image_shape", "tensor(float)", [1, 2]),
    ]
    count = len(anchors())
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("yolonms_layer_1", "tensor(float)", [1, count, 4]),
        ("yolonms_layer_1:1", "tensor(float)", [1, len(CLASSES), count]),
        ("yolonms_layer_1:2", "tensor(int32)", [1, "found", 3]),
    ]


def test_metadata_says_task_and_labels(model):
    read = onnx.load_from_string(model)
    properties = {entry.key: entry.value for entry in read.metadata_props}
    assert properties["task"] == "detection"
    assert json.loads(properties["labels"]) == list(CLASSES)
    assert read.doc_string == "test"


def test_the_same_weights_give_the_same_bytes(random_weights, model):
    assert to_onnx(random_weights(len(CLASSES), seed=1), CLASSES, "test") == model


def test_boxes_follow_the_picture_through_the_letterbox(model):
    """A square picture as large as the input has input pixels; a wide one has them moved up, then doubled."""
    square = answer(model, SIDE, SIDE)[0][0]
    wide = answer(model, SIDE, SIDE * 2)[0][0]
    inside = (square > 0).all(1) & (square < SIDE).all(1) & (wide > 0).all(1) & (wide[:, 0::2] < SIDE).all(1)
    inside &= (wide[:, 1::2] < SIDE * 2).all(1)
    assert inside.sum() > 50
    expected = (square - (SIDE / 4, 0, SIDE / 4, 0)) * 2
    assert np.allclose(wide[inside], expected[inside], atol=1e-2)
    assert wide.min() >= 0
    assert (wide.max(0) <= (SIDE, SIDE * 2, SIDE, SIDE * 2)).all()


def test_suppression_keeps_sure_boxes_of_one_class_apart(model):
    """Boxes are suppressed before they are cut off at the picture's edge, so only whole ones can be compared here."""
    boxes, scores, chosen = answer(model, SIDE, SIDE)
    assert set(chosen[0, :, 0]) == {0}
    for label in range(len(CLASSES)):
        kept = [tuple(boxes[0, box]) for _, found, box in chosen[0] if found == label]
        assert 3 < len(kept) <= BOXES_PER_CLASS
        kept = [box for box in kept if min(box) > 0 and max(box) < SIDE]
        assert all(overlap(a, b) <= SAME_THING + 1e-5 for i, a in enumerate(kept) for b in kept[:i])
    assert min(scores[0, label, box] for _, label, box in chosen[0]) > SCORE_FLOOR
