from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.formats.overrides import given as given_options
from farshore.formats.overrides import overrides


def parse(text: str):
    return overrides(tomllib.loads(text))


def test_a_whole_file():
    found = parse("""
        task = "detection"
        decoder = "yolo-heads"
        [input]
        layout = "NCHW"
        colour = "BGR"
        resize = "letterbox"
        mean = [103.5, 116, 123]
        std = 57
        pad = 114
        width = 416
        height = 320
        [outputs]
        head8 = "a"
        [labels]
        file = "coco.names"
        skip = 1
        [decode]
        threshold = 0.25
        anchors = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119]]
        [requires]
        memory = 80000000
        [[acceptance]]
        picture = "scene.jpg"
        expect = "expected.json"
    """)
    assert (found.task, found.decoder, found.input.mean, found.input.std) == (
        "detection",
        "yolo-heads",
        (103.5, 116.0, 123.0),
        57,
    )
    assert given_options(found.decode) == {
        "threshold": 0.25,
        "anchors": [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119]],
    }
    assert found.acceptance[0]["picture"] == "scene.jpg"
    assert found.requires.memory == 80_000_000


def test_nothing_said_is_nothing_given():
    assert given_options(overrides({})) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("decodr = 'yolox'", "unknown key decodr; did you mean decoder"),
        ("[input]\ncolor = 'RGB'", r"unknown key input\.color; did you mean input\.colour"),
        ("[decode]\ntreshold = 1", r"did you mean decode\.threshold"),
        ("[label]\nfile = 'x'", "did you mean labels"),
        ("[input]\nxyz = 1", "known: colour, "),
        ("task = 'detect'", "task"),
        ("input = 3", "input must be a table"),
        ("[input]\nwidth = 0", "width"),
        ("[input]\nresize = 'crop'", "resize"),
        ("[input]\nstd = 0", r"input\.std must not be 0"),
        ("[input]\nstd = [1, 0, 1]", r"input\.std must not be 0"),
        ("[input]\nmean = nan", "nan is not a number"),
        ("[decode]\nanchors = [[inf]]", "inf is not a number"),
        ("[decode]\nthreshold = 1.5", "threshold"),
        ("[labels]\nskip = -1", "skip"),
        ("[outputs]\nboxes = 3", "outputs"),
        ("[requires]\nmemry = 3", r"did you mean requires\.memory"),
    ],
)
def test_wrong_files_are_refused_with_what_to_change(text, said):
    with pytest.raises(Invalid, match=said) as caught:
        parse(text)
    assert "farshore.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["task", "input", "decode", "labels", "outputs", "requires", "acceptance", "decoder"])


@given(st.dictionaries(keys | st.text(max_size=6), values, max_size=4))
def test_any_document_is_read_or_refused(document):
    try:
        found = overrides(document)
    except Invalid:
        return
    assert found.task is None or found.task == document["task"]
