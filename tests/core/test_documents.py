"""JSON at the doors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from farshore.core import documents
from farshore.core.errors import Invalid, TooLarge

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Point(Struct):
    x: int
    y: int = 0


@given(VALUES)
def test_canonical_is_json_and_does_not_depend_on_key_order(value):
    data = documents.canonical(value)
    assert json.loads(data) == value
    if isinstance(value, dict):
        assert documents.canonical(dict(reversed(list(value.items())))) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_that_json_cannot_say_are_refused(value):
    with pytest.raises(Invalid):
        documents.canonical(value)


def test_decode_checks_type_and_size():
    assert documents.decode(b'{"x": 1, "new": true}', Point, what="point") == Point(1)
    with pytest.raises(Invalid, match=r"point: .*\$\.x"):
        documents.decode(b'{"x": "1"}', Point, what="point")
    with pytest.raises(TooLarge):
        documents.decode(b" " * 11, Point, what="point", limit=10)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"x": 1}}', b"[" * 100_000, b'{"a":' * 100_000])
def test_broken_text_is_invalid(data):
    with pytest.raises(Invalid):
        documents.decode(data, dict, what="it")


def test_convert_checks_builtins():
    assert documents.convert({"x": 3}, Point, what="point") == Point(3)
    with pytest.raises(Invalid):
        documents.convert({}, Point, what="point")
