"""How far two answers to one picture are the same, from 0 to 1, and what they found. Pure.

An answer is the members of ``/score``'s JSON. By task:

* classification: 1 if the best class is the same, else 0;
* detections, and segments of instances: both sides' findings are matched one to one, the surest first, each with the one of the
  same class that it overlaps most, by :data:`OVERLAP` at least. The share is 2 · matched ÷ (findings of both), which is the F1
  measure of one against the other, and 1 where neither found anything;
* poses: the same, where a pose matches another if at least half of all their points lie nearer than :data:`NEAR` times the larger
  one's diagonal (as in PCK: Y. Yang and D. Ramanan, *Articulated human detection with flexible mixtures of parts*, 2013);
* class maps: the share of places with the same class;
* tensors: the share of numbers that differ by no more than :data:`ROUGH` + :data:`SHARE` of the larger one.

Answers that have nothing in common that could be compared (a drawn picture, maps or tensors of other sizes) are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from farshore.core.sketch import Findings
from farshore.serve.probe import iou

OVERLAP = 0.5
NEAR = 0.1
ROUGH, SHARE = 1e-3, 1e-2
MOST = 300
"""Findings of one answer that are looked at: a model that finds thousands of things must not cost minutes."""

Answer = dict[str, Any]
Likeness = Callable[[Any, Any], float]


def agreement(before: Answer, after: Answer) -> float | None:
    """How far ``after`` says what ``before`` says, 0 to 1; None if they cannot be compared."""
    for member in ("detections", "segments"):
        if member in before and member in after:
            return _matched(before[member], after[member], _overlap, OVERLAP)
    if "poses" in before and "poses" in after:
        return _matched(before["poses"], after["poses"], _posture, 0.5)
    if "map" in before and "map" in after:
        return _same_places(before["map"], after["map"])
    if "classes" in before and "classes" in after:
        return float(_best(before["classes"]) == _best(after["classes"]))
    if "outputs" in before and "outputs" in after:
        return _same_numbers(before["outputs"], after["outputs"])
    return None


def findings(answer: Answer) -> Findings:
    """Class and confidence of what was found, for a sketch: every detection or pose; of a classification the best class."""
    for member in ("detections", "segments"):
        if member in answer:
            return [(str(each["class"]), float(each["score"])) for each in answer[member][:MOST]]
    if "poses" in answer:
        return [("pose", float(each["score"])) for each in answer["poses"][:MOST]]
    return [(str(each["class"]), float(each["score"])) for each in answer.get("classes", [])[:1] if "score" in each]


def _matched(one: Sequence[Any], other: Sequence[Any], likeness: Likeness, least: float) -> float:
    """Greedy matching: the surest of ``one`` choose first."""
    total = min(len(one), MOST) + min(len(other), MOST)
    if not total:
        return 1.0
    left, matched = list(other[:MOST]), 0
    for wanted in sorted(one[:MOST], key=lambda each: -each["score"]):
        best = max(left, key=lambda each: likeness(wanted, each), default=None)
        if best is not None and likeness(wanted, best) >= least:
            left = [each for each in left if each is not best]
            matched += 1
    return 2 * matched / total


def _overlap(one: Answer, other: Answer) -> float:
    return iou(one["box"], other["box"]) if one["class"] == other["class"] else -1.0


def _posture(one: Answer, other: Answer) -> float:
    """The share of named points, of all that either has, that lie near each other."""
    here, there = _points(one), _points(other)
    names = here.keys() | there.keys()
    if not names:
        return 0.0
    near = NEAR * max(_diagonal(here), _diagonal(there), 1.0)
    return sum(math.dist(here[name], there[name]) <= near for name in here.keys() & there.keys()) / len(names)


def _points(pose: Answer) -> dict[str, list[float]]:
    return {str(each["name"]): each["point"] for each in pose["keypoints"]}


def _diagonal(points: dict[str, list[float]]) -> float:
    if not points:
        return 0.0
    high, wide = zip(*points.values(), strict=True)
    return math.hypot(max(high) - min(high), max(wide) - min(wide))


def _best(classes: Sequence[Answer]) -> Any:
    return classes[0]["class"] if classes else None


def _same_places(one: Answer, other: Answer) -> float | None:
    """Both maps as runs ``[class, length]``, walked together."""
    total = one["height"] * one["width"]
    if (one["height"], one["width"]) != (other["height"], other["width"]) or not total:
        return None
    same, left, right = 0, iter(one["runs"]), iter(other["runs"])
    here, there = next(left, None), next(right, None)
    while here is not None and there is not None:
        step = min(here[1], there[1])
        same += step if here[0] == there[0] else 0
        here = [here[0], here[1] - step] if here[1] > step else next(left, None)
        there = [there[0], there[1] - step] if there[1] > step else next(right, None)
    return float(same / total)


def _same_numbers(one: Answer, other: Answer) -> float | None:
    if {name: each["shape"] for name, each in one.items()} != {name: each["shape"] for name, each in other.items()}:
        return None
    pairs = [(a, b) for name in one for a, b in zip(one[name]["data"], other[name]["data"], strict=False)]
    return sum(_near(a, b) for a, b in pairs) / len(pairs) if pairs else None


def _near(one: Any, other: Any) -> bool:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return bool(one == other)  # what JSON cannot say is null on both sides
    return abs(one - other) <= ROUGH + SHARE * max(abs(one), abs(other))
