"""Whether an answer meets an expectation, by rows."""

from __future__ import annotations

import pytest

from farshore.core.manifest import AcceptanceCase, File
from farshore.serve.probe import iou, missed

CAT = {"class": "cat", "score": 0.8, "box": [10, 10, 50, 50]}
DOG = {"class": "dog", "score": 0.6, "box": [60, 60, 90, 90]}


def case(expect, **tolerance):
    return AcceptanceCase("c", File("p.png", "sha256:" + "0" * 64, 1, "picture"), expect, **tolerance)


def but(item, **changed):
    return {**item, **changed}


MET = [
    ("equal", {"detections": [CAT]}, {"detections": [CAT]}),
    ("more is found than expected", {"detections": [CAT]}, {"detections": [DOG, CAT]}),
    ("in another order", {"detections": [CAT, DOG]}, {"detections": [DOG, CAT]}),
    ("a little off", {"detections": [CAT]}, {"detections": [but(CAT, score=0.71, box=[12, 8, 52, 48])]}),
    ("of two cats the right one", {"detections": [CAT]}, {"detections": [but(CAT, box=[0, 0, 5, 5], score=0.9), CAT]}),
    ("a class alone", {"detections": [{"class": "cat"}]}, {"detections": [CAT]}),
    ("nothing expected, nothing found", {"detections": []}, {"detections": []}),
    ("classification", {"classes": [{"class": "cat", "score": 0.5}]}, {"classes": [{"class": "cat", "score": 0.45}]}),
    ("other members do not matter", {"detections": [CAT]}, {"detections": [CAT], "timing": {}}),
    (
        "numbers",
        {"outputs": {"y": {"shape": [2], "data": [1.0, 2.0]}}},
        {"outputs": {"y": {"shape": [2], "data": [1.05, 1.95]}}},
    ),
]

MISSED = [
    ("no such member", {"classes": []}, {"detections": []}, "no 'classes'"),
    ("not found", {"detections": [CAT]}, {"detections": [DOG]}, "no 'cat' (left: dog)"),
    ("nothing found", {"detections": [CAT]}, {"detections": []}, "left: nothing"),
    ("score", {"detections": [CAT]}, {"detections": [but(CAT, score=0.65)]}, "scores 0.650, expected 0.800 ± 0.1"),
    ("place", {"detections": [CAT]}, {"detections": [but(CAT, box=[40, 40, 80, 80])]}, "overlaps 0.03"),
    ("one answer meets one expectation", {"detections": [CAT, CAT]}, {"detections": [CAT]}, "no 'cat'"),
    ("an empty scene", {"detections": []}, {"detections": [CAT]}, "1 found (cat), expected none"),
    ("no score", {"detections": [CAT]}, {"detections": [{"class": "cat", "box": [10, 10, 50, 50]}]}, "scores nan"),
    ("no list", {"detections": [CAT]}, {"detections": "cat"}, "no list"),
    ("length", {"data": [1.0]}, {"data": [1.0, 2.0]}, "2 values, expected 1"),
    ("number", {"data": [1.0]}, {"data": [1.2]}, "data[0]: 1.2, expected 1.0 ± 0.1"),
    ("word", {"model": "a"}, {"model": "b"}, "'b', expected 'a'"),
    ("deep", {"map": {"height": 4}}, {"map": {}}, "map has no 'height'"),
]  # fmt: skip


@pytest.mark.parametrize(("expect", "answer"), [row[1:] for row in MET], ids=[row[0] for row in MET])
def test_met(expect, answer):
    assert missed(case(expect), answer) == ""


@pytest.mark.parametrize(("expect", "answer", "why"), [row[1:] for row in MISSED], ids=[row[0] for row in MISSED])
def test_missed(expect, answer, why):
    said = missed(case(expect), answer)
    assert why in said
    assert "\n" not in said


def test_tolerances_are_the_cases_own():
    off = {"detections": [but(CAT, score=0.5, box=[20, 20, 60, 60])]}
    assert missed(case({"detections": [CAT]}), off)
    assert not missed(case({"detections": [CAT]}, score=0.3, iou=0.35), off)


def test_overlap():
    assert iou([0, 0, 10, 10], [0, 0, 10, 10]) == 1
    assert iou([0, 0, 10, 10], [0, 5, 10, 15]) == pytest.approx(1 / 3)
    assert iou([0, 0, 10, 10], [20, 20, 30, 30]) == 0
    assert iou([0, 0, 0, 0], [0, 0, 0, 0]) == 0
