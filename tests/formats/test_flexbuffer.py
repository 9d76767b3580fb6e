from __future__ import annotations

import pytest
from flatbuffers import flexbuffers
from hypothesis import given
from hypothesis import strategies as st

from farshore.formats import flexbuffer
from farshore.formats.bounds import Malformed

scalars = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1), st.booleans(), st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=9), scalars, max_size=12))
def test_agrees_with_the_reference(settings):
    found = flexbuffer.scalars(bytes(flexbuffers.Dumps(settings)))
    assert found == settings
    assert all(isinstance(found[name], bool) == isinstance(value, bool) for name, value in settings.items())


def test_other_members_are_left_out():
    assert flexbuffer.scalars(bytes(flexbuffers.Dumps({"a": 1, "b": "text", "c": [1, 2]}))) == {"a": 1}


@pytest.mark.parametrize("data", [b"", b"\0\0\1", bytes(flexbuffers.Dumps([1, 2]))])
def test_what_is_no_map_is_refused(data):
    with pytest.raises(Malformed):
        flexbuffer.scalars(data)


@given(st.binary(max_size=80))
def test_any_bytes_end_or_are_refused(data):
    try:
        assert len(flexbuffer.scalars(data + b"\x24\x01")) <= flexbuffer.MAX_KEYS
    except Malformed:
        pass
