"""Every family of models from its file to ``/score``'s answer: recognised by its exact shape, fed a picture that the camera stored
turned, read, and told in pixels of the picture as people see it.

Boxes are planted by the *inverse* of each format's definition, written here from its own sources, and asked for back. What real
models see in real pictures is in ``test_version.py`` and ``test_front.py``; each decoder's variants are in ``tasks/``.
"""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from farshore import formats
from farshore.formats.overrides import overrides

from .conftest import Device
from .planted import (
    FOUND,
    HIGH,
    WIDE,
    asked,
    cell,
    centred,
    column,
    cornered,
    float_picture,
    install,
    letterboxed,
    logit,
    one_hot,
    planted,
    row,
    stretched,
)

# --- one function a family: the model, and what its operator must say


def tf_detection():
    """TensorFlow's object detection API: fractions of the picture, classes from 1 (tensorflow/models, exporter)."""
    boxes, classes, scores = {}, {}, {}
    for n, (number, score, (top, left, bottom, right)) in enumerate(FOUND):
        boxes |= row((0, n), (top / HIGH, left / WIDE, bottom / HIGH, right / WIDE))
        classes[0, n], scores[0, n] = number + 1, score
    outputs = {
        "detection_boxes": ("float32", [1, 100, 4], boxes), "detection_classes": ("float32", [1, 100], classes),
        "detection_scores": ("float32", [1, 100], scores), "num_detections": ("float32", [1], {(0,): 2}),
    }  # fmt: skip
    return planted({"image": ("uint8", [1, 320, 320, 3])}, outputs), None


def efficient_nms():
    """TensorRT's EfficientNMS, as exports for ONNX imitate it: corners in pixels of the input."""
    boxes, classes, scores = {}, {}, {}
    for n, (number, score, box) in enumerate(FOUND):
        boxes |= row((0, n), letterboxed(box, 640))
        classes[0, n], scores[0, n] = number, score
    outputs = {
        "num_dets": ("int32", [1, 1], {(0, 0): 2}), "det_boxes": ("float32", [1, 100, 4], boxes),
        "det_scores": ("float32", [1, 100], scores), "det_classes": ("int32", [1, 100], classes),
    }  # fmt: skip
    return planted(float_picture(640), outputs), None


def rtdetr_final():
    """RT-DETR with its post-processing: corners in pixels of the picture, whose size is told."""
    boxes, labels, scores = {}, {}, {}
    for n, (number, score, (top, left, bottom, right)) in enumerate(FOUND):
        boxes |= row((0, n), (left, top, right, bottom))
        labels[0, n], scores[0, n] = number, score
    outputs = {
        "labels": ("int64", [1, 300], labels), "boxes": ("float32", [1, 300, 4], boxes), "scores": ("float32", [1, 300], scores),
    }  # fmt: skip
    return planted(float_picture(640) | {"orig_target_sizes": ("int64", [1, 2])}, outputs), None


def detr():
    """DETR: softmax over classes and "no object", centre and size as fractions (Carion et al. 2020, §3)."""
    logits, boxes = {(0, query, 91): 12.0 for query in range(100)}, {}
    for n, (number, score, box) in enumerate(FOUND):
        # Of 92 numbers 90 are 0: with "no object" at 0 too, e^x / (e^x + 91) is the score.
        logits[0, n, 91], logits[0, n, number] = 0.0, math.log(91 * score / (1 - score))
        boxes |= row((0, n), centred(stretched(box, 1)))
    outputs = {"logits": ("float32", [1, 100, 92], logits), "pred_boxes": ("float32", [1, 100, 4], boxes)}
    return planted({"pixel_values": ("float32", [1, 3, 800, 800])}, outputs), None


def rtdetr():
    """RT-DETR as Ultralytics exports it: centre and size as fractions, scores."""
    numbers = {}
    for n, (number, score, box) in enumerate(FOUND):
        numbers |= row((0, 17 * n), (*centred(stretched(box, 1)), *one_hot(number, score)))
    return planted(float_picture(640), {"output0": ("float32", [1, 300, 84], numbers)}), None


