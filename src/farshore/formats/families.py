"""The recognition table: every model family, in the order in which rows are tried. Described in docs/formats/recognition.md."""

from __future__ import annotations

from farshore.formats.detection_families import DETECTION
from farshore.formats.family import Facts, Family, Match
from farshore.formats.other_families import OTHERS, TENSORS, tensors

_FIRST = ("movenet", "movenet-multipose", "yolov8-pose", "yolov8-seg", "yolov5-seg")
"""Rows that look at the same shapes as some of detection's, but more closely."""

FAMILIES: tuple[Family, ...] = (
    *(family for family in OTHERS if family.decoder in _FIRST),
    *DETECTION,
    *(family for family in OTHERS if family.decoder not in _FIRST),
    TENSORS,
)

BY_DECODER: dict[str, Family] = {family.decoder: family for family in FAMILIES}


def first_match(facts: Facts, task: str | None = None) -> tuple[Family, Match]:
    """The first row that fits.

    Args:
        facts: of the model.
        task: look only at rows of this task; None looks at all.

    Returns:
        The row and what it says; ``tensors`` fits everything.

    """
    for family in FAMILIES:
        if task in {None, family.task}:
            found = family.match(facts)
            if found is not None:
                return family, found
    return TENSORS, tensors(facts)
