"""Which held files help."""

import hashlib

from farshore.formats import SegmentMap
from farshore.formats.segments import Role, Segment
from farshore.hub.kinship import Kin, choose, kin


def model(*tensors, size=100_000):
    """A file of (name, dtype, shape, bytes, contents) tensors."""
    return Kin(
        size,
        tuple(
            (hashlib.sha256(text.encode()).digest(), name, dtype, shape, many)
            for name, dtype, shape, many, text in tensors
        ),
    )


BACKBONE = ("backbone", "float32", (100, 200), 80_000, "trained long ago")
HEAD = ("head", "float32", (50, 80), 16_000, "for birds")
NEW_HEAD = ("head", "float32", (50, 80), 16_000, "for insects")
TARGET = model(BACKBONE, NEW_HEAD)


def test_the_one_with_equal_tensors_goes_before_the_newest():
    moved = model(("backbone", "float32", (100, 200), 80_000, "trained anew"), NEW_HEAD)
    assert choose(TARGET, [moved, model(BACKBONE, HEAD)], 2)[0] == 1


def test_another_one_is_taken_for_what_the_first_lacks():
    assert choose(TARGET, [model(BACKBONE), model(NEW_HEAD), model(HEAD)], 0) == [0, 1]


def test_one_that_adds_nothing_is_not_taken():
    assert choose(TARGET, [model(BACKBONE, NEW_HEAD), model(BACKBONE, NEW_HEAD)], 2) == [0]


def test_strangers_are_no_help_and_an_earlier_form_always_is():
    stranger = model(("other", "float32", (3, 3), 36_000, "x"))
    assert choose(TARGET, [stranger], 0) == []
    assert choose(TARGET, [stranger, stranger], 1) == [0]
    assert choose(TARGET, [], 0) == []


def test_the_same_weights_in_another_precision_help():
    assert choose(TARGET, [model(("backbone", "float16", (100, 200), 40_000, "cast"))], 0) == [0]


def test_a_few_are_enough():
    parts = [(str(n), "float32", (10, 500), 20_000, str(n)) for n in range(5)]
    assert len(choose(model(*parts), [model(part) for part in parts], 0)) == 3


def test_what_a_file_is_known_by():
    data = memoryview(bytes(range(200)))
    segments = SegmentMap(
        "onnx",
        (
            Segment(0, 20, Role.REST),
            Segment(20, 80, Role.WEIGHT, "w", "float32", (4, 5)),
            Segment(100, 4, Role.BIAS, "tiny", "float32", (1,)),
            Segment(104, 96, Role.REST),
        ),
    )
    assert kin(segments, data) == Kin(200, ((hashlib.sha256(data[20:100]).digest(), "w", "float32", (4, 5), 80),))