def yolo_end_to_end():
    """YOLOv10, and others with suppression built in: corners, score, class."""
    numbers = {}
    for n, (number, score, box) in enumerate(FOUND):
        numbers |= row((0, n), (*letterboxed(box, 640), score, number))
    return planted(float_picture(640), {"output0": ("float32", [1, 300, 6], numbers)}), None


def yolov7_end_to_end():
    """YOLOv7 with suppression built in: the picture's number, corners, class, score; as many rows as things."""
    numbers = {}
    for n, (number, score, box) in enumerate(FOUND):
        numbers |= row((n,), (0, *letterboxed(box, 640), number, score))
    return planted(float_picture(640), {"output": ("float32", ["n", 7], numbers)}, rows=2), None


def yolov8():
    """YOLOv8, v9, v11: centre and size in pixels, scores; candidates side by side."""
    numbers = {}
    for n, (number, score, box) in enumerate(FOUND):
        numbers |= column(100 * n, (*centred(letterboxed(box, 640)), *one_hot(number, score)))
        # The same once more, a little worse: to be suppressed.
        numbers |= column(100 * n + 1, (*centred(letterboxed(box, 640)), *one_hot(number, score - 0.1)))
    return planted(float_picture(640), {"output0": ("float32", [1, 84, 8400], numbers)}), None


def yolov5():
    """YOLOv5, v7: centre and size in pixels, whether there is anything, scores if so."""
    numbers = {}
    for n, (number, score, box) in enumerate(FOUND):
        numbers |= row((0, 100 * n), (*centred(letterboxed(box, 640)), 0.95, *one_hot(number, score / 0.95)))
    return planted(float_picture(640), {"output0": ("float32", [1, 25200, 85], numbers)}), None


def nanodet():
    """NanoDet-Plus: logits, and how far each side is from the cell's corner as a distribution (Li et al. 2020, eq. 3)."""
    numbers = {}
    for stride, (number, score, box) in zip((16, 32), FOUND, strict=True):
        left, top, right, bottom = stretched(box, 416)
        x, y, at = cell((left, top, right, bottom), stride, 416, (8, 16, 32, 64))
        numbers[0, at, number] = logit(score)
        sides = (x * stride - left, y * stride - top, right - x * stride, bottom - y * stride)
        for side, distance in enumerate(sides):
            whole, part = divmod(distance / stride, 1)
            numbers[0, at, 80 + 8 * side + int(whole)] = 40 + math.log(1 - part + 1e-9)
            numbers[0, at, 80 + 8 * side + int(whole) + 1] = 40 + math.log(part + 1e-9)
    return planted(float_picture(416), {"output": ("float32", [1, 3598, 112], numbers)}, base=-12.0), None


def yolox():
    """YOLOX: centre in cells from the cell's corner, size as logarithm, both in strides (Megvii, demo_utils.py)."""
    numbers = {}
    for stride, (number, score, box) in zip((8, 32), FOUND, strict=True):
        corners = cornered(box, 416)
        x, y, wide, high = centred(corners)
        cx, cy, at = cell(corners, stride, 416, (8, 16, 32))
        place = (x / stride - cx, y / stride - cy, math.log(wide / stride), math.log(high / stride))
        numbers |= row((0, at), (*place, 1.0, *one_hot(number, score)))
    return planted(float_picture(416), {"output": ("float32", [1, 3549, 85], numbers)}), None


ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]


