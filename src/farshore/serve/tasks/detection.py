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


class Final:
    """Boxes that are final: ``boxes`` [1,K,4] as left, top, right, bottom; ``scores``, ``classes``, and ``count`` if there is one.

    EfficientNMS gives pixels of the input; RT-DETR with decoding inside gives pixels of the picture, through ``image_shape``.
    """

    def __init__(self, subject: Subject) -> None:
        subject.roles("boxes", "scores", "classes")
        self._subject = subject
        self._threshold = subject.number("threshold", 0.25)
        self._of_picture = "image_shape" in subject.pipeline.settings

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        scores, classes = outputs["scores"].reshape(-1), outputs["classes"].reshape(-1)
        count = int(outputs["count"].reshape(-1)[0]) if "count" in outputs else scores.size
        count = max(0, min(count, scores.size))
        found = outputs["boxes"].reshape(-1, 4)[:count, [1, 0, 3, 2]]
        told = place.clip(found) if self._of_picture else place.boxes(found)
        return boxes.tell(self._subject, classes[:count], scores[:count], told, want, self._threshold)


class Rows:
    """One output of final rows: corners in pixels of the input (or fractions), score and class.

    ``columns`` says where they stand: Ultralytics has left, top, right, bottom, score, class; YOLOv7 puts the picture's number first
    and the class before the score.
    """

    columns = (1, 0, 3, 2, 4, 5)

    def __init__(self, subject: Subject) -> None:
        subject.roles("detections")
        self._subject = subject
        self._threshold = subject.number("threshold", 0.25)
        self._relative = subject.pipeline.settings.get("coordinates", "pixels") == "relative"

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        rows = outputs["detections"]
        rows = rows.reshape(-1, rows.shape[-1])[:, self.columns].astype(np.float64)
        if self._relative:
            height, width = place.size
            rows[:, :4] *= np.array([height, width, height, width])
        return boxes.tell(self._subject, rows[:, 5], rows[:, 4], place.boxes(rows[:, :4]), want, self._threshold)


class RowsOfYoloV7(Rows):
    """[K,7]: picture, left, top, right, bottom, class, score."""

    columns = (2, 1, 4, 3, 6, 5)
