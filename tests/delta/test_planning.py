"""A plan holds every byte once, and each piece within the format's limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.delta.container import FRAME_BYTES, HISTORY_BYTES, Reader
from farshore.delta.encoder import Encoder
from farshore.delta.frames import MOST_VALUES, NOTHING, Span, pieces_table, read_pieces
from farshore.delta.planning import frames_of, make_plan, rest_frames
from farshore.formats import segment

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
