"""Keypoints: ``poses``, each with named points ``[y, x]`` in pixels of the picture sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from farshore.serve.prepare import Placement
from farshore.serve.tasks import boxes, dense
from farshore.serve.tasks.subject import Outputs, Subject, Want

COCO = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow", "right elbow",
    "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
"""COCO's 17 keypoints in the order that every model of that data set uses."""


class MoveNet:
    """One person: [1,1,K,3] of (y, x, score), places as fractions of the input.

    Format: tfhub.dev/google/movenet/singlepose.
    """

    role = "keypoints"

    def __init__(self, subject: Subject) -> None:
        subject.roles(self.role)
        self._subject = subject
        self._threshold = subject.number("threshold", 0.0)

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        points = outputs["keypoints"].reshape(-1, 3)
        where = place.points(points[:, :2] * np.array(place.size, np.float32))
        least = self._threshold if want.threshold is None else want.threshold
        told = self._told(points[:, 2], where, least)
        return {"poses": [pose(float(points[:, 2].mean()), told)] if told else []}

    def _told(self, scores: NDArray[Any], where: NDArray[Any], least: float = float("-inf")) -> list[dict[str, Any]]:
        """Points with their names, in their order; those that score less are left out."""
        return [
            {
                "name": self._name(number, len(scores)),
                "score": round(float(score), 4),
                "point": [round(float(where[number][0]), 2), round(float(where[number][1]), 2)],
            }
            for number, score in enumerate(scores)
            if score >= least
        ]

    def _name(self, number: int, count: int) -> str:
        """Labels name the points if there is one for each; Ultralytics' name the class instead, ``person``."""
        if len(self._subject.labels) == count:
            return self._subject.label(number)
        return COCO[number] if count == len(COCO) else str(number)


class MoveNetMultiPose(MoveNet):
    """Six people: [1,6,56], 17 points of (y, x, score), then a box (top, left, bottom, right) and its score; fractions.

    Format: tfhub.dev/google/movenet/multipose.
    """

    role = "poses"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._threshold = subject.number("threshold", 0.3)

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        least = self._threshold if want.threshold is None else want.threshold
        side = np.array(place.size, np.float32)
        poses = []
        for row in outputs["poses"].reshape(-1, 56):
            if row[55] >= least:
                points = row[:51].reshape(17, 3)
                box = place.boxes(row[None, 51:55] * np.concatenate((side, side)))[0]
                where = place.points(points[:, :2] * side)
                poses.append(pose(float(row[55]), self._told(points[:, 2], where), box))
        poses.sort(key=lambda each: -each["score"])
        return {"poses": poses[: want.top]}


class YoloPose(MoveNet):
    """[1,5+3K,N]: centre x, y, width, height, score, then K points of x, y, score; to be suppressed (Ultralytics)."""

    role = "predictions"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._threshold, self._iou = subject.number("threshold", 0.25), subject.number("iou", 0.45)
        self._relative = subject.pipeline.settings.get("coordinates", "pixels") == "relative"

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        rows = outputs["predictions"].reshape(outputs["predictions"].shape[-2:]).T
        least = self._threshold if want.threshold is None else want.threshold
        rows = rows[rows[:, 4] >= least].astype(np.float64)
        height, width = place.size if self._relative else (1, 1)
        found = dense.corners(rows[:, :4]) * np.array([height, width, height, width])
        kept = boxes.suppress(found, rows[:, 4], np.zeros(len(rows)), self._iou)[: want.top or 100]
        told = place.boxes(found[kept])
        poses = []
        for number, row in enumerate(rows[kept]):
            points = row[5:].reshape(-1, 3)
            where = place.points(points[:, 1::-1] * np.array([height, width]))
            poses.append(pose(float(row[4]), self._told(points[:, 2], where), told[number]))
        return {"poses": poses}


class HeatMaps(MoveNet):
    """[1,K,H/4,W/4] (layout CHW) or [1,H/4,W/4,K] (HWC): the place of each point is the maximum of its map (HRNet and kin)."""

    role = "heatmaps"

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        maps: NDArray[Any] = outputs["heatmaps"].reshape(outputs["heatmaps"].shape[-3:])
        if self._subject.pipeline.settings.get("layout", "CHW") == "HWC":
            maps = maps.transpose(2, 0, 1)
        flat = maps.reshape(len(maps), -1)
        best = flat.argmax(axis=1)
        y, x = np.divmod(best, maps.shape[2])
        scale = np.array([place.size[0] / maps.shape[1], place.size[1] / maps.shape[2]])
        where = place.points((np.stack((y, x), 1) + 0.5) * scale)
        scores = flat[np.arange(len(maps)), best]
        least = self._threshold if want.threshold is None else want.threshold
        told = self._told(scores, where, least)
        return {"poses": [pose(float(scores.mean()), told)] if told else []}


def pose(score: float, points: list[dict[str, Any]], box: Any = None) -> dict[str, Any]:
    """One person as the answer tells it."""
    told: dict[str, Any] = {"score": round(score, 4), "keypoints": points}
    if box is not None:
        told["box"] = [round(float(edge), 2) for edge in box]
    return told
