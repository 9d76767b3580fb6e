"""Does an answer say what an acceptance case expects? Pure comparison; the worker answers the pictures.

Every member of the expectation must be in the answer; lists of things (detections, classes, poses) are matched one to one, in
any order, each expected one with an answer of the same class, a score near enough, a box that overlaps enough.
"""

from __future__ import annotations

import math
from typing import Any

from farshore.core.manifest import AcceptanceCase

_HAIR = 1e-9
"""Tolerances are written in decimals: 0.8 − 0.5 is 0.3 there."""


def missed(case: AcceptanceCase, answer: dict[str, Any]) -> str:
    """What ``answer`` misses of what ``case`` expects, in one line; "" if nothing.

    Args:
        case: with its tolerances.
        answer: the members of ``/score``'s JSON.

    """
    for member, expected in case.expect.items():
        if member not in answer:
            return f"the answer has no {member!r}"
        why = _compare(expected, answer[member], case, member)
        if why:
            return why
    return ""


def iou(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes ``top, left, bottom, right``."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    inner = max(0.0, height) * max(0.0, width)
    union = _area(one) + _area(other) - inner
    return inner / union if union > 0 else 0.0


def _compare(expected: Any, actual: Any, case: AcceptanceCase, where: str) -> str:
    if isinstance(expected, list) and all(isinstance(item, dict) and "class" in item for item in expected):
        return _match(expected, actual, case, where)
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            if key not in actual:
                return f"{where} has no {key!r}"
            why = _compare(value, actual[key], case, f"{where}.{key}")
            if why:
                return why
        return ""
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"{where}: {len(actual)} values, expected {len(expected)}"
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            why = _compare(one, other, case, f"{where}[{index}]")
            if why:
                return why
        return ""
    if _number(expected) and _number(actual):
        near = abs(expected - actual) <= case.score + _HAIR
        return "" if near else f"{where}: {_short(actual)}, expected {_short(expected)} ± {case.score:g}"
    return "" if expected == actual else f"{where}: {_short(actual)}, expected {_short(expected)}"


def _match(expected: list[dict[str, Any]], actual: Any, case: AcceptanceCase, where: str) -> str:
    """One to one; the expected ones choose in their order, each the answer that fits best."""
    if not isinstance(actual, list):
        return f"{where} is no list"
    if not expected and actual:
        # A picture that shows nothing is a case, too.
        return f"{where}: {len(actual)} found ({_name(actual[0])}), expected none"
    left = [item for item in actual if isinstance(item, dict)]
    for wanted in expected:
        same = [item for item in left if item.get("class") == wanted["class"]]
        if not same:
            seen = ", ".join(sorted({_name(item) for item in left})[:5]) or "nothing"
            return f"{where}: no {wanted['class']!r} (left: {seen})"
        best = max(same, key=lambda item: _likeness(wanted, item))
        why = _differs(wanted, best, case)
        if why:
            return f"{where}: {wanted['class']!r} {why}"
        left.remove(best)
    return ""


def _likeness(wanted: dict[str, Any], item: dict[str, Any]) -> float:
    likeness = 0.0
    if "box" in wanted:
        likeness += iou(wanted["box"], item.get("box", [0, 0, 0, 0]))
    if _number(wanted.get("score")) and _number(item.get("score")):
        likeness -= 0.001 * abs(wanted["score"] - item["score"])
    return likeness


def _differs(wanted: dict[str, Any], item: dict[str, Any], case: AcceptanceCase) -> str:
    if "box" in wanted:
        overlap = iou(wanted["box"], item.get("box", [0, 0, 0, 0]))
        if overlap < case.iou - _HAIR:
            return f"overlaps {overlap:.2f} with the expected box, needs {case.iou:g}"
    if _number(wanted.get("score")):
        score = item.get("score", math.nan)
        if not abs(score - wanted["score"]) <= case.score + _HAIR:
            return f"scores {score:.3f}, expected {wanted['score']:.3f} ± {case.score:g}"
    return ""


def _area(box: list[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(item: Any) -> str:
    return str(item.get("class", "?"))[:40] if isinstance(item, dict) else "?"


def _short(value: Any) -> str:
    return repr(value)[:60]
