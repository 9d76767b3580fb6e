"""Classification, keypoints, segmentation, tensors."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from farshore.core.errors import Invalid

near = pytest.approx


def test_classification(ask):
    told = ask("classification", {"scores": [[0.1, 0.7, 0.2]]}, picture=(1, 1), labels=("a", "b", "c"), top=2)
    assert told["classes"] == [{"class": "b", "score": near(0.7)}, {"class": "c", "score": near(0.2)}]
    logits = np.log(np.array([[[[1.0, 7.0, 2.0]]]], np.float32))
    told = ask("classification", {"scores": logits}, picture=(1, 1), settings={"softmax": True}, threshold=0.15)
    assert told["classes"] == [{"class": "1", "score": near(0.7)}, {"class": "2", "score": near(0.2)}]


def test_movenet(ask):
    points = np.zeros((1, 1, 17, 3), np.float32)
    points[0, 0, 0] = 0.5, 0.25, 0.9
    points[0, 0, 16] = 0.75, 0.5, 0.4
    told = ask(
        "movenet", {"keypoints": points}, picture=(100, 200), resize="letterbox", task="keypoints", threshold=0.3
    )
    assert told["poses"][0]["keypoints"] == [
        {"name": "nose", "score": near(0.9), "point": near([50, 50])},
        {"name": "right ankle", "score": near(0.4), "point": near([100, 100])},
    ]
    assert ask("movenet", {"keypoints": points}, picture=(9, 9), task="keypoints", threshold=0.95)["poses"] == []


def test_movenet_multipose(ask):
    rows = np.zeros((1, 6, 56), np.float32)
    rows[0, 3, :3], rows[0, 3, 51:] = (0.5, 0.25, 0.9), (0.1, 0.2, 0.9, 0.8, 0.7)
    told = ask("movenet-multipose", {"poses": rows}, picture=(100, 200), task="keypoints")["poses"]
    assert len(told) == 1
    assert told[0]["score"] == near(0.7)
    assert told[0]["box"] == near([10, 40, 90, 160])
    assert told[0]["keypoints"][0] == {"name": "nose", "score": near(0.9), "point": near([50, 50])}
    assert len(told[0]["keypoints"]) == 17


@pytest.mark.parametrize("relative", [False, True])
def test_yolo_pose(ask, relative):
    found = np.zeros((1, 5 + 3 * 17, 84), np.float32)
    for column, score in ((4, 0.9), (5, 0.8)):  # the second is the same person again
        found[0, :5, column] = 32 + column - 4, 16, 20, 30, score
        found[0, 5:8, column] = 30, 10, 0.95
    if relative:
        found[0, [0, 1, 2, 3, 5, 6]] /= 64
    settings = {"coordinates": "relative" if relative else "pixels"}
    told = ask("yolov8-pose", {"predictions": found}, picture=(128, 64), task="keypoints", settings=settings)["poses"]
    assert len(told) == 1
    assert told[0]["box"] == near([2, 22, 62, 42], abs=1e-3)
    assert told[0]["keypoints"][0] == {"name": "nose", "score": near(0.95), "point": near([20, 30], abs=1e-3)}


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_heat_maps(ask, layout):
    maps = np.zeros((17, 16, 16), np.float32)
    maps[0, 4, 8] = 0.9
    found = maps if layout == "CHW" else maps.transpose(1, 2, 0)
    told = ask(
        "heatmaps",
        {"heatmaps": found[None]},
        picture=(64, 64),
        task="keypoints",
        settings={"layout": layout, "threshold": 0.3},
    )
    assert told["poses"][0]["keypoints"] == [{"name": "nose", "score": near(0.9), "point": near([18, 34])}]


@pytest.mark.parametrize("layout", ["HW", "HWC", "CHW"])
def test_class_maps(ask, layout):
    truth = np.zeros((8, 8), np.int64)
    truth[2:4, 1:6] = 3
    found = truth if layout == "HW" else np.eye(5, dtype=np.float32)[truth]
    if layout == "CHW":
        found = found.transpose(2, 0, 1)
    told = ask(
        "deeplab",
        {"map": found[None]},
        picture=(80, 80),
        task="segmentation",
        labels=("-", "a", "b", "ship"),
        settings={"layout": layout},
    )
    assert told["classes"] == [
        {"class": "-", "number": 0, "share": near(54 / 64, abs=1e-4)},
        {"class": "ship", "number": 3, "share": near(10 / 64, abs=1e-4)},
    ]
    rows = [value for value, length in told["map"]["runs"] for _ in range(length)]
    assert np.array(rows).reshape(told["map"]["height"], told["map"]["width"]).tolist() == truth.tolist()


def test_the_map_covers_the_picture_not_its_frame(ask):
    found = np.ones((1, 8, 8), np.int64)
    found[0, :2] = found[0, 6:] = 0  # the letterbox's bars
    told = ask(
        "deeplab", {"map": found}, picture=(50, 100), task="segmentation", resize="letterbox", settings={"layout": "HW"}
    )
    assert told["map"] == {"height": 4, "width": 8, "runs": [[1, 32]]}


def test_an_unknown_layout_is_told(ask):
    with pytest.raises(Invalid, match="layout"):
        ask("deeplab", {"map": [[0]]}, picture=(1, 1), settings={"layout": "WHC"})


def test_tensors(ask):
    told = ask(
        "tensors",
        {"y": np.array([[1.5, np.nan]], np.float32), "n": np.array([3], np.int64)},
        picture=(1, 1),
        task="tensors",
    )
    assert told["outputs"] == {
        "y": {"dtype": "float32", "shape": [1, 2], "data": [1.5, None]},
        "n": {"dtype": "int64", "shape": [1], "data": [3]},
    }


def unrolled(mask):
    flat = [value for value, length in mask["runs"] for _ in range(length)]
    return np.array(flat).reshape(mask["height"], mask["width"])


@pytest.mark.parametrize("name", ["yolov8-seg", "yolov5-seg"])
@pytest.mark.parametrize("last", [False, True])
def test_masks(ask, name, last):
    """Two prototypes: the left half of the input, and everything. A box over its middle rows wants the left half only."""
    prototypes = np.zeros((1, 32, 16, 16), np.float32)
    prototypes[0, 0, :, :8], prototypes[0, 1] = 1.0, 1.0
    head = [32.0, 32.0, 64.0, 16.0]  # the whole width, rows 24…40 of 64: rows 6…10 of 16
    weights = [0.0] * 32
    weights[0], weights[1] = 2.0, -1.0
    row = np.array([*head, *([0.9] if name == "yolov5-seg" else []), 0.0, 0.8, *weights], np.float32)
    found = np.zeros((1, 5, len(row)), np.float32)
    found[0, 2] = row
    if name == "yolov8-seg":
        found = found.transpose(0, 2, 1)
    if last:
        prototypes = prototypes.transpose(0, 2, 3, 1)
    told = ask(
        name,
        {"predictions": found, "prototypes": prototypes},
        picture=(128, 64),
        task="segmentation",
        labels=("a", "b"),
    )
    (segment,) = told["segments"]
    assert segment["class"] == "b"
    assert segment["score"] == near(0.8 if name == "yolov8-seg" else 0.72)
    assert segment["box"] == near([48, 0, 80, 64])
    expected = np.zeros((16, 16), int)
    expected[6:10, :8] = 1
    assert unrolled(segment["mask"]).tolist() == expected.tolist()


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
def test_image_to_image(ask, layout):
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3))
    found = pixels / 127.5 - 1
    if layout == "CHW":
        found = found.transpose(2, 0, 1)
    settings = {"layout": layout, "range": [-1.0, 1.0]}
    told = ask(
        "image-to-image",
        {"picture": found[None]},
        picture=(100, 200),
        size=(8, 8),
        resize="letterbox",
        task="image-to-image",
        settings=settings,
    )
    assert (told["picture"]["height"], told["picture"]["width"]) == (4, 8)
    image = Image.open(io.BytesIO(base64.b64decode(told["picture"]["png"])))
    assert np.asarray(image).tolist() == pixels[2:6].tolist()
