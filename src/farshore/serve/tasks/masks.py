"""Detectors that also say which pixels: ``segments`` with class, score, box and mask (Ultralytics YOLO-seg).

Each candidate has 32 numbers; the mask is where their sum over 32 prototype maps, so weighted, is above zero, inside the box.
Format: ultralytics/utils/ops.py, process_mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from farshore.core.errors import Unavailable
from farshore.serve.prepare import Placement
from farshore.serve.tasks import boxes
from farshore.serve.tasks.dense import Dense, Floats, corners
from farshore.serve.tasks.segmentation import crop, runs
from farshore.serve.tasks.subject import Outputs, Subject, Want

PROTOTYPES = 32


class YoloV8Seg(Dense):
    """[1,4+C+32,N] and prototypes [1,32,H/4,W/4] (or channels last)."""

    def __init__(self, subject: Subject) -> None:
        subject.roles("predictions", "prototypes")
        super().__init__(subject)

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        chosen, found, scores, classes = self.choose(outputs, place.size, want)
        top = int(self._subject.number("top", 100)) if want.top is None else want.top
        chosen, found, scores, classes = chosen[:top], found[:top], scores[:top], classes[:top]
        told = boxes.tell(self._subject, classes, scores, place.boxes(found), Want(0.0, top), 0.0)["detections"]
        if len(told) != len(chosen):
            raise Unavailable("the model's boxes are not finite")
        maps = _maps(outputs["prototypes"])
        weights = self._rows(outputs)[chosen, -PROTOTYPES:]
        masks = np.einsum("np,phw->nhw", weights, maps) > 0
        return {"segments": [{**one, "mask": _told(masks[n], found[n], place)} for n, one in enumerate(told)]}

    def _rows(self, outputs: Outputs) -> Floats:
        """N rows: box, (objectness,) classes, weights."""
        found = outputs["predictions"]
        rows: Floats = found.reshape(found.shape[-2], found.shape[-1]).T
        return rows

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = self._rows(outputs)
        return corners(rows[:, :4]), rows[:, 4:-PROTOTYPES]


class YoloV5Seg(YoloV8Seg):
    """[1,N,5+C+32] with objectness, and the same prototypes."""

    def _rows(self, outputs: Outputs) -> Floats:
        found = outputs["predictions"]
        rows: Floats = found.reshape(found.shape[-2], found.shape[-1])
        return rows

    def _candidates(self, outputs: Outputs, size: tuple[int, int]) -> tuple[Floats, Floats]:
        rows = self._rows(outputs)
        return corners(rows[:, :4]), rows[:, 5:-PROTOTYPES] * rows[:, 4:5]


def _maps(found: Floats) -> Floats:
    """32×H×W."""
    if found.ndim != 4 or PROTOTYPES not in (found.shape[1], found.shape[3]):
        raise Unavailable(f"prototypes of shape {list(found.shape)}: the manifest does not fit the model")
    maps: Floats = found[0] if found.shape[1] == PROTOTYPES else found[0].transpose(2, 0, 1)
    return maps


def _told(mask: NDArray[np.bool_], box: Floats, place: Placement) -> dict[str, Any]:
    """A mask inside its box, over the part of the map that shows the picture."""
    y, x = mask.shape[0] / place.size[0], mask.shape[1] / place.size[1]
    down, across = np.arange(mask.shape[0])[:, None] + 0.5, np.arange(mask.shape[1])[None] + 0.5
    top, left, bottom, right = box * np.array([y, x, y, x])
    inside = mask & (down >= top) & (down < bottom) & (across >= left) & (across < right)
    inside = crop(inside, place)
    return {"height": inside.shape[0], "width": inside.shape[1], "runs": runs(inside.astype(np.int64).reshape(-1))}
