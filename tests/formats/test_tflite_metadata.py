"""Written by hand with the reference builder, after metadata_schema.fbs."""

from __future__ import annotations

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.formats import tflite_metadata
from farshore.formats.bounds import Budget, Malformed
from farshore.formats.flatbuffer import Flat
from farshore.formats.info import Normalisation


def vector(builder, items, start=None):
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependFloat32(item) if start == "float" else builder.PrependUOffsetTRelative(item)
    return builder.EndVector()


def table(builder, slots, size):
    builder.StartObject(size)
    for slot, kind, value in slots:
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "u8":
            builder.PrependUint8Slot(slot, value, 0)
        else:
            builder.PrependInt8Slot(slot, value, 0)
    return builder.EndObject()


def document(mean=(127.5,), std=(128.0,)) -> bytes:
    builder = flatbuffers.Builder(0)
    options = table(
        builder, [(0, "offset", vector(builder, mean, "float")), (1, "offset", vector(builder, std, "float"))], 2
    )
    unit = table(builder, [(0, "u8", 1), (1, "offset", options)], 2)
    image = table(builder, [(0, "i8", 1)], 2)
    content = table(builder, [(0, "u8", 2), (1, "offset", image)], 3)
    name = builder.CreateString("image")
    units = vector(builder, [unit])
    taken = table(builder, [(0, "offset", name), (3, "offset", content), (4, "offset", units)], 7)
    label = table(builder, [(0, "offset", builder.CreateString("labels.txt")), (2, "i8", 2)], 5)
    given_out = table(builder, [(6, "offset", vector(builder, [label]))], 7)
    inputs, outputs = vector(builder, [taken]), vector(builder, [given_out])
    graph = table(builder, [(2, "offset", inputs), (3, "offset", outputs)], 10)
    title, graphs = builder.CreateString("Detector\0"), vector(builder, [graph])
    root = table(builder, [(0, "offset", title), (3, "offset", graphs)], 8)
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


def parse(data: bytes):
    return tflite_metadata.parse(Flat(memoryview(data), Budget(100_000)))


def test_what_is_read():
    found = parse(document())
    assert found.texts == {"name": "Detector"}
    assert found.inputs[0].name == "image"
    assert found.inputs[0].colour == "RGB"
    assert found.inputs[0].normalisation == Normalisation((127.5,), (128.0,))
    assert found.outputs[0].files == [("labels.txt", "labels")]


@pytest.mark.parametrize(
    ("mean", "std"), [((1.0,), (0.0,)), ((float("nan"),), (1.0,)), ((1.0, 2.0), (1.0,)), ((1.0,) * 17, (1.0,) * 17)]
)
def test_normalisation_without_sense_is_left_aside(mean, std):
    assert parse(document(mean, std)).inputs[0].normalisation is None


def test_another_flatbuffer_is_refused(tiny_tflite):
    with pytest.raises(Malformed):
        parse(tiny_tflite)


DATA = document()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(8, len(DATA) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutations_end_or_are_refused(changes):
    data = bytearray(DATA)
    for at, value in changes:
        data[at] = value
    try:
        parse(bytes(data))
    except Malformed:
        pass
