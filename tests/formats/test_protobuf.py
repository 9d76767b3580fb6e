from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, StringStringEntryProto, TensorProto

from farshore.formats import protobuf
from farshore.formats.bounds import Budget, Malformed
from farshore.formats.protobuf import BYTES, FIXED32, VARINT, Field, Span


def read(data: bytes) -> list[Field]:
    return list(protobuf.fields(memoryview(data), Span(0, len(data)), Budget()))


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(width=32, allow_nan=False), st.binary(max_size=300))
def test_agrees_with_the_reference(integer, number, text):
    data = AttributeProto(i=integer, f=number, s=text).SerializeToString()
    found = {field.number: field for field in read(data)}
    view = memoryview(data)
    if 3 in found:
        assert found[3].wire == VARINT
        assert protobuf.signed(found[3].value) == integer
    if 2 in found:
        assert found[2].wire == FIXED32
        assert protobuf.float32(view, found[2]) == number
    if 4 in found:
        assert found[4].wire == BYTES
        assert protobuf.content(view, found[4], 1000) == text


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20))
def test_packed_and_single_integers(values):
    data = TensorProto(int64_data=values).SerializeToString()
    view = memoryview(data)
    assert [v for field in read(data) for v in protobuf.integers(view, field, Budget())] == values


def test_texts_are_cut_and_mended():
    data = StringStringEntryProto(key="ångström").SerializeToString()
    (field,) = read(data)
    assert protobuf.text(memoryview(data), field) == "ångström"
    assert protobuf.text(memoryview(data), field, 1) == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a field without a value
        b"\x08" + b"\xff" * 10,  # a number that does not end
        b"\x0a\x05abc",  # longer than the message
        b"\x0d\x00\x00\x00",
        b"\x0b\x0c",  # a group
        b"\x00\x01",  # field 0
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of 2⁶⁴ − 1
    ],
)
def test_broken_fields_are_refused(data):
    with pytest.raises(Malformed):
        read(data)


@pytest.mark.parametrize("reader", [protobuf.text, protobuf.float32, lambda v, f: protobuf.message(f)])
def test_the_wrong_wire_type_is_refused(reader):
    with pytest.raises(Malformed):
        reader(memoryview(b"\x08\x01"), Field(1, VARINT, 1, 0))


def test_fields_cost():
    with pytest.raises(Malformed, match="more than"):
        list(protobuf.fields(memoryview(b"\x08\x01" * 11), Span(0, 22), Budget(10)))


@given(st.binary(max_size=200))
def test_any_bytes_end_or_are_refused(data):
    try:
        for field in read(data):
            assert field.wire == VARINT or 0 <= field.value <= field.span.end <= len(data)
    except Malformed:
        pass
