"""Sketches count, add up, stay small, and tell distances that can be checked by hand."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core import documents
from farshore.core.errors import Invalid
from farshore.core.sketch import (
    CLASSES,
    NOTHING,
    REST,
    Counts,
    Sketch,
    moved,
    names,
    stability_index,
    total_variation,
)


def counted(*pairs, most=4096):
    counts = Counts(most)
    for before, after in pairs:
        counts.add(before, after)
    return counts.told()


def test_classes_and_confidences_of_either_side_are_counted():
    sketch = counted(([("ship", 0.95), ("buoy", 0.31)], [("ship", 1.0)]), ([], [("ship", 0.05)]))
    assert sketch.classes == (("ship", 1, 2), (NOTHING, 1, 0), ("buoy", 1, 0))
    assert sketch.before == (0, 0, 0, 1, 0, 0, 0, 0, 0, 1)
    assert sketch.after == (1, 0, 0, 0, 0, 0, 0, 0, 0, 1)


def test_nothing_counted_is_no_sketch():
    assert counted() is None


def test_what_is_no_confidence_counts_as_a_finding_alone():
    sketch = counted(([("a", math.nan), ("a", -0.1)], [("a", 1.5)]))
    assert sketch == Sketch((("a", 2, 1),))


def test_many_classes_are_told_as_the_commonest_and_the_rest():
    findings = [[(f"class {number}", 0.5)] * (100 - number) for number in range(40)]
    sketch = counted(*((one, one[:1]) for one in findings))
    assert len(sketch.classes) == CLASSES + 1
    assert sketch.classes[0] == ("class 0", 100, 1)
    assert sketch.classes[-1] == (REST, sum(100 - number for number in range(CLASSES, 40)), 40 - CLASSES)


def test_strange_names_cannot_fill_memory_nor_a_report():
    sketch = counted(*(([(f"{number}" * 100, 0.5)], []) for number in range(50)), most=5)
    assert sum(before for _, before, _ in sketch.classes) == 50
    assert all(len(name) <= 64 for name, _, _ in sketch.classes)
    worst = Sketch(tuple(("x" * 40, 10**6, 10**6) for _ in range(CLASSES + 1)), (10**6,) * 10, (10**6,) * 10)
    assert len(msgspec.json.encode(worst)) < 1100
    usual = counted(*(([(f"class {number}", 0.5)] * 9, [(f"class {number}", 0.7)] * 9) for number in range(12)))
    assert len(msgspec.json.encode(usual)) < 400


@pytest.mark.parametrize(
    "bad", [{"classes": [["a", 1, 1]] * 14}, {"before": [1] * 11}, {"classes": [["a" * 65, 1, 1]]}, {"after": [-1]}]
)
def test_a_sketch_from_outside_is_bounded(bad):
    with pytest.raises(Invalid):
        documents.convert(bad, Sketch, what="sketch")


@pytest.mark.parametrize(
    ("classes", "distance", "most"),
    [
        ({}, 0.0, (REST, 0.0, 0.0)),
        ({"a": (10, 20)}, 0.0, ("a", 1.0, 1.0)),
        ({"a": (10, 0), "b": (0, 7)}, 1.0, ("a", 1.0, 0.0)),
        ({"a": (8, 5), "b": (2, 5)}, 0.3, ("a", 0.8, 0.5)),
        ({"a": (50, 50), "b": (30, 40), "c": (20, 10)}, 0.1, ("b", 0.3, 0.4)),
        ({"a": (3, 0)}, 0.0, ("a", 1.0, 0.0)),
    ],
)
def test_how_far_classes_lie_apart(classes, distance, most):
    assert total_variation(classes) == pytest.approx(distance)
    assert moved(classes) == pytest.approx(most)


def test_how_far_confidences_lie_apart():
    even, half = [100.0] * 10, [200.0] * 5 + [0.0] * 5
    assert stability_index(even, even) == 0
    assert stability_index([], even) == stability_index(even, [0] * 10) == 0
    p, q = 100.5 / 1005, (200.5 / 1005, 0.5 / 1005)
    by_hand = 5 * (q[0] - p) * math.log(q[0] / p) + 5 * (q[1] - p) * math.log(q[1] / p)
    assert stability_index(even, half) == pytest.approx(by_hand)
    assert by_hand > 0.25


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 50), st.integers(0, 50)))


@given(COUNTS)
def test_telling_fewer_classes_apart_never_tells_more_distance(classes):
    rest = [pair for name, pair in classes.items() if name > "b"]
    merged = {name: pair for name, pair in classes.items() if name <= "b"}
    merged[REST] = (sum(one for one, _ in rest), sum(other for _, other in rest))
    assert total_variation(merged) <= total_variation(classes) + 1e-9
    assert 0 <= total_variation(classes) <= 1


@given(st.lists(st.integers(0, 99), min_size=10, max_size=10), st.lists(st.integers(0, 99), min_size=10, max_size=10))
def test_the_index_is_even_handed_and_never_below_nothing(one, other):
    assert stability_index(one, other) >= 0
    assert stability_index(one, other) == pytest.approx(stability_index(other, one))


def test_a_class_that_comes_twice_in_a_report_counts_once_with_both():
    assert names([("a", 1, 2), ("b", 1, 0), ("a", 3, 4)]) == {"a": (4, 6), "b": (1, 0)}
