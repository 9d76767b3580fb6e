from __future__ import annotations

import dataclasses

import pytest

from farshore.core.errors import Invalid, TooLarge
from farshore.formats import PackedFile, inspect, labels


@pytest.mark.parametrize(
    ("data", "names", "plain"),
    [
        (b"cat\ndog\n", ("cat", "dog"), True),
        (b"\xef\xbb\xbfcat\r\ndog", ("cat", "dog"), True),
        ("hus\nbåt\n\n".encode(), ("hus", "båt"), True),
        (b"???\nperson\n???\ncar\n", ("???", "person", "???", "car"), True),  # gaps are lines like any other
        (b"a\n\nb\n", ("a", "", "b"), True),
        (b"0 person\n1 bicycle\n", ("person", "bicycle"), False),
        (b"0: person\n2: car\n", ("person", "???", "car"), False),  # a gap in the numbering becomes a line
        (b"1  person\n3  car\n", ("???", "person", "???", "car"), False),
        (b"100 metres\n200 metres\n", ("100 metres", "200 metres"), True),  # numbers that are names
        (b"0 a\n1 b\nc\n", ("0 a", "1 b", "c"), True),
    ],
)
def test_lines(data, names, plain):
    assert labels.parse(data, "labels.txt") == (names, plain)


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"\xff\xfe", Invalid, "not UTF-8"),
        (b"", Invalid, "no names"),
        (b"\n\n", Invalid, "no names"),
        (b"x" * 600, TooLarge, "at most"),
        (b"x\n" * 200_001, TooLarge, "at most"),
        (bytes(labels.MAX_BYTES + 1), TooLarge, "at most"),
    ],
)
def test_what_is_no_label_file(data, error, said):
    with pytest.raises(error, match=said):
        labels.parse(data, "labels.txt")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["README.txt", "labelmap.txt"], ["labelmap.txt"]),
        (["my_labels.txt", "labels.txt"], ["labels.txt"]),
        (["coco_classes.txt", "notes.md"], ["coco_classes.txt"]),
        (["a_labels.txt", "b_labels.txt"], ["a_labels.txt", "b_labels.txt"]),
        (["voc.names"], ["voc.names"]),
        (["README.txt"], []),
    ],
)
def test_which_files_are_labels(names, expected):
    assert labels.likely(names) == expected


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"names": "{0: 'person', 1: 'traffic light'}"}, ("person", "traffic light")),
        ({"names": """{0: "cat's eye", 1: 'it\\'s'}"""}, ("cat's eye", "it's")),
        ({"names": '{"0": "a", "2": "c"}'}, ("a", "???", "c")),
        ({"labels": '["ship", "buoy"]'}, ("ship", "buoy")),
        ({"labels": "ship, buoy\nturbine"}, ("ship", "buoy", "turbine")),
        ({"classes": "80"}, None),
        ({"names": "{99999: 'far'}"}, None),
        ({"names": "[" * 5000}, None),
        ({}, None),
    ],
)
def test_names_in_metadata(shaped, metadata, names):
    assert labels.in_metadata(inspect(shaped({"x": ("float32", [1])}, {"y": ("float32", [1])}, metadata))) == names


@pytest.fixture(scope="module")
def info(shaped):
    return inspect(shaped({"x": ("float32", [1])}, {"y": ("float32", [1])}, {"labels": "m,n"}))


def test_beside_before_metadata_before_packed(info):
    packed = PackedFile("labels.txt", b"p\nq\n", "labels", "y")
    both = dataclasses.replace(info, packed=(packed,))
    beside, _ = labels.find(both, {"labels.txt": b"a\nb\n"}, None)
    assert (beside.names, beside.path, beside.plain) == (("a", "b"), "labels.txt", True)
    assert labels.find(both, {}, None)[0].names == ("m", "n")
    assert labels.find(dataclasses.replace(both, metadata={}), {}, None)[0].names == ("p", "q")
    assert labels.find(dataclasses.replace(info, metadata={}), {}, None) == (None, [])


def test_a_named_file_must_be_there(info):
    assert labels.find(info, {"mine.txt": b"z\n"}, "mine.txt")[0].names == ("z",)
    with pytest.raises(Invalid, match=r"labels\.file"):
        labels.find(info, {"mine.txt": b"z\n"}, "yours.txt")


def test_a_written_list_reads_back():
    names = ("???", "two words", "båt")
    assert labels.parse(labels.as_file(names), "x") == (names, True)
    assert labels.as_file(("a\nb",)) == b"a b\n", "a name is one line"
