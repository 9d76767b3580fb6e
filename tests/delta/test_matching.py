"""Tensors find what they came from, moved bytes where they were."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from farshore.delta import matching
from farshore.delta.frames import KEPT, Span
from farshore.delta.matching import kin, modelled, moved, row_sources, same, tensors_of
from farshore.formats import Role, Segment, segment

from .conftest import network, safetensors, trained


def tensors(number, arrays):
    data = safetensors(arrays)
    return tensors_of(number, data, segment(data))


def names(found):
    return {target.segment.name: base.segment.name for target, base in found.items()}


def test_equal_tensors_are_found_under_other_names_and_in_other_places():
    base = network()
    renamed = {f"v2.{name}": base[name] for name in reversed(base)}
    found = names(same(tensors(KEPT, renamed), tensors(0, base)))
    assert found == {f"v2.{name}": name for name in base}


def test_of_several_equal_ones_the_name_decides():
    a = np.linspace(0, 1, 64).astype(np.float32)
    assert names(same(tensors(KEPT, {"y": a}), tensors(0, {"x": a, "y": a}))) == {"y": "y"}


def test_kin_is_found_by_likeness_not_by_name():
    rng = np.random.default_rng(3)
    base = {name: rng.normal(size=(8, 32)).astype(np.float32) for name in "abc"}
    moved_on = trained({"x": base["c"], "a": base["b"], "z": base["a"]}, step=0.05)
    assert names(kin(tensors(KEPT, moved_on), tensors(0, base))) == {"x": "c", "a": "b", "z": "a"}


def test_kin_of_another_size_needs_the_same_rows_and_name():
    base = {"w": np.ones((5, 16), np.float32), "v": np.ones((5, 16), np.float32)}
    found = names(
        kin(tensors(KEPT, {"w": np.ones((6, 16), np.float32), "u": np.ones((7, 16), np.float32)}), tensors(0, base))
    )
    assert found == {"w": "w"}


def test_rows_find_their_sources():
    rows = np.random.default_rng(1).normal(size=(6, 40))
    target = np.stack([rows[4], rows[0] * 2, np.random.default_rng(2).normal(size=40)])
    assert row_sources(target, rows) == (4, 0, -1)
    assert row_sources(np.ones((3, 1)), np.ones((2, 1))) == (0, 1, -1)


def test_what_is_no_matrix_of_numbers_is_left_to_bytes():
    assert modelled(Segment(0, 64, Role.WEIGHT, "w", "float32", (4, 4)))
    assert not modelled(Segment(0, 16, Role.WEIGHT, "w", "float32", (4,)))
    assert not modelled(Segment(0, 64, Role.TENSOR, "i", "int64", (8,)))
    assert not modelled(Segment(0, 64, Role.TENSOR, "packed", "uint8", (64,)))
    assert not modelled(Segment(0, 64, Role.REST))


def test_moved_ranges_are_found_and_true():
    rng = np.random.default_rng(9)
    one, other = rng.bytes(200_000), rng.bytes(50_000)
    target = rng.bytes(77) + one[30_000:150_000] + b"between" + other + one[:20_000]
    found = list(moved(memoryview(target), [memoryview(one), memoryview(other)], 256))
    end = 0
    for offset, span in found:
        assert offset >= end
        end = offset + span.length
        assert target[offset:end] == (one, other)[span.source][span.offset : span.offset + span.length]
    assert [(offset, span) for offset, span in found if span.length > 10_000] == [
        (77, Span(0, 30_000, 120_000)), (77 + 120_000 + 7, Span(1, 0, 50_000)), (170_084, Span(0, 0, 20_000)),
    ]  # fmt: skip


def test_nothing_moved_is_nothing():
    assert list(moved(memoryview(b""), [memoryview(b"")], 256)) == []
    assert list(moved(memoryview(bytes(100)), [], 256)) == []


def test_more_anchors_than_are_remembered_are_chosen_more_sparsely(monkeypatch):
    monkeypatch.setattr(matching, "MOST_ANCHORS", 1000)
    base = np.random.default_rng(4).bytes(1 << 20)
    target = base[700_001:] + base[:700_001]
    assert list(moved(memoryview(target), [memoryview(base[:300_000]), memoryview(base[300_000:])], 256)) == [
        (0, Span(1, 400_001, len(base) - 700_001)),
        (len(base) - 700_001, Span(0, 0, 300_000)),
        (len(base) - 400_001, Span(1, 0, 400_001)),
    ]


@pytest.mark.parametrize("content", ["random", "zeros", "mostly zeros"])
def test_memory_does_not_grow_with_the_bytes(content):
    size = 4 << 20
    base = (
        np.random.default_rng(5).integers(0, 256, size, np.uint8) if content == "random" else np.zeros(size, np.uint8)
    )
    if content == "mostly zeros":
        for k in range(8):
            base[k::97] = np.random.default_rng(k).integers(0, 256, len(base[k::97]))
    target = np.roll(base, size // 3)
    tracemalloc.start()
    found = list(moved(memoryview(target), [memoryview(base)], 256))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(span.length for _, span in found) > 0.99 * size
    assert peak < 16 << 20, f"{peak >> 20} MiB for {size >> 20} MiB"