def yolo_heads():
    """YOLOv3's three maps: sigmoids of the place in the cell, logarithms of the size in anchors (Redmon 2018, §2.1)."""
    heads: dict[int, dict[tuple[int, ...], float]] = {8: {}, 16: {}, 32: {}}
    for stride, anchor, (number, score, box) in zip((16, 32), ((62, 45), (156, 198)), FOUND, strict=True):
        x, y, wide, high = centred(letterboxed(box, 416))
        cx, cy = int(x // stride), int(y // stride)
        values = (logit(x / stride - cx), logit(y / stride - cy), math.log(wide / anchor[0]), math.log(high / anchor[1]), 12.0,
                  *(logit(score) if each == number else -12.0 for each in range(80)))  # fmt: skip
        heads[stride] |= {
            (0, 85 + part, cy, cx): value for part, value in enumerate(values)
        }  # the second of three anchors
    outputs = {
        f"o{stride}": ("float32", [1, 255, 416 // stride, 416 // stride], heads[stride]) for stride in (32, 16, 8)
    }
    return planted(float_picture(416), outputs, base=-12.0), {"decode": {"anchors": ANCHORS}}


def scores_boxes():
    """Two outputs, fractions of the picture, a background first: the operator says which way the numbers go."""
    scores, boxes = {(0, candidate, 0): 1.0 for candidate in range(50)}, {}
    for n, (number, score, box) in enumerate(FOUND):
        scores[0, n, 0], scores[0, n, number + 1] = 1 - score, score
        boxes |= row((0, n), stretched(box, 1))
    outputs = {"scores": ("float32", [1, 50, 81], scores), "boxes": ("float32", [1, 50, 4], boxes)}
    told = {
        "decode": {"coordinates": "relative", "boxes": "corners", "background": 0},
        "input": {"resize": "stretch", "mean": 127, "std": 128, "colour": "RGB"},
        "labels": {"file": "labels.txt"},
    }
    return planted(float_picture(240, 320), outputs), told


@pytest.mark.parametrize(
    "family",
    [tf_detection, efficient_nms, rtdetr_final, detr, rtdetr, yolo_end_to_end, yolov7_end_to_end, yolov8, yolov5, nanodet, yolox,
     yolo_heads, scores_boxes],
    ids=lambda family: family.__name__.replace("_", "-"),
)  # fmt: skip
def test_detectors(device: Device, family: Any) -> None:
    model, told = family()
    names = "".join(f"name {number}\n" for number in range(91 if family is detr else 80)).encode()
    recognised = formats.recognise(formats.inspect(model), {"labels.txt": names}, overrides(told) if told else None)
    assert recognised.decoder == family.__name__.replace("_", "-")
    answer = asked(install(device, model, told, names), threshold=0.5)
    assert answer["detections"] == [
        {"class": f"name {number}", "score": pytest.approx(score, abs=5e-3), "box": pytest.approx(list(box), abs=1.0)}
        for number, score, box in FOUND
    ]


def test_gaps_in_the_class_names_are_counted(device: Device) -> None:
    """TensorFlow's COCO list: a line for each number, also for those that mean nothing. Nothing is dropped, nothing moves."""
    model, _ = tf_detection()
    lines = ["???"] + [f"name {number}" for number in range(80)]
    lines[3] = lines[6] = "???"  # before and between the classes that are there
    version = install(device, model, labels="\n".join(lines).encode())
    assert [each["class"] for each in asked(version, threshold=0.5)["detections"]] == ["name 3", "name 7"]


def test_poses(device: Device) -> None:
    """YOLOv8-pose: a person, points in pixels of the input, each with its visibility."""
    box, nose, wrist = FOUND[0][2], (60.0, 130.0), (110.0, 180.0)
    points = [0.0] * 51
    for place, (y, x) in ((0, nose), (10, wrist)):
        left, top, _, _ = letterboxed((y, x, y, x), 640)
        points[3 * place : 3 * place + 3] = left, top, 0.8
    numbers = column(9, (*centred(letterboxed(box, 640)), 0.9, *points))
    model = planted(float_picture(640), {"output0": ("float32", [1, 56, 8400], numbers)})
    (pose,) = asked(install(device, model, labels=None), threshold=0.5)["poses"]
    assert (pose["score"], pose["box"]) == (pytest.approx(0.9, abs=1e-3), pytest.approx(list(box), abs=1.0))
    seen = {point["name"]: point["point"] for point in pose["keypoints"] if point["score"] > 0.5}
    assert len(pose["keypoints"]) == 17
    assert seen == {"nose": pytest.approx(list(nose), abs=1.0), "right wrist": pytest.approx(list(wrist), abs=1.0)}


@pytest.mark.parametrize("people", [1, 6])
def test_movenet(device: Device, people: int) -> None:
    """MoveNet, alone and for six: y, x as fractions of a square in whose middle the picture lies."""
    place = (60.0, 130.0)
    x, y, _, _ = letterboxed((*place, *place), 1)
    if people == 1:
        size, shape, numbers = 192, [1, 1, 17, 3], row((0, 0, 0), (y, x, 0.8))
    else:
        left, top, right, bottom = letterboxed(FOUND[0][2], 1)
        size, shape = 256, [1, 6, 56]
        numbers = row((0, 4), (y, x, 0.8)) | {(0, 4, 51 + n): v for n, v in enumerate((top, left, bottom, right, 0.9))}
    model = planted({"input": ("uint8", [1, size, size, 3])}, {"output": ("float32", shape, numbers)})
    (pose,) = asked(install(device, model, labels=None), threshold=0.3)["poses"]
    assert pose["keypoints"][0] == {
        "name": "nose",
        "score": pytest.approx(0.8),
        "point": pytest.approx(list(place), abs=1.0),
    }
    if people == 6:
        assert pose["box"] == pytest.approx(list(FOUND[0][2]), abs=1.0)


def test_heat_maps(device: Device) -> None:
    """A map for each point, a quarter of the input's size; the highest cell's middle, which lies in the picture."""
    model = planted(
        {"input": ("float32", [1, 3, 256, 192])}, {"maps": ("float32", [1, 17, 64, 48], {(0, 0, 30, 20): 0.9})}
    )
    (pose,) = asked(install(device, model, labels=None), threshold=0.3)["poses"]
    scale = min(256 / HIGH, 192 / WIDE)
    down, across = (256 - scale * HIGH) / 2, (192 - scale * WIDE) / 2
    expected = [(4 * 30.5 - down) / scale, (4 * 20.5 - across) / scale]
    assert pose["keypoints"] == [
        {"name": "nose", "score": pytest.approx(0.9), "point": pytest.approx(expected, abs=6.0)}
    ]


@pytest.mark.parametrize("layout", ["yolov8-seg", "yolov5-seg"])
def test_single_things(device: Device, layout: str) -> None:
    """YOLO-seg: 32 weights a candidate over 32 maps; here one map, light in the left half of the first thing's box."""
    number, score, box = FOUND[0]
    left, top, right, bottom = letterboxed(box, 640)
    middle = int((left + right) / 8)
    light = {(0, 0, y, x): 1.0 for y in range(int(top / 4), int(bottom / 4) + 1) for x in range(int(left / 4), middle)}
    light |= {
        (0, 0, y, x): -1.0 for y in range(int(top / 4), int(bottom / 4) + 1) for x in range(middle, int(right / 4) + 1)
    }
    sure = (1.0,) if layout == "yolov5-seg" else ()
    values = (*centred((left, top, right, bottom)), *sure, *one_hot(number, score), 1.0, *([0.0] * 31))
    if layout == "yolov8-seg":
        output = ("float32", [1, 116, 8400], column(5, values))
    else:
        output = ("float32", [1, 25200, 117], row((0, 5), values))
    model = planted(float_picture(640), {"output0": output, "output1": ("float32", [1, 32, 160, 160], light)})
    (segment,) = asked(install(device, model), threshold=0.5)["segments"]
    assert (segment["class"], segment["box"]) == ("name 3", pytest.approx(list(box), abs=1.0))
    mask = unrolled(segment["mask"])
    rows, columns = np.nonzero(mask)
    high, wide = HIGH / mask.shape[0], WIDE / mask.shape[1]
    seen = [rows.min() * high, columns.min() * wide, (rows.max() + 1) * high, (columns.max() + 1) * wide]
    top, left, bottom, right = box
    assert seen == pytest.approx([top, left, bottom, (left + right) / 2], abs=8.0)


def unrolled(told: dict[str, Any]) -> np.ndarray:
    flat = [value for value, length in told["runs"] for _ in range(length)]
    return np.array(flat).reshape(told["height"], told["width"])


def test_class_maps(device: Device) -> None:
    """A class for each place, as numbers for each class: the background everywhere but in a band of class 2."""
    band = {(0, y, x, 2): 5.0 for y in range(32, 64) for x in range(128)}
    model = planted({"input": ("uint8", [1, 128, 128, 3])}, {"map": ("float32", [1, 128, 128, 4], band)})
    answer = asked(install(device, model, labels=b"background\nsea\nship\nsky\n"))
    assert {each["class"]: each["share"] for each in answer["classes"]} == pytest.approx(
        {"background": 0.75, "ship": 0.25}
    )
    rows = unrolled(answer["map"]).mean(1) * 128 / unrolled(answer["map"]).shape[0]
    assert set(np.nonzero(rows)[0]) == set(range(32, 64))


def graph_model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, np.ndarray]) -> bytes:
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def test_a_picture_comes_back_as_a_picture(device: Device) -> None:
    """Image to image: a negative, twice the size."""
    value = helper.make_tensor_value_info
    model = graph_model(
        [helper.make_node("Sub", ["white", "x"], ["negative"]),
         helper.make_node("Resize", ["negative", "", "scales"], ["y"], mode="nearest")],
        [value("x", TensorProto.FLOAT, [1, 3, 64, 64])], [value("y", TensorProto.FLOAT, [1, 3, 128, 128])],
        {"white": np.array(255, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)},
    )  # fmt: skip
    version = install(
        device, model, {"task": "image-to-image", "input": {"mean": 0, "std": 1}, "decode": {"range": [0, 255]}}
    )
    told = asked(version, colours((200, 30, 60)))["picture"]
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["png"]))).convert("RGB")).reshape(-1, 3)
    assert found.mean(0) == pytest.approx([55, 225, 195], abs=3)


