"""How far two answers are the same: tables."""

from __future__ import annotations

import random

import pytest

from farshore.serve.agreement import MOST, agreement, findings


def box(top: float, left: float = 0.0, size: float = 10.0) -> list[float]:
    return [top, left, top + size, left + size]


def ship(top: float = 0.0, score: float = 0.9, name: str = "ship") -> dict:
    return {"class": name, "score": score, "box": box(top)}


def found(*things: dict, member: str = "detections") -> dict:
    return {member: list(things)}


SAME, NEAR, FAR = ship(0), ship(3), ship(4)  # overlaps of 1, 7/13 and 6/14 with the first


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ([], [], 1.0),
        ([SAME], [], 0.0),
        ([], [SAME], 0.0),
        ([SAME], [SAME], 1.0),
        ([SAME], [NEAR], 1.0),
        ([SAME], [FAR], 0.0),
        ([SAME], [ship(0, name="buoy")], 0.0),
        ([SAME], [ship(0, score=0.2)], 1.0),
        ([SAME, ship(50)], [ship(50), SAME], 1.0),
        ([SAME, ship(50)], [SAME], 2 / 3),
        ([SAME], [SAME, NEAR], 2 / 3),  # one thing found twice is one too many
        ([SAME, ship(50), ship(90)], [NEAR, ship(50, name="buoy")], 2 / 5),
    ],
)
@pytest.mark.parametrize("member", ["detections", "segments"])
def test_detections(member, before, after, share):
    assert agreement(found(*before, member=member), found(*after, member=member)) == pytest.approx(share)


def test_the_surest_choose_first():
    """Two of one class close together: the surer takes the better match, the other one what is left."""
    before = found(ship(2, 0.5), ship(0, 0.9))
    after = found(ship(0, 0.9), ship(4, 0.9))
    assert agreement(before, after) == 1.0


def test_thousands_of_findings_cost_no_minutes():
    chance = random.Random(1)
    many = found(*(ship(chance.uniform(0, 1000)) for _ in range(5000)))
    assert agreement(many, many) == 1.0
    assert len(findings(many)) == MOST


def classes(*names: str, score: float = 0.8) -> dict:
    return {"classes": [{"class": name, "score": score} for name in names]}


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (classes("cat", "dog"), classes("cat", "fox", score=0.4), 1.0),
        (classes("cat", "dog"), classes("dog", "cat"), 0.0),
        (classes(), classes(), 1.0),
        (classes("cat"), classes(), 0.0),
    ],
)
def test_classification_goes_by_the_best_class(before, after, share):
    assert agreement(before, after) == share


def pose(shift: float = 0.0, lost: int = 0, score: float = 0.9) -> dict:
    points = [{"name": str(number), "score": 0.9, "point": [10.0 * number + shift, 0.0]} for number in range(11 - lost)]
    return {"score": score, "keypoints": points}


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ([], [], 1.0),
        ([pose()], [pose(9.9)], 1.0),  # a tenth of its size of 100
        ([pose()], [pose(10.1)], 0.0),
        ([pose()], [pose(lost=5)], 1.0),  # six of eleven points
        ([pose()], [pose(lost=6)], 0.0),
        ([pose(), pose(300.0)], [pose(300.0)], 2 / 3),
        ([{"score": 1.0, "keypoints": []}], [{"score": 1.0, "keypoints": []}], 0.0),
    ],
)
def test_poses(before, after, share):
    assert agreement({"poses": before}, {"poses": after}) == pytest.approx(share)


def plan(*runs: list[int], height: int = 2, width: int = 4) -> dict:
    return {"classes": [{"class": "sea", "share": 1.0}], "map": {"height": height, "width": width, "runs": [*runs]}}


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (plan([0, 8]), plan([0, 8]), 1.0),
        (plan([0, 8]), plan([1, 8]), 0.0),
        (plan([0, 3], [1, 5]), plan([0, 5], [1, 3]), 6 / 8),
        (plan([0, 1], [1, 1], [0, 6]), plan([0, 8]), 7 / 8),
        (plan([0, 8]), plan([0, 8], height=4, width=2), None),
        (plan(height=0), plan(height=0), None),
        (plan([0, 8]), plan([0, 4]), 0.5),  # a map that ends early
    ],
)
def test_class_maps_place_by_place(before, after, share):
    assert agreement(before, after) == share


def tensors(data: list, shape: list[int] | None = None, name: str = "y") -> dict:
    return {"outputs": {name: {"dtype": "float32", "shape": shape or [len(data)], "data": data}}}


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (tensors([1.0, 100.0]), tensors([1.01, 101.0]), 1.0),
        (tensors([1.0, 100.0]), tensors([1.02, 100.0]), 0.5),
        (tensors([0.0]), tensors([0.001]), 1.0),
        (tensors([0.0, None]), tensors([0.01, None]), 0.5),
        (tensors([1.0]), tensors([1.0], name="z"), None),
        (tensors([1.0, 2.0]), tensors([1.0, 2.0], shape=[1, 2]), None),
        (tensors([]), tensors([]), None),
    ],
)
def test_tensors_number_by_number(before, after, share):
    assert agreement(before, after) == share


def test_answers_of_other_kinds_cannot_be_compared():
    assert agreement({"picture": {"width": 1}}, {"picture": {"width": 1}}) is None
    assert agreement(classes("cat"), found(SAME)) is None


def test_what_was_found_for_a_sketch():
    assert findings(found(SAME, ship(score=0.3, name="buoy"))) == [("ship", 0.9), ("buoy", 0.3)]
    assert findings(classes("cat", "dog")) == [("cat", 0.8)]
    assert findings({"poses": [pose(score=0.7)]}) == [("pose", 0.7)]
    assert findings(plan([0, 8])) == []
    assert findings(tensors([1.0])) == []
