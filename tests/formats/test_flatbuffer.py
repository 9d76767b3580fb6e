from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.formats.bounds import Budget, Malformed
from farshore.formats.flatbuffer import Flat


@pytest.fixture
def flat():
    """A table of an int8, a uint32, a string, a vector of int32, a vector of strings and a table, by the reference."""
    import flatbuffers

    builder = flatbuffers.Builder(0)
    text = builder.CreateString("text")
    words = [builder.CreateString(word) for word in ("one", "two")]
    builder.StartVector(4, 2, 4)
    for word in reversed(words):
        builder.PrependUOffsetTRelative(word)
    strings = builder.EndVector()
    builder.StartVector(4, 3, 4)
    for number in (3, -2, 1):
        builder.PrependInt32(number)
    numbers = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUint32Slot(0, 7, 0)
    inner = builder.EndObject()
    builder.StartObject(8)
    builder.PrependInt8Slot(0, -5, 0)
    builder.PrependUint32Slot(1, 1 << 31, 0)
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    builder.PrependUOffsetTRelativeSlot(3, numbers, 0)
    builder.PrependUOffsetTRelativeSlot(4, strings, 0)
    builder.PrependUOffsetTRelativeSlot(5, inner, 0)
    builder.Finish(builder.EndObject())
    return Flat(memoryview(bytes(builder.Output())), Budget())


def test_agrees_with_the_reference(flat):
    root = flat.root()
    assert flat.i8(root, 0) == -5
    assert flat.u32(root, 1) == 1 << 31
    assert flat.text(root, 2) == "text"
    assert flat.integers(root, 3) == (1, -2, 3)
    assert flat.texts(root, 4) == ["one", "two"]
    assert flat.u32(flat.table(root, 5), 0) == 7


def test_what_is_not_set_has_its_default(flat):
    root = flat.root()
    assert (flat.i8(root, 7, 9), flat.u32(root, 60, 8), flat.text(root, 7), flat.table(root, 7)) == (9, 8, "", 0)
    assert flat.tables(root, 7) == []
    assert flat.integers(root, 7) == ()


def test_shared_tables_cost_each_time():
    """Eight bytes an entry, all to one table: a file that describes far more than it holds."""
    entries = 5000
    vtable = struct.pack("<HHHH", 6, 8, 4, 0)  # one field, at 4
    root = struct.pack("<iI", 8, 4)  # its vtable 8 bytes before; its vector 4 bytes on
    vector = struct.pack("<I", entries)
    at = 4 + len(vtable) + len(root) + len(vector)
    table = 4 + len(vtable)
    offsets = b"".join(struct.pack("<I", (table - (at + 4 * n)) & 0xFFFFFFFF) for n in range(entries))
    data = struct.pack("<I", table) + vtable + root + vector + offsets
    flat = Flat(memoryview(data), Budget(10_000))
    with pytest.raises(Malformed):
        flat.tables(flat.root(), 0)


@given(st.binary(max_size=120), st.integers(0, 9))
def test_any_bytes_end_or_are_refused(data, field):
    flat = Flat(memoryview(data), Budget(20_000))
    for read in (flat.text, flat.texts, flat.integers, flat.tables, flat.table, flat.i8, flat.u64):
        try:
            read(flat.root(), field)
        except Malformed:
            continue
