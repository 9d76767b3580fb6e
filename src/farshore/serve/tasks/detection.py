"""Detection: ``detections`` with class, score and box in pixels of the picture sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from farshore.core.errors import Unavailable
from farshore.serve.prepare import Placement
from farshore.serve.tasks import boxes
from farshore.serve.tasks.subject import Outputs, Subject, Want


class TfliteSsd:
    """``TFLite_Detection_PostProcess``: boxes [1,K,4] as fractions of the input, classes, scores, count.

    Format: tensorflow/lite/kernels/detection_postprocess.cc. The class numbers leave out the background.
    """

    def __init__(self, subject: Subject) -> None:
        subject.roles("boxes", "classes", "scores")
        self._subject = subject
        self._threshold = subject.number("threshold", 0.5)

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        scores = outputs["scores"].reshape(-1)
        count = int(outputs["count"].reshape(-1)[0]) if "count" in outputs else scores.size
        count = max(0, min(count, scores.size))
        height, width = place.size
        fractions = outputs["boxes"].reshape(-1, 4)[:count]
        corners = place.boxes(fractions * np.array([height, width, height, width], np.float32))
        return boxes.tell(
            self._subject, outputs["classes"].reshape(-1)[:count], scores[:count], corners, want, self._threshold
        )


class TinyYoloV3:
    """Three outputs of YOLOv3 with suppression inside: boxes [1,N,4] in pixels of the picture, scores [1,C,N], indices [1,M,3].

    Format: onnx/models, vision/object_detection_segmentation/tiny-yolov3. Indices are (batch, class, box).
    """

    def __init__(self, subject: Subject) -> None:
        subject.roles("boxes", "scores", "indices")
        self._subject = subject
        self._threshold = subject.number("threshold", 0.0)

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        found, shape = outputs["boxes"].reshape(-1, 4), outputs["scores"].shape
        scores = outputs["scores"].reshape(shape[-2], shape[-1])
        chosen = outputs["indices"].reshape(-1, 3)
        chosen = chosen[(chosen >= 0).all(axis=1)]
        classes, numbers = chosen[:, 1], chosen[:, 2]
        if chosen.size and (classes.max() >= scores.shape[0] or numbers.max() >= min(len(found), scores.shape[1])):
            raise Unavailable("the model's indices point outside its boxes")
        return boxes.tell(
            self._subject, classes, scores[classes, numbers], place.clip(found[numbers]), want, self._threshold
        )
