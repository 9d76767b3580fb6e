"""Detectors that answer a candidate for each cell of their grids: decode, choose, suppress.

A grid's cells come row by row, the strides in rising order; coordinates are the input's pixels unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farshore.core.errors import Invalid, Unavailable
from farshore.serve.prepare import Placement
from farshore.serve.tasks import boxes
from farshore.serve.tasks.subject import Outputs, Subject, Want

Floats = NDArray[Any]


class Dense:
    """What all have in common: candidates in, ``detections`` out.

    Attributes:
        unsuppressed: whether overlapping candidates are left in by the graph.

    """

    role = "predictions"
    unsuppressed = True

    def __init__(self, subject: Subject) -> None:
        subject.roles(self.role)
        self._subject = subject
        self._threshold = subject.number("threshold", 0.25)
        self._iou = subject.number("iou", 0.45)
        self._relative = subject.pipeline.settings.get("coordinates", "pixels") == "relative"

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        _, found, scores, classes = self.choose(outputs, place.size, want)
        return boxes.tell(self._subject, classes, scores, place.boxes(found), want, self._threshold)

    def choose(
        self, outputs: Outputs, size: tuple[int, int], want: Want
    ) -> tuple[NDArray[np.intp], Floats, Floats, NDArray[np.intp]]:
        """Candidates that stay: their numbers, boxes in pixels of the input, scores and classes; best first."""
        found, scores = self._candidates(outputs, size)
        if found.shape[0] != scores.shape[0]:
            raise Unavailable(
                f"the model answers {len(found)} boxes and {len(scores)} scores: its manifest does not fit it"
            )
        classes = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), classes]
        least = self._threshold if want.threshold is None else want.threshold
        good = np.flatnonzero(best >= least)
        found, best, classes = found[good].astype(np.float64), best[good], classes[good]
        if self._relative:
            height, width = size
            found *= np.array([height, width, height, width])
        if self.unsuppressed:
            kept = boxes.suppress(found, best, classes, self._iou)
        else:
            kept = np.argsort(-best, kind="stable")
        return good[kept], found[kept], best[kept], classes[kept]

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """N×4 boxes ``top, left, bottom, right`` and N×C scores, for an input of that height and width."""
        raise NotImplementedError


class YoloV8(Dense):
    """[1,4+C,N]: centre x, y, width, height, then a score for each class (Ultralytics YOLOv8, v9, v11)."""

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = _rows(outputs["predictions"]).T
        return corners(rows[:, :4]), rows[:, 4:]


class YoloV5(Dense):
    """[1,N,5+C]: centre x, y, width, height, objectness, classes (Ultralytics YOLOv5, YOLOv7)."""

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = _rows(outputs["predictions"])
        return corners(rows[:, :4]), rows[:, 5:] * rows[:, 4:5]


class Yolox(Dense):
    """[1,N,5+C] like YOLOv5, one candidate a cell; offsets in cells and the logarithm of sizes until decoded.

    Format: Megvii YOLOX, yolox/utils/demo_utils.py.
    """

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._strides = _strides(subject)
        self._decoded = bool(subject.pipeline.settings.get("decoded", False))

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = _rows(outputs["predictions"])
        scores = rows[:, 5:] * rows[:, 4:5]
        if self._decoded:
            return corners(rows[:, :4]), scores
        x, y, stride = cells(size, self._strides)
        _fits(len(x), len(rows))
        placed = np.stack(
            (
                (rows[:, 0] + x) * stride,
                (rows[:, 1] + y) * stride,
                _exp(rows[:, 2]) * stride,
                _exp(rows[:, 3]) * stride,
            ),
            1,
        )
        return corners(placed), scores


class NanoDet(Dense):
    """[1,N,C+4(R+1)]: class scores, then for each side a distribution over R+1 distances in strides.

    Format: RangiLyu/nanodet, nanodet_plus_head.py: cells' upper left corners are their centres.
    """

    _middle = 0.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._strides = _strides(subject)
        self._bins = int(subject.number("reg_max", 7)) + 1
        self._activation = _activation(subject, "sigmoid")

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = _rows(outputs["predictions"])
        split = rows.shape[1] - 4 * self._bins
        return self._placed(rows[:, split:], size), activate(rows[:, :split], self._activation)

    def _placed(self, sides: Floats, size: tuple[int, int]) -> Floats:
        x, y, stride = cells(size, self._strides)
        _fits(len(x), len(sides))
        shares = activate(sides.reshape(-1, 4, self._bins), "softmax")
        left, top, right, bottom = ((shares @ np.arange(self._bins)) * stride[:, None]).T
        x, y = (x + self._middle) * stride, (y + self._middle) * stride
        return np.stack((y - top, x - left, y + bottom, x + right), 1)


class NanoDetHeads(NanoDet):
    """The same with an output for each stride: ``scores8``, ``sides8`` … Cells' centres are their centres.

    Format: RangiLyu/nanodet, gfl_head.py.
    """

    role = "scores8"
    _middle = 0.5

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        scores = np.concatenate([_rows(outputs[f"scores{stride}"]) for stride in self._strides])
        sides = np.concatenate([_rows(outputs[f"sides{stride}"]) for stride in self._strides])
        return self._placed(sides, size), activate(scores, self._activation)


class YoloHeads(Dense):
    """Raw heads ``head8``, ``head16`` … of YOLOv3 … v7: three anchors a cell, 5+C numbers each, before any activation.

    Settings: ``layout`` of a head; ``anchors``, a list of width, height … for each stride; ``formula`` ``exp`` (v3, v4) or ``square``
    (v5, v7); ``scale_xy`` for each stride (v4). Format: pjreddie/darknet yolo_layer.c, AlexeyAB/darknet, ultralytics/yolov5 yolo.py.
    """

    role = "head16"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._strides = _strides(subject)
        settings = subject.pipeline.settings
        anchors = [np.array(each, np.float64).reshape(-1, 2) for each in settings.get("anchors", ())]
        if len(anchors) != len(self._strides) or any(len(each) != 3 for each in anchors):
            raise Invalid("the manifest must give three anchors (width, height) for each stride")
        self._anchors = anchors
        self._layout = str(settings.get("layout", "CHW"))
        self._square = settings.get("formula", "exp") == "square"
        self._scale = [float(each) for each in settings.get("scale_xy", [1.0] * len(anchors))]

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        found, scores = [], []
        for stride, anchors, scale in zip(self._strides, self._anchors, self._scale, strict=True):
            grid = self._grid(outputs[f"head{stride}"], size[0] // stride, size[1] // stride)
            y, x = np.mgrid[: grid.shape[0], : grid.shape[1]][..., None]
            middle = activate(grid[..., :2], "sigmoid")
            if self._square:
                middle = middle * 2 - 0.5
                side = (activate(grid[..., 2:4], "sigmoid") * 2) ** 2 * anchors
            else:
                middle = middle * scale - (scale - 1) / 2
                side = _exp(grid[..., 2:4]) * anchors
            placed = np.stack(
                ((middle[..., 0] + x) * stride, (middle[..., 1] + y) * stride, side[..., 0], side[..., 1]), -1
            )
            chances = activate(grid[..., 4:], "sigmoid")
            found.append(corners(placed.reshape(-1, 4)))
            scores.append((chances[..., 1:] * chances[..., :1]).reshape(-1, chances.shape[-1] - 1))
        return np.concatenate(found), np.concatenate(scores)

    def _grid(self, head: Floats, height: int, width: int) -> Floats:
        """H×W×3×(5+C)."""
        match self._layout:
            case "HWAC" | "HWC":
                return head.reshape(height, width, 3, -1)
            case "AHWC":
                return head.reshape(3, height, width, -1).transpose(1, 2, 0, 3)
            case _:
                return head.reshape(3, -1, height, width).transpose(2, 3, 0, 1)


class YuNet(Dense):
    """Faces: ``cls8``, ``obj8``, ``bbox8`` … one candidate a cell, scored by the geometric mean of class and objectness.

    Format: ShiqiYu/libfacedetection, OpenCV modules/objdetect/src/face_detect.cpp.
    """

    role = "cls8"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._strides = _strides(subject)

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        every = {
            kind: np.concatenate([outputs[f"{kind}{stride}"].reshape(-1, width) for stride in self._strides])
            for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4))
        }
        x, y, stride = cells(size, self._strides)
        _fits(len(x), len(every["bbox"]))
        left, down, width, height = every["bbox"].T
        placed = np.stack(((x + left) * stride, (y + down) * stride, _exp(width) * stride, _exp(height) * stride), 1)
        return corners(placed), np.sqrt(every["cls"].clip(0, 1) * every["obj"].clip(0, 1))


class RtDetr(Dense):
    """[1,Q,4+C]: centre and size as fractions, then a score for each class; nothing to suppress (Ultralytics RT-DETR)."""

    unsuppressed = False

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = _rows(outputs["predictions"])
        return corners(rows[:, :4]), rows[:, 4:]


class Detr(Dense):
    """Logits [1,Q,C] and boxes [1,Q,4], centre and size as fractions (facebookresearch/detr, transformers)."""

    role = "scores"
    unsuppressed = False

    def __init__(self, subject: Subject) -> None:
        subject.roles("scores", "boxes")
        super().__init__(subject)
        self._relative = True
        self._activation = _activation(subject, "softmax")
        self._no_object = bool(subject.pipeline.settings.get("no_object", self._activation == "softmax"))

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        scores = activate(_rows(outputs["scores"]), self._activation)
        return corners(_rows(outputs["boxes"])), scores[:, :-1] if self._no_object else scores


class ScoresBoxes(Dense):
    """Scores [1,N,C] and boxes [1,N,4], as the settings say: ``boxes`` corners or centre, ``background``, ``activation``; undecoded
    ones by ``priors`` and ``variances`` (SSD: center, then size, both against a prior).
    """

    role = "scores"

    def __init__(self, subject: Subject) -> None:
        subject.roles("scores", "boxes")
        super().__init__(subject)
        settings = subject.pipeline.settings
        self._activation = _activation(subject, "none")
        self._background = settings.get("background")
        self._centre = settings.get("boxes", "corners") == "centre"
        self._decoded = bool(settings.get("decoded", True))
        self._variances = tuple(settings.get("variances", (0.1, 0.2)))
        if not self._decoded and settings.get("priors") != "ultra-light":
            raise Invalid("boxes that are not decoded need priors, and only those of ultra-light are known")

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        scores = activate(_rows(outputs["scores"]), self._activation).copy()
        if isinstance(self._background, int) and self._background < scores.shape[1]:
            scores[:, self._background] = 0.0
        found = _rows(outputs["boxes"])
        if not self._decoded:
            priors = ultra_light_priors(size)
            _fits(len(priors), len(found))
            middle = priors[:, :2] + found[:, :2] * self._variances[0] * priors[:, 2:]
            return corners(np.concatenate((middle, priors[:, 2:] * _exp(found[:, 2:] * self._variances[1])), 1)), scores
        return corners(found) if self._centre else found[:, [1, 0, 3, 2]], scores


def ultra_light_priors(size: tuple[int, int]) -> Floats:
    """N×4 centre x, y, width, height as fractions (Linzaer/Ultra-Light…: vision/ssd/config/fd_config.py)."""
    height, width = size
    rows: list[Floats] = []
    for stride, sides in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256))):
        x, y, _ = cells(size, (stride,))
        for_each = np.array([(side / width, side / height) for side in sides])
        down, across = -(-height // stride), -(-width // stride)
        middle = np.stack(((x + 0.5) / (width / stride), (y + 0.5) / (height / stride)), 1)
        assert len(middle) == down * across
        rows.append(np.concatenate((np.repeat(middle, len(sides), 0), np.tile(for_each, (len(middle), 1))), 1))
    priors: Floats = np.clip(np.concatenate(rows), 0.0, 1.0)
    return priors


def corners(rows: Floats) -> Floats:
    """N×4 centre x, y, width, height as ``top, left, bottom, right``."""
    x, y, width, height = rows.T
    return np.stack((y - height / 2, x - width / 2, y + height / 2, x + width / 2), 1)


def cells(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """Column, row and stride of every cell of an input of that height and width."""
    x, y, each = [], [], []
    for stride in strides:
        down, across = np.mgrid[: -(-size[0] // stride), : -(-size[1] // stride)]
        x.append(across.reshape(-1))
        y.append(down.reshape(-1))
        each.append(np.full(down.size, stride))
    return np.concatenate(x), np.concatenate(y), np.concatenate(each)


def activate(values: Floats, activation: str) -> Floats:
    """Scores of raw numbers; the classes are the last axis."""
    if activation == "sigmoid":
        return 1.0 / (1.0 + _exp(-values))
    if activation == "softmax":
        powers = _exp(values - values.max(axis=-1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
        return shares
    return values


def _exp(values: Floats) -> Floats:
    powers: Floats = np.exp(np.clip(values, -80, 80))
    return powers


def _rows(output: Floats) -> Floats:
    """The output without its batch of one."""
    if output.ndim == 2:
        return output
    if output.ndim != 3 or output.shape[0] != 1:
        raise Unavailable(f"an output has shape {list(output.shape)}: its manifest does not fit it")
    rows: Floats = output[0]
    return rows


def _strides(subject: Subject) -> tuple[int, ...]:
    strides = tuple(int(stride) for stride in subject.pipeline.settings.get("strides", (8, 16, 32)))
    if not strides or min(strides) < 1:
        raise Invalid("the manifest's strides must be positive")
    return strides


def _activation(subject: Subject, usual: str) -> str:
    found = str(subject.pipeline.settings.get("activation", usual))
    if found not in {"none", "sigmoid", "softmax"}:
        raise Invalid(f"the manifest's activation is {found!r}; none, sigmoid or softmax is needed")
    return found


def _fits(expected: int, actual: int) -> None:
    if expected != actual:
        raise Unavailable(
            f"the model answers {actual} candidates, its grids have {expected}: its manifest does not fit it"
        )
