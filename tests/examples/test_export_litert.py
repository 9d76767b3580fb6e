"""The LiteRT form: SSD MobileNet's signature; the same network as the ONNX form."""

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_litert import MOST_FOUND, to_litert
from export_onnx import to_onnx
from network import SIDE

CLASSES = ("a", "b", "c")


@pytest.fixture
def model(random_weights):
    return to_litert(random_weights(len(CLASSES), seed=1), len(CLASSES), "test")


def answer(model, pixels):
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def test_signature_is_ssd_mobilenets(model):
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (picture,) = interpreter.get_input_details()
    assert (picture["dtype"], picture["shape"].tolist()) == (np.uint8, [1, SIDE, SIDE, 3])
    assert [detail["name"] for detail in interpreter.get_output_details()] == [
        "TFLite_Detection_PostProcess", *(f"TFLite_Detection_PostProcess:{i}" for i in (1, 2, 3)),
    ]  # fmt: skip
    shapes = [output.shape for output in answer(model, np.zeros((1, SIDE, SIDE, 3), np.uint8))]
    assert shapes == [(1, MOST_FOUND, 4), (1, MOST_FOUND), (1, MOST_FOUND), (1,)]


def test_the_file_names_itself_and_aligns_its_constants(model, random_weights):
    assert model[4:8] == b"TFL3"
    kernel = random_weights(len(CLASSES), seed=1)["stem"].kernel.transpose(0, 2, 3, 1)
    assert model.index(np.ascontiguousarray(kernel).tobytes()) % 16 == 0


def test_the_same_weights_give_the_same_bytes(random_weights, model):
    assert to_litert(random_weights(len(CLASSES), seed=1), len(CLASSES), "test") == model


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_forms_answer_a_square_picture_alike(random_weights, seed):
    """Letterboxed or stretched, a square picture is the same: then only the runtimes differ."""
    weights = random_weights(len(CLASSES), seed)
    pixels = np.random.default_rng(seed).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    boxes, classes, scores, count = answer(to_litert(weights, len(CLASSES), "test"), pixels)
    session = onnxruntime.InferenceSession(to_onnx(weights, CLASSES, "test"))
    blob = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    shape = np.array([[SIDE, SIDE]], np.float32)
    all_boxes, all_scores, chosen = session.run(None, {"input_1": blob, "image_shape": shape})
    ranked = sorted(chosen[0].tolist(), key=lambda row: -all_scores[0, row[1], row[2]])[:MOST_FOUND]
    assert count[0] == len(ranked) == MOST_FOUND
    expected_scores = np.array([all_scores[0, label, box] for _, label, box in ranked])
    assert np.allclose(scores[0], expected_scores, atol=1e-5)
    apart = np.abs(np.diff(expected_scores, append=0)) > 5e-5  # equal scores may come in either order
    apart &= np.abs(np.diff(expected_scores, prepend=2)) > 5e-5
    assert apart.sum() > 3
    for i in np.flatnonzero(apart):
        _, label, box = ranked[i]
        assert classes[0, i] == label
        assert np.allclose(np.clip(boxes[0, i], 0, 1) * SIDE, all_boxes[0, box], atol=0.05)
