"""Any bytes give a map that covers them exactly; nothing raises, nothing runs away."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.formats import Role, SegmentMap, segment
from farshore.formats.dtypes import size_of


def check(found: SegmentMap, size: int) -> None:
    """The contract of a map, whatever the file."""
    end = 0
    for part in found.segments:
        assert part.offset == end, "no hole, no overlap, in order"
        assert part.length > 0
        end += part.length
        if part.role is Role.REST:
            assert (part.name, part.dtype, part.shape, part.quant, part.channel_axis) == ("", "", (), None, None)
            continue
        assert size_of(part.dtype, part.shape) == part.length
        assert part.channel_axis is None or 0 <= part.channel_axis < len(part.shape)
        if part.quant is not None:
            expected = 1 if part.quant.axis is None else part.shape[part.quant.axis]
            assert len(part.quant.scales) == len(part.quant.zero_points) == expected
            assert all(0 < scale < float("inf") for scale in part.quant.scales)
    assert end == size


def test_real_models_are_mostly_tensors(real, load):
    data = load(real)
    found = segment(data)
    check(found, len(data))
    assert found.format == ("onnx" if real.suffix == ".onnx" else "tflite")
    rest = sum(part.length for part in found.segments if part.role is Role.REST)
    if "edgetpu" in str(real):  # one compiled blob: no tensors to find
        assert rest > 0.9 * len(data)
    else:
        assert rest < 0.4 * len(data)
        assert any(part.role is Role.WEIGHT and part.channel_axis is not None for part in found.segments)


@pytest.mark.parametrize("name", ["tiny_onnx", "tiny_tflite", "tiny_safetensors"])
def test_formats_are_told_apart(name, request):
    data = request.getfixturevalue(name)
    found = segment(data)
    check(found, len(data))
    assert found.format == name.removeprefix("tiny_")


@pytest.mark.parametrize("data", [b"", b"\0", b"TFL3" * 4, b"PK\3\4" + bytes(60), b"{" * 100, bytes(4096)])
def test_what_is_no_model_is_opaque(data):
    found = segment(data)
    check(found, len(data))
    assert found.format == "opaque"
    assert len(found.segments) <= 1


def test_a_mapped_file_can_be_closed_again(tiny_onnx, tmp_path):
    (tmp_path / "m").write_bytes(tiny_onnx)
    (tmp_path / "broken").write_bytes(tiny_onnx[:-9])
    for name, kind in (("m", "onnx"), ("broken", "opaque")):
        with (tmp_path / name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert segment(mapped).format == kind
            assert segment(memoryview(mapped)[:-1]).format == "opaque"


@given(st.binary(max_size=400))
def test_any_bytes_are_covered(data):
    check(segment(data), len(data))


edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8), st.sampled_from("=+-")),
    min_size=1, max_size=6,
)  # fmt: skip


def edited(data: bytes, changes) -> bytes:
    changed = bytearray(data)
    for where, new, kind in changes:
        at = int(where * len(changed))
        changed[at : at + (0 if kind == "+" else len(new))] = b"" if kind == "-" else new
    return bytes(changed)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["tiny_onnx", "tiny_tflite", "tiny_safetensors"]), edits)
def test_mutated_models_are_covered(tiny, name, changes):
    data = edited(tiny[name], changes)
    check(segment(data), len(data))


@pytest.fixture(scope="module")
def tiny(tiny_onnx, tiny_tflite, tiny_safetensors):
    return {"tiny_onnx": tiny_onnx, "tiny_tflite": tiny_tflite, "tiny_safetensors": tiny_safetensors}


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["models/yolox_nano.onnx", "models/movenet_single_pose_lightning_ptq.tflite"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=9),
    st.booleans(),
)
def test_mutated_real_models_are_covered(shared, name, changes, at_the_ends):
    data = bytearray(shared(name))
    for where, new in changes:  # headers and tables lie at the ends: hit them more often than weights
        at = int(where * 4000) if at_the_ends else len(data) - 1 - int(where * 90_000)
        data[at : at + len(new)] = new
    check(segment(data), len(data))


@pytest.mark.parametrize("name", ["tiny_onnx", "tiny_tflite", "tiny_safetensors"])
def test_every_truncation_is_covered(name, request):
    data = request.getfixturevalue(name)
    for size in range(0, len(data), 3):
        check(segment(data[:size]), size)
