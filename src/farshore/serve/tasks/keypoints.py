"""Keypoints: ``poses``, each with named points ``[y, x]`` in pixels of the picture sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from farshore.serve.prepare import Placement
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

    def __init__(self, subject: Subject) -> None:
        subject.roles("keypoints")
        self._subject = subject
        self._threshold = subject.number("threshold", 0.0)

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        points = outputs["keypoints"].reshape(-1, 3)
        where = place.points(points[:, :2] * np.array(place.size, np.float32))
        least = self._threshold if want.threshold is None else want.threshold
        told = [
            {
                "name": self._name(number, len(points)),
                "score": round(float(point[2]), 4),
                "point": [round(float(where[number][0]), 2), round(float(where[number][1]), 2)],
            }
            for number, point in enumerate(points)
            if point[2] >= least
        ]
        score = round(float(points[:, 2].mean()), 4) if len(points) else 0.0
        return {"poses": [{"score": score, "keypoints": told}] if told else []}

    def _name(self, number: int, count: int) -> str:
        if not self._subject.labels and count == len(COCO):
            return COCO[number]
        return self._subject.label(number)
