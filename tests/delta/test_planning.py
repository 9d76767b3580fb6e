"""A plan holds every byte once, and each piece within the format's limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from farshore.delta import decode, encode, planning
from farshore.delta.container import FRAME_BYTES, HISTORY_BYTES, MOST_KEPT, Reader
from farshore.delta.encoder import Encoder
from farshore.delta.frames import KEPT, MOST_VALUES, NOTHING, Copy, Span, pieces_table, read_pieces
from farshore.delta.matching import Tensor
from farshore.delta.planning import Reach, frames_of, make_plan, rest_frames
from farshore.formats import Role, Segment, segment

from .conftest import network, safetensors, trained


def plan_of(target, bases, level="default"):
    views = [memoryview(base) for base in bases]
    encoder = Encoder(memoryview(target), views, level)
    return make_plan(
        memoryview(target), views, (segment(target), [segment(base) for base in bases]), level, encoder.fetch
    )


def ranges(plan):
    pieces = [piece for stage in (*plan.first, plan.pieces) for piece in stage]
    return sorted(
        [(copy.offset, copy.span.length) for copy in plan.copies]
        + list(plan.rest)
        + [(p.offset, p.length) for p in pieces]
    )


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize("changed", [0, 2, 4])
def test_every_byte_once(level, changed):
    base = network()
    target = {name: (trained(base)[name] if k < changed else base[name]) for k, name in enumerate(base)}
    data = safetensors(target, version="2")
    plan = plan_of(data, [safetensors(base)], level)
    end = 0
    for offset, length in ranges(plan):
        assert offset == end
        end += length
    assert end == len(data)
    for pieces in (*plan.first, plan.pieces):
        assert read_pieces(Reader(pieces_table(pieces))) == pieces


def test_large_tensors_are_cut_into_pieces_of_the_format():
    rng = np.random.default_rng(2)
    base = {
        "rows": rng.normal(size=(1300, 700)).astype(np.float32),
        "vector": rng.normal(size=600_001).astype(np.float32),
    }
    target = {name: array * np.float32(1.01) for name, array in base.items()}
    plan = plan_of(safetensors(target), [safetensors(base)])
    pieces = [piece for stage in (*plan.first, plan.pieces) for piece in stage]
    assert sum(piece.count for piece in pieces) == 1300 * 700 + 600_001
    assert max(piece.count for piece in pieces) <= MOST_VALUES
    assert all(piece.source != NOTHING for piece in pieces)


def test_pieces_are_grouped_into_frames():
    plan = plan_of(safetensors(trained(network())), [safetensors(network())])
    assert [p for group in frames_of(plan.pieces) for p in group] == list(plan.pieces)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3 * FRAME_BYTES)), max_size=6),
    st.lists(st.integers(1, 2 * HISTORY_BYTES), max_size=4),
)
def test_rest_is_grouped_within_the_limits(gaps, lengths):
    at, rest = 0, []
    for gap, length in gaps:
        rest.append((at + gap, length))
        at += gap + length
    history = [Span(0, k << 30, length) for k, length in enumerate(lengths)]
    groups = list(rest_frames(rest, history))
    assert sum(size for group, _ in groups for _, size in group) == sum(size for _, size in rest)
    for group, looked_back in groups:
        assert sum(size for _, size in group) <= FRAME_BYTES
        assert sum(span.length for span in looked_back) <= HISTORY_BYTES


@pytest.mark.parametrize("level", ["fast", "default"])
@pytest.mark.parametrize("held", [10, (9 << 20) // 8], ids=["coded", "copied"])
def test_scales_among_more_plain_bytes_than_are_kept(level, held):
    """A frame refers to a scale only where it is kept, or in the base where it was copied."""
    rng = np.random.default_rng(3)
    plain = rng.integers(-(1 << 60), 1 << 60, (9 << 20) // 8)
    before = np.clip(rng.normal(size=(64, 256)) * 30, -127, 127).astype(np.int8)
    after = np.clip(before * 1.1 + rng.normal(size=before.shape), -127, 127).astype(np.int8)

    def model(values, scale, plain):
        tensors = {"plain": plain, "w": values, "w_scale": np.float32(scale), "w_zero": np.int8(0)}
        node = helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["y"])
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape)]
        made = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
        return helper.make_model(helper.make_graph([node], "g", [], outputs, made)).SerializeToString()

    target, base = model(after, 0.011, plain), model(before, 0.01, plain[:held])
    patch = b"".join(encode(target, [base], level=level))
    assert b"".join(decode(patch, [base])) == target


def test_no_more_is_kept_than_the_format_allows():
    def tensor(offset, length):
        return Tensor(KEPT, memoryview(bytes(1)), Segment(offset, length, Role.TENSOR, "v", "float32", (length // 4,)))

    vectors = [tensor(FRAME_BYTES + (k << 16), 1 << 16) for k in range(100)]
    reach = Reach([], [(0, FRAME_BYTES)], vectors)
    kept = [one for one in vectors if reach.keeps(one)]
    assert 0 < len(kept) < len(vectors)
    assert FRAME_BYTES + (len(kept) << 16) + reach.room == MOST_KEPT
    assert reach.room >= MOST_KEPT // 4
    assert reach.span(vectors[-1].segment) is None
    assert reach.span(kept[-1].segment) == Span(KEPT, kept[-1].segment.offset, 1 << 16)
    assert Reach([], [(0, FRAME_BYTES + 1)], []).span(Segment(8, 4, Role.SCALE, "s", "float32", (1,))) is None


def test_what_was_copied_is_referred_to_in_the_base():
    reach = Reach([Copy(100, Span(2, 1000, 50))], [(0, 100)], [])
    assert reach.span(Segment(120, 30, Role.SCALE)) == Span(2, 1020, 30)
    assert reach.span(Segment(96, 8, Role.SCALE)) is None
    assert reach.span(Segment(96, 4, Role.SCALE)) == Span(KEPT, 96, 4)


def test_a_plan_has_no_more_copies_than_a_table_has_rows(monkeypatch):
    monkeypatch.setattr(planning, "MOST_ENTRIES", 1 << 9)
    blocks = np.random.default_rng(7).integers(0, 256, (2048, 1024), np.uint8)
    plan = plan_of(np.random.default_rng(8).permutation(blocks).tobytes(), [blocks.tobytes()])
    assert len(plan.copies) < 1 << 9
    assert len(plan.rest) < 1 << 9
