"""Boxes: which to keep, how much two overlap, how they are told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from farshore.serve.tasks.subject import Subject, Want

MOST = 1000
"""Boxes that go into suppression at most: its cost grows with their square."""


def tell(
    subject: Subject, classes: NDArray[Any], scores: NDArray[Any], boxes: NDArray[Any], want: Want, threshold: float
) -> dict[str, Any]:
    """The answer's ``detections``, best first.

    Args:
        subject: for names.
        classes: N class numbers.
        scores: N scores, 0…1.
        boxes: N×4 ``top, left, bottom, right`` in pixels of the picture.
        want: the request's own threshold and number of answers.
        threshold: the model's, if the request gives none.

    """
    least = threshold if want.threshold is None else want.threshold
    top = int(subject.number("top", 100)) if want.top is None else want.top
    good = np.flatnonzero(scores >= least)
    good = good[np.argsort(-scores[good], kind="stable")][:top]
    return {
        "detections": [
            {
                "class": subject.label(int(classes[i])),
                "score": round(float(scores[i]), 4),
                "box": [round(float(edge), 2) for edge in boxes[i]],
            }
            for i in good
            if np.isfinite(scores[i]) and np.isfinite(boxes[i]).all()
        ]
    }


def suppress(boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], iou: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: N×4 corners.
        scores: N.
        classes: N; boxes of different classes never suppress each other.
        iou: overlap above which the worse of two goes.

    Returns:
        Indices of the boxes that stay, best first; only the best ``MOST`` are looked at.

    """
    order = np.argsort(-scores, kind="stable")[:MOST]
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        overlaps = iou_of(boxes[best], boxes[rest])
        order = rest[(overlaps <= iou) | (classes[rest] != classes[best])]
    return np.array(kept, np.intp)


def iou_of(box: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of one box with N others (corners in any one order of axes)."""
    box, others = box.astype(np.float64), others.astype(np.float64)
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(np.clip(box[2:] - box[:2], 0, None))
    areas = np.prod(np.clip(others[:, 2:] - others[:, :2], 0, None), axis=1)
    union = area + areas - inner
    shares: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return shares
