"""Gates on behaviour, and how sketches add up to a wave's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core import documents, wire
from farshore.core.sketch import BINS, REST, Sketch
from farshore.hub.gate import MOST_CLASSES, MOST_FOUND, Gate, Tally, broken, counts_of, lacks_comparison, sketched

SURE, UNSURE = (0.0,) * 9 + (100.0,), (0.0,) * 5 + (100.0,) + (0.0,) * 4


def tally(classes=None, after=SURE, compared=100, **more):
    return Tally(
        compared=compared, agreed=compared, classes=classes or {}, scores_before=SURE, scores_after=after, **more
    )


@pytest.mark.parametrize(
    ("gate", "seen", "said"),
    [
        (Gate(class_shift=0.2), tally({"a": (5, 5), "b": (5, 5)}), None),
        (Gate(class_shift=0.2), tally({"a": (8, 6), "b": (2, 4)}), None),
        (Gate(class_shift=0.2), tally({"a": (80, 50), "b": (20, 50)}), "0.3 of findings are of other classes than the previous version's (a 80 % before, 50 % now); at most 0.2 is asked"),
        (Gate(class_shift=0.2), tally({"a": (1, 0), "": (0, 1)}), "1 of findings are of other classes than the previous version's (other classes 0 % before, 100 % now); at most 0.2 is asked"),
        (Gate(class_shift=0.2), tally({"a": (1, 0), "b": (0, 1)}, compared=19), None),
        (Gate(), tally({"a": (1, 0), "b": (0, 1)}, UNSURE), None),
        (Gate(score_shift=0.25), tally(after=SURE), None),
        (Gate(score_shift=0.25), tally(after=UNSURE), "confidences have a stability index of 10.1 against the previous version's (on average 0.95 before, 0.55 now); at most 0.25 is asked"),
        (Gate(score_shift=0.25), tally(after=()), None),
    ],
)  # fmt: skip
def test_shifts(gate, seen, said):
    assert broken(gate, seen) == said


@pytest.mark.parametrize(
    ("gate", "asked"),
    [
        (Gate(), None),
        (Gate(latency=2.0), {"latency": 2.0}),
        (
            Gate(shadow=0.5, shadow_answers=9, shadow_seconds=60),
            {"shadow": {"share": 0.5, "answers": 9, "seconds": 60}},
        ),
        (
            Gate(agreement=0.9),
            {"agreement": 0.9, "compared": 20, "shadow": {"share": 0.1, "answers": 200, "seconds": 3600.0}},
        ),
        (Gate(class_shift=0.1), {"shadow": {"share": 0.1, "answers": 200, "seconds": 3600.0}}),
        (Gate(score_shift=0.1, shadow=1.0), {"shadow": {"share": 1.0, "answers": 200, "seconds": 3600.0}}),
    ],
)
def test_what_a_gate_asks_of_a_device_it_understands(gate, asked):
    assert gate.conditions() == asked
    if asked is not None:
        documents.convert(asked, wire.Conditions, what="conditions")


@pytest.mark.parametrize("gate", [Gate(agreement=0.9), Gate(class_shift=0.1), Gate(score_shift=0.1)])
def test_who_asks_for_a_comparison_waits_for_it(gate):
    assert (
        lacks_comparison(gate, Tally(compared=19)) == "19 answers were compared with the previous version's; 20 must be"
    )
    assert lacks_comparison(gate, Tally(compared=20)) is None
    assert lacks_comparison(Gate(shadow=0.5), Tally()) is None


def test_a_sketch_becomes_counts_and_back():
    said = Sketch((("ship of the line", 3, 4), (REST, 1, 0)), (0,) * 9 + (4,), (4,) + (0,) * 9)
    counts = counts_of(said, ())
    assert counts == {
        "class before ship of the line": 3, "class after ship of the line": 4, "class before ": 1, "score before 9": 4,
        "score after 0": 4,
    }  # fmt: skip
    found = sketched(counts)
    assert found["classes"] == {"ship of the line": (3, 4), REST: (1, 0)}
    assert found["scores_before"] == (0.0,) * 9 + (4.0,)
    assert len(found["scores_after"]) == BINS
    assert counts_of(None, ()) == {} == sketched({"something": 1.0})


def test_no_device_outweighs_a_fleet_nor_fills_its_books():
    said = Sketch(tuple((f"c{number}", 1 << 50, 1) for number in range(13)))
    counts = counts_of(said, [f"k{number}" for number in range(MOST_CLASSES - 2)])
    assert counts["class before c0"] == MOST_FOUND
    assert {key.split(" ")[2] for key in counts} == {"c0", "c1", ""}
    assert counts["class before "] == 11 * MOST_FOUND


SKETCHES = st.builds(
    lambda classes, bins: Sketch(tuple((name, *pair) for name, pair in classes.items()), bins, bins),
    st.dictionaries(st.sampled_from(["a", "b b", "c", REST]), st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1),
    st.lists(st.integers(0, 99), min_size=BINS, max_size=BINS).map(tuple),
)  # fmt: skip


@given(st.lists(SKETCHES, min_size=1, max_size=4))
def test_sketches_add_up_in_any_order(said):
    def added(several):
        sums: dict[str, float] = {}
        for one in several:
            for key, value in counts_of(one, ()).items():
                sums[key] = sums.get(key, 0.0) + value
        return sketched(sums)

    whole = added(said)
    assert whole == added(said[::-1])
    for name in whole.get("classes", {}):
        for side in (0, 1):
            assert whole["classes"][name][side] == sum(
                each[1 + side] for one in said for each in one.classes if each[0] == name
            )
