"""Dense detectors. Each test plants boxes by the *inverse* of the format's formula and asks for them back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farshore.core.errors import Invalid, Unavailable
from farshore.serve.tasks import boxes, dense

SIZE = (64, 96)  # input: height, width
PICTURE = (128, 96)  # twice as high as the input, as wide
PLANTED = [
    (0, 0.9, (8.0, 12.0, 30.0, 40.0)),
    (2, 0.7, (30.0, 50.0, 60.0, 90.0)),
]  # class, score, top, left, bottom, right
CLASSES = 3


def expected():
    return [
        {
            "class": "abc"[number],
            "score": pytest.approx(score, abs=2e-3),
            "box": pytest.approx([2 * t, left, 2 * b, r], abs=0.3),
        }
        for number, score, (t, left, b, r) in PLANTED
    ]


def logit(share):
    return math.log(share / (1 - share))


def centre(box):
    top, left, bottom, right = box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def cell_of(stride, box):
    """Column and row of the cell that a box's centre lies in."""
    x, y, _, _ = centre(box)
    return int(x // stride), int(y // stride)


def grid(strides):
    """Row number of each (stride, column, row), in the order that the format gives them."""
    rows = [(s, x, y) for s in strides for y in range(math.ceil(SIZE[0] / s)) for x in range(math.ceil(SIZE[1] / s))]
    return {key: number for number, key in enumerate(rows)}


def check(ask, name, outputs, **more):
    told = ask(name, outputs, picture=PICTURE, size=SIZE, labels=("a", "b", "c"), **more)
    assert told["detections"] == expected()


def test_yolov8(ask):
    found = np.zeros((1, 4 + CLASSES, 126), np.float32)
    for n, (number, score, box) in enumerate(PLANTED):
        found[0, :4, 7 * n] = centre(box)
        found[0, 4 + number, 7 * n] = score
        # The same box again, a little off and a little worse: to be suppressed. And of another class: to stay out by its score.
        found[0, :4, 7 * n + 1] = np.add(centre(box), 1)
        found[0, 4 + number, 7 * n + 1] = score - 0.1
    check(ask, "yolov8", {"predictions": found})
    found[0, :4] /= np.array([[SIZE[1]], [SIZE[0]]] * 2)
    check(ask, "yolov8", {"predictions": found}, settings={"coordinates": "relative"})


def test_overlapping_boxes_of_different_classes_stay(ask):
    found = np.zeros((1, 4 + CLASSES, 8), np.float32)
    found[0, :4, :2] = np.array([[40], [30], [20], [20]])
    found[0, 4, 0] = found[0, 5, 1] = 0.8
    assert len(ask("yolov8", {"predictions": found}, picture=PICTURE, size=SIZE)["detections"]) == 2


def test_yolov5(ask):
    found = np.zeros((1, 378, 5 + CLASSES), np.float32)
    for n, (number, score, box) in enumerate(PLANTED):
        found[0, n, :4], found[0, n, 4], found[0, n, 5 + number] = centre(box), 0.95, score / 0.95
    found[0, 5, 4:] = [0.1, 1, 1, 1]  # sure of the class, but that nothing is there
    check(ask, "yolov5", {"predictions": found})


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox(ask, decoded):
    rows = grid((8, 16, 32))
    found = np.zeros((1, len(rows), 5 + CLASSES), np.float32)
    for stride, (number, score, box) in zip((8, 32), PLANTED, strict=True):
        x, y, width, height = centre(box)
        column, row = cell_of(stride, box)
        row_of = found[0, rows[stride, column, row]]
        if decoded:
            row_of[:4] = x, y, width, height
        else:
            row_of[:4] = x / stride - column, y / stride - row, math.log(width / stride), math.log(height / stride)
        row_of[4], row_of[5 + number] = 1.0, score
    check(ask, "yolox", {"predictions": found}, settings={"strides": [8, 16, 32], "decoded": decoded})


@pytest.mark.parametrize("heads", [False, True])
def test_nanodet(ask, heads):
    strides = (8, 16, 32, 64)
    rows = grid(strides)
    scores = np.full((len(rows), CLASSES), -20.0)
    sides = np.zeros((len(rows), 4, 8))
    for stride, (number, score, box) in zip((8, 16), PLANTED, strict=True):
        column, row = cell_of(stride, box)
        middle = 0.5 if heads else 0.0
        x, y = (column + middle) * stride, (row + middle) * stride
        at = rows[stride, column, row]
        scores[at, number] = logit(score)
        top, left, bottom, right = box
        for side, distance in enumerate((x - left, y - top, right - x, bottom - y)):
            # A distribution over 0…7 strides whose mean is the distance: all weight on the two neighbours.
            whole, part = divmod(distance / stride, 1)
            sides[at, side] = -30
            sides[at, side, int(whole)], sides[at, side, int(whole) + 1] = (
                math.log(1 - part + 1e-12),
                math.log(part + 1e-12),
            )
    settings = {"strides": list(strides), "reg_max": 7, "activation": "sigmoid", "threshold": 0.35}
    if not heads:
        joined = np.concatenate((scores, sides.reshape(len(rows), -1)), 1)[None]
        check(ask, "nanodet", {"predictions": joined}, settings=settings)
        return
    outputs = {}
    for stride in strides:
        those = [number for (s, _, _), number in rows.items() if s == stride]
        outputs[f"scores{stride}"], outputs[f"sides{stride}"] = (
            scores[those][None],
            sides[those].reshape(1, len(those), -1),
        )
    check(ask, "nanodet-heads", outputs, settings=settings)


def test_yunet(ask):
    strides = (8, 16, 32)
    outputs = {}
    for stride in strides:
        count = len(grid((stride,)))
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs[f"{kind}{stride}"] = np.zeros((1, count, width), np.float32)
    for stride, (_, score, box) in zip((16, 32), PLANTED, strict=True):
        column, row = cell_of(stride, box)
        at = grid((stride,))[stride, column, row]
        x, y, width, height = centre(box)
        outputs[f"cls{stride}"][0, at], outputs[f"obj{stride}"][0, at] = score**1.5, score**0.5
        outputs[f"bbox{stride}"][0, at] = (
            x / stride - column,
            y / stride - row,
            math.log(width / stride),
            math.log(height / stride),
        )
    told = ask("yunet", outputs, picture=PICTURE, size=SIZE, labels=("face",), settings={"threshold": 0.6, "iou": 0.3})
    assert told["detections"] == [{**one, "class": "face"} for one in expected()]


ANCHORS = {16: [(10, 13), (20, 30), (40, 24)], 32: [(30, 60), (60, 45), (80, 50)]}


@pytest.mark.parametrize("layout", ["HWAC", "AHWC", "HWC", "CHW"])
@pytest.mark.parametrize("formula", ["exp", "square"])
@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_raw_heads(ask, layout, formula, scale):
    outputs = {}
    for stride, anchors in ANCHORS.items():
        head = np.full((SIZE[0] // stride, SIZE[1] // stride, 3, 5 + CLASSES), -12.0)
        number, score, box = PLANTED[0 if stride == 16 else 1]
        x, y, width, height = centre(box)
        column, row = cell_of(stride, box)
        anchor = 1
        fx, fy = x / stride - column, y / stride - row
        if formula == "exp":
            fx, fy = (fx + (scale - 1) / 2) / scale, (fy + (scale - 1) / 2) / scale
            w, h = math.log(width / anchors[anchor][0]), math.log(height / anchors[anchor][1])
        else:
            fx, fy = (fx + 0.5) / 2, (fy + 0.5) / 2
            w, h = (logit(math.sqrt(side / a) / 2) for side, a in zip((width, height), anchors[anchor], strict=True))
        head[row, column, anchor, :5] = logit(fx), logit(fy), w, h, 12
        head[row, column, anchor, 5 + number] = logit(score)
        match layout:
            case "AHWC":
                head = head.transpose(2, 0, 1, 3)
            case "HWC":
                head = head.reshape(*head.shape[:2], -1)
            case "CHW":
                head = head.reshape(*head.shape[:2], -1).transpose(2, 0, 1)
        outputs[f"head{stride}"] = head[None]
    settings = {
        "strides": [16, 32], "anchors": [[n for pair in each for n in pair] for each in ANCHORS.values()],
        "layout": layout, "formula": formula, "scale_xy": [scale, scale],
    }  # fmt: skip
    check(ask, "yolo-heads", outputs, settings=settings)


def test_raw_heads_need_anchors(ask):
    with pytest.raises(Invalid, match="anchors"):
        ask("yolo-heads", {"head16": [[]], "head32": [[]]}, picture=PICTURE, settings={"strides": [16, 32]})


def relative(box):
    x, y, width, height = centre(box)
    return x / SIZE[1], y / SIZE[0], width / SIZE[1], height / SIZE[0]


def test_rtdetr(ask):
    found = np.zeros((1, 300, 4 + CLASSES), np.float32)
    for n, (number, score, box) in enumerate(PLANTED):
        found[0, 9 * n, :4], found[0, 9 * n, 4 + number] = relative(box), score
    check(ask, "rtdetr", {"predictions": found}, settings={"coordinates": "relative"})


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_detr(ask, activation):
    softmax = activation == "softmax"
    logits = np.full((1, 100, CLASSES + softmax), -20.0, np.float32)
    if softmax:
        logits[..., -1] = 0.0  # "no object"
    found = np.zeros((1, 100, 4), np.float32)
    for n, (number, score, box) in enumerate(PLANTED):
        logits[0, n, number] = math.log(score / (1 - score))  # softmax against the 0 of "no object" is the sigmoid
        found[0, n] = relative(box)
    check(ask, "detr", {"scores": logits, "boxes": found}, settings={"activation": activation, "no_object": softmax})


def test_scores_and_boxes(ask):
    scores, found = np.zeros((1, 20, CLASSES + 1), np.float32), np.zeros((1, 20, 4), np.float32)
    scores[0, :, 0] = 1.0  # background
    for n, (number, score, (top, left, bottom, right)) in enumerate(PLANTED):
        scores[0, n, number + 1], scores[0, n, 0] = score, 1 - score
        found[0, n] = left, top, right, bottom
    settings = {"background": 0, "coordinates": "pixels", "boxes": "corners"}
    told = ask(
        "scores-boxes",
        {"scores": scores, "boxes": found},
        picture=PICTURE,
        size=SIZE,
        labels=("-", "a", "b", "c"),
        settings=settings,
    )
    assert told["detections"] == expected()


def test_ultra_light_priors():
    """Number, first and last of the published 320×240 detector (fd_config.py), and boxes undone by its variances."""
    priors = dense.ultra_light_priors((240, 320))
    assert priors.shape == (4420, 4)
    assert priors[0] == pytest.approx([0.5 / 40, 0.5 / 30, 10 / 320, 10 / 240])
    assert priors[1, 2:] == pytest.approx([16 / 320, 16 / 240])
    assert priors[-1] == pytest.approx([4.5 / 5, 3.5 / 3.75, 256 / 320, 1.0])


def test_undecoded_ultra_light(ask):
    priors = dense.ultra_light_priors((240, 320))
    scores, found = np.zeros((1, 4420, 2), np.float32), np.zeros((1, 4420, 4), np.float32)
    scores[..., 0] = 20.0
    scores[0, 2000] = 0.0, logit(0.9)
    x, y, width, height = 0.5, 0.4, 0.2, 0.3
    found[0, 2000] = (
        (x - priors[2000, 0]) / priors[2000, 2] / 0.1, (y - priors[2000, 1]) / priors[2000, 3] / 0.1,
        math.log(width / priors[2000, 2]) / 0.2, math.log(height / priors[2000, 3]) / 0.2,
    )  # fmt: skip
    settings = {
        "coordinates": "relative", "background": 0, "decoded": False, "priors": "ultra-light", "variances": [0.1, 0.2],
        "activation": "softmax",
    }  # fmt: skip
    told = ask(
        "scores-boxes",
        {"scores": scores, "boxes": found},
        picture=(480, 640),
        size=(240, 320),
        labels=("-", "face"),
        settings=settings,
    )
    assert told["detections"] == [
        {"class": "face", "score": pytest.approx(0.9, abs=1e-3), "box": pytest.approx([120, 256, 264, 384], abs=0.1)}
    ]


@pytest.mark.parametrize("name", ["yolox", "nanodet"])
def test_outputs_that_fit_no_grid_are_told(ask, name):
    found = np.ones((1, 10, 40), np.float32)
    with pytest.raises(Unavailable, match="does not fit"):
        ask(name, {"predictions": found}, picture=PICTURE, size=SIZE)


def test_suppression_against_its_definition():
    """Greedy suppression, pair by pair."""
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 60, (120, 2))
    found = np.concatenate((low, low + rng.uniform(5, 40, (120, 2))), 1)
    scores, classes = rng.uniform(0, 1, 120), rng.integers(0, 3, 120)
    kept: list[int] = []
    for i in sorted(range(120), key=lambda i: -scores[i]):
        if all(classes[i] != classes[k] or overlap(found[i], found[k]) <= 0.4 for k in kept):
            kept.append(i)
    assert boxes.suppress(found, scores, classes, 0.4).tolist() == kept


def overlap(one, other):
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    inner = max(height, 0) * max(width, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inner / (sum(area) - inner)
