"""Overlap and average precision against values worked out by hand."""

import math

import pytest
from measure import Answer, average_precision, found, letterbox, overlap
from PIL import Image
from scenes import Thing

BOX = (0.0, 0.0, 10.0, 10.0)
SHIFTED = (0.0, 5.0, 10.0, 15.0)
FAR = (50.0, 50.0, 60.0, 60.0)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(BOX, BOX, 1.0), (BOX, SHIFTED, 1 / 3), (BOX, FAR, 0.0), ((0, 0, 0, 0), (0, 0, 0, 0), 0.0)]
)
def test_overlap(a, b, expected):
    assert overlap(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer("ship", 0.9, BOX), True),
        (Answer("buoy", 0.9, BOX), False),
        (Answer("ship", 0.4, BOX), False),
        (Answer("ship", 0.9, SHIFTED), False),
    ],
)
def test_found(answer, expected):
    assert found(Thing("ship", BOX), [answer]) is expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([[Answer("ship", 0.9, BOX), Answer("ship", 0.8, FAR)]], 1.0),
        ([[Answer("ship", 0.9, BOX)]], 0.5),
        ([[Answer("ship", 0.9, SHIFTED), Answer("ship", 0.8, BOX)]], 0.25),
        ([[Answer("ship", 0.9, BOX), Answer("ship", 0.8, BOX), Answer("ship", 0.7, FAR)]], 0.5 + 0.5 * 2 / 3),
        ([[Answer("buoy", 0.9, BOX)]], 0.0),
        ([[]], 0.0),
    ],
    ids=["both", "one of two", "wrong first", "twice the same", "wrong class", "nothing"],
)
def test_average_precision(answers, expected):
    truth = [[Thing("ship", BOX), Thing("ship", FAR)]]
    assert average_precision(truth, answers, "ship") == pytest.approx(expected)


def test_a_class_that_never_occurs_has_no_precision():
    assert math.isnan(average_precision([[]], [[Answer("ship", 0.9, BOX)]], "ship"))


def test_letterbox_centres_the_picture_on_grey():
    square = letterbox(Image.new("RGB", (200, 100), (255, 0, 0)), 64)
    assert square.size == (64, 64)
    assert square.getpixel((0, 15)) == (128, 128, 128)
    assert square.getpixel((0, 16)) == (255, 0, 0)
    assert square.getpixel((63, 47)) == (255, 0, 0)
    assert square.getpixel((63, 48)) == (128, 128, 128)
