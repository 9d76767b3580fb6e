"""The other tools, measured fairly: what they need falls with what is held, and repeats."""

from __future__ import annotations

import random

from farshore.cli import rivals

NOISE = random.Random(1).randbytes(200_000)


def test_tools_that_see_the_base_need_less_with_it():
    moved = NOISE[100_000:] + b"inserted" + NOISE[:100_000]
    sizes = rivals.sizes(NOISE, moved)
    for tool in {"zstd -22 --patch-from", "xz of a+b", "bsdiff*", "xdelta3", "chunks"} & set(sizes):
        assert sizes[tool] < 0.25 * len(moved), tool
    for tool in {"zip", "xz -9e", "brotli 11"} & set(sizes):
        assert sizes[tool] > 0.99 * len(moved), tool


def test_nothing_is_held_is_fine():
    assert all(0 < size < 300_000 for size in rivals.sizes(b"", NOISE).values())


def test_chunks_hold_every_byte_once():
    for data in (NOISE, bytes(300_000), b"", b"x"):
        cut = list(rivals._cut(data))
        assert b"".join(cut) == data
        assert all(len(chunk) <= rivals.CHUNK_MOST for chunk in cut)
    assert 5_000 < len(NOISE) / len(list(rivals._cut(NOISE))) < 16_000


def test_sizes_are_kept_by_contents(tmp_path, monkeypatch):
    cache = tmp_path / "sizes.json"
    first = rivals.sizes(b"a" * 1000, b"b" * 1000, cache)
    monkeypatch.setattr(rivals, "tools", lambda: {"never run": lambda a, b: 7})
    assert rivals.sizes(b"a" * 1000, b"b" * 1000, cache) == first | {"never run": 7}
    assert rivals.sizes(b"a" * 1000, b"c" * 1000, cache) == {"never run": 7}
