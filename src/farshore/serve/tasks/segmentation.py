"""Segmentation: ``classes`` with their share of the picture, and the class map as runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from farshore.core.errors import Invalid, Unavailable
from farshore.serve.prepare import Placement
from farshore.serve.tasks.subject import Outputs, Subject, Want


class ClassMap:
    """A class for each pixel: class numbers (layout HW), or numbers for each class, of which the largest wins (HWC, CHW).

    The answer's ``map`` has the part of the output that shows the picture, row by row from the top, as runs ``[class, length]``;
    its ``height`` and ``width`` are the map's own, and it covers the whole picture.
    """

    def __init__(self, subject: Subject) -> None:
        subject.roles("map")
        self._subject = subject
        self._layout = str(subject.pipeline.settings.get("layout", "HW"))
        if self._layout not in {"HW", "HWC", "CHW"}:
            raise Invalid(f"the manifest's layout of the map is {self._layout!r}; HW, HWC or CHW is needed")

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        classes = self._classes(outputs["map"])
        classes = crop(classes, place)
        numbers, counts = np.unique(classes, return_counts=True)
        shares = sorted(zip(numbers.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
        return {
            "classes": [
                {"class": self._subject.label(number), "number": number, "share": round(count / classes.size, 4)}
                for number, count in shares
            ],
            "map": {"height": classes.shape[0], "width": classes.shape[1], "runs": runs(classes.reshape(-1))},
        }

    def _classes(self, found: NDArray[Any]) -> NDArray[Any]:
        """H×W class numbers."""
        if found.ndim < len(self._layout):
            raise Unavailable("the model's map has fewer dimensions than its manifest says")
        if self._layout == "HW":
            flat = [side for side in found.shape if side != 1]
            return found.reshape(flat[-2:] if len(flat) >= 2 else found.shape[-2:]).astype(np.int64)
        found = found.reshape(found.shape[-3:])
        classes: NDArray[Any] = found.argmax(axis=2 if self._layout == "HWC" else 0)
        return classes


def crop(found: NDArray[Any], place: Placement) -> NDArray[Any]:
    """The part of a map of the whole input that shows the picture."""
    y, x = found.shape[0] / place.size[0], found.shape[1] / place.size[1]
    top, left = round(place.top * y), round(place.left * x)
    bottom, right = round((place.top + place.height) * y), round((place.left + place.width) * x)
    return found[top : max(top + 1, bottom), left : max(left + 1, right)]


def runs(flat: NDArray[Any]) -> list[list[int]]:
    """Equal neighbours as ``[value, length]``."""
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    lengths = np.diff(np.concatenate((starts, [flat.size])))
    return [[int(value), int(length)] for value, length in zip(flat[starts], lengths, strict=True)]