def colours(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return out.getvalue()


def means(dtype: str, layout: str, *, batch: int | str = 1, side: int | str = 32) -> bytes:
    """A classifier whose scores are the means of the input's three channels, whatever the input's type and layout."""
    kinds = {
        "float32": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "uint8": TensorProto.UINT8,
        "int8": TensorProto.INT8,
    }
    shape: list[int | str] = [batch, 3, side, side] if layout == "NCHW" else [batch, side, side, 3]
    value = helper.make_tensor_value_info
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    half = dtype == "float16"
    return graph_model(
        [helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
         helper.make_node("ReduceMean", ["real"], ["mean"], axes=axes, keepdims=0),
         helper.make_node("Softmax", ["mean"], ["share"]),
         helper.make_node("Cast", ["share"], ["scores"], to=TensorProto.FLOAT16 if half else TensorProto.FLOAT)],
        [value("x", kinds[dtype], shape)],
        [value("scores", TensorProto.FLOAT16 if half else TensorProto.FLOAT, [batch, 3])], {},
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int8"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_types_layouts_and_colours_of_inputs(device: Device, dtype: str, layout: str, colour: str) -> None:
    """A red picture is class 0 of a model that takes red first, and class 2 of one that takes it last."""
    said: dict[str, Any] = {"colour": colour, "layout": layout}
    if dtype.startswith("float"):
        said |= {"mean": 0, "std": 25.5}
    version = install(
        device, means(dtype, layout), {"task": "classification", "input": said}, labels=b"first\nsecond\nthird\n"
    )
    for sent, expected in (
        ((250, 60, 5), ("first", "third")),
        ((5, 60, 250), ("third", "first")),
        ((5, 250, 60), ("second",) * 2),
    ):
        best = asked(version, colours(sent))["classes"][0]
        assert best["class"] == expected[colour == "BGR"]
        assert best["score"] > 0.9


def test_open_sizes_and_an_open_batch(device: Device) -> None:
    said = {"task": "classification", "input": {"mean": 0, "std": 25.5, "width": 48, "height": 40}}
    version = install(device, means("float32", "NCHW", batch="n", side="s"), said, labels=b"red\ngreen\nblue\n")
    assert asked(version, colours((5, 250, 60)))["classes"][0]["class"] == "green"


def test_the_page_names_a_test_for_each_family() -> None:
    """``docs/serving.md`` says where each family's answer is held; each of those tests exists."""
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "serving.md").read_text()
    table = page[page.index("### Families and their tests") :]
    table = table[: table.index("\n## ")]
    for family in formats.FAMILIES:
        assert f"`{family.decoder}`" in table, family.decoder
    named = [word.partition("::") for word in table.split("`") if "::" in word]
    assert named
    for file, _, test in named:
        assert f"def {test}(" in (root / "tests" / "serve" / file).read_text(), (file, test)
