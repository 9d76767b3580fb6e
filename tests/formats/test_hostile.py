"""Files made to be expensive: work and memory stay bounded, and the answer is an answer or a refusal."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.formats import bounds, diff, inspect, recognise, segment


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_graph(content: bytes) -> bytes:
    return b"\x08\x08" + field(7, content)


def nested(levels: int) -> bytes:
    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return onnx_graph(graph)


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


MANY = 40_000
FILES = {
    "nodes of two bytes": lambda: onnx_graph(b"\x0a\x00" * MANY),
    "tensors of two bytes": lambda: onnx_graph(b"\x2a\x00" * MANY),
    "inputs of two bytes": lambda: onnx_graph(field(1, b"\x0a\x00" * 4 * MANY)),
    "attributes of two bytes": lambda: onnx_graph(field(1, b"\x2a\x00" * MANY)),
    "dimensions without end": lambda: onnx_graph(field(5, field(1, b"\x01" * 4 * MANY))),
    "integers, each a field": lambda: onnx_graph(field(1, field(5, b"\x40\x01" * MANY))),
    "varints, each a field": lambda: onnx_graph(field(5, b"\x28\x01" * MANY)),
    "metadata of two bytes": lambda: onnx_graph(b"") + b"\x72\x00" * MANY,
    "places of external data": lambda: onnx_graph(field(5, b"\x70\x01" + field(13, field(1, b"k")) * MANY)),
    "graphs in graphs": lambda: nested(4000),
    "lists in a header": lambda: header(b'{"a":[' + b"[]," * MANY + b"[]]}"),
    "nothing but brackets": lambda: header(b"{" + b"[" * MANY),
    "names in a header": lambda: header(b'{"a":0' + b',"a":0' * MANY + b"}"),
    "offsets in circles": lambda: struct.pack("<I4s", 8, b"TFL3") + struct.pack("<i", 4) * MANY,
}


@pytest.mark.parametrize("case", FILES)
def test_memory_stays_bounded(case):
    data = FILES[case]()
    for read in (segment, inspect):
        tracemalloc.start()
        try:
            read(data)
        except Invalid:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60_000_000


def test_work_ends_with_the_budget(monkeypatch):
    """However large the file, no more steps are taken than the budget has."""
    monkeypatch.setattr(bounds.Budget.__init__, "__defaults__", (5_000,))
    for make in FILES.values():
        data = make()
        assert sum(part.length for part in segment(data).segments) == len(data)
    with pytest.raises(Invalid, match="more than a parser should follow"):
        inspect(FILES["nodes of two bytes"]())


def test_shared_tables_of_a_flatbuffer_are_paid_for_each_time(build_tflite):
    """Every tensor entry of the vector points to one table: few bytes, endless tensors."""
    data = bytearray(build_tflite(tensors=[(f"t{n}", 0, (1,), 0, None) for n in range(50)], outputs=[0]))
    root = struct.unpack_from("<I", data, 0)[0]
    assert root < len(data)
    # A vector's length is the only word with this value: claim that it goes on to the end of the file.
    at = data.index(struct.pack("<I", 50))
    struct.pack_into("<I", data, at, (len(data) - at - 4) // 4)
    found = segment(bytes(data))
    assert sum(part.length for part in found.segments) == len(data)


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def originals(tiny_onnx, tiny_tflite, shaped):
    head = shaped(
        {"x": ("float32", [1, 3, 416, 416])}, {"y": ("float32", [1, 3549, 85])}, {"names": "{0: 'a', 1: 'b'}"}
    )
    return [tiny_onnx, tiny_tflite, head]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2), edits)
def test_mutated_models_are_recognised_or_refused(originals, which, changes):
    data = bytearray(originals[which])
    for where, value in changes:
        data[int(where * len(data))] = value
    try:
        info = inspect(data)
        found = recognise(info, {"labels.txt": b"a\nb\n"})
    except Invalid as error:
        assert "\n" not in error.message  # noqa: PT017 - refusing is one of two right answers
        return
    assert found.decoder
    difference = diff(info, segment(data), data, info, segment(data), data)
    assert difference.identical


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        ["models/ssd_mobilenet_v1_coco.zip", "models/version-RFB-320.onnx", "models/mobilenet_v1_0.25_128_quant.tflite"]
    ),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), min_size=1, max_size=9),
    st.booleans(),
)
def test_mutated_real_models_are_recognised_or_refused(shared, name, changes, at_the_start):
    data = bytearray(shared(name))
    for where, new in changes:
        at = int(where * 6000) if at_the_start else len(data) - 8 - int(where * 60_000)
        data[at : at + len(new)] = new
    try:
        recognise(inspect(data))
    except Invalid as error:
        assert error.message  # noqa: PT017 - refusing is one of two right answers
