"""Frames of Zstandard: what they hold, what they may refer to, and what is refused before it costs anything."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from farshore.core.errors import Corrupt
from farshore.delta import zstd

CHANCE = random.Random(7)
OLD = CHANCE.randbytes(30_000)
NEW = OLD[500:20_000] + b"something else" + OLD[20_000:]


@pytest.mark.parametrize("history", [b"", b"short", OLD], ids=["none", "too short to refer to", "the old file"])
@pytest.mark.parametrize("data", [b"", b"x", NEW], ids=["nothing", "a byte", "the new file"])
def test_there_and_back(data: bytes, history: bytes) -> None:
    packed = zstd.compress(data, 12, history, window_log=24)
    assert zstd.decompress(packed, len(data), history) == data
    if data is NEW and history is OLD:
        assert len(packed) < 200


def test_a_frame_of_long_distances() -> None:
    far = OLD + bytes(3 << 20) + CHANCE.randbytes(1 << 20) + OLD
    packed = zstd.compress(far, 3, window_log=24, far=True)
    assert zstd.decompress(packed, len(far)) == far
    assert len(packed) < (1 << 20) + len(OLD) + 5000


def test_frames_say_their_length_as_patches_have_it() -> None:
    """As version 1 of patches was written from the start: a reader that expects a length finds one."""
    packed = zstd.compress(NEW, 12)
    assert packed[:4] == bytes.fromhex("28b52ffd")
    assert packed[4] >> 6, "RFC 8878 §3.1.1.1.1: the frame content size flag"


@pytest.mark.parametrize("short", [1, 10, 200])
def test_a_cut_frame_is_refused(short: int) -> None:
    packed = zstd.compress(NEW, 12)
    with pytest.raises(Corrupt):
        zstd.decompress(packed[:-short], len(NEW))


@pytest.mark.parametrize(
    "bad",
    [b"", b"not zstandard", zstd.compress(NEW, 3) + b"x", zstd.compress(NEW, 3) * 2],
    ids=lambda each: str(len(each)),
)
def test_what_is_no_frame_or_more_than_one_is_refused(bad: bytes) -> None:
    with pytest.raises(Corrupt):
        zstd.decompress(bad, len(NEW))


@pytest.mark.parametrize("length", [0, 1, len(NEW) - 1, len(NEW) + 1, 1 << 40])
def test_another_length_than_told_is_refused(length: int) -> None:
    with pytest.raises(Corrupt, match="another number of bytes"):
        zstd.decompress(zstd.compress(NEW, 3), length)


def test_one_that_does_not_say_its_length_gives_no_more_than_told(tmp_path: Path) -> None:
    if (tool := shutil.which("zstd")) is None:
        pytest.skip("the tool zstd is not installed")
    streamed = subprocess.run([tool, "-c"], input=bytes(1 << 20), capture_output=True, check=True).stdout
    assert zstd.decompress(streamed, 1 << 20) == bytes(1 << 20)
    with pytest.raises(Corrupt):
        zstd.decompress(streamed, (1 << 20) - 1)


def test_a_window_larger_than_any_patch_needs_is_refused() -> None:
    # Magic, a descriptor without flags, a window of 2^30 bytes, one empty last block.
    with pytest.raises(Corrupt):
        zstd.decompress(bytes.fromhex("28b52ffd") + bytes([0, 20 << 3]) + bytes([1, 0, 0]), 0)


def test_another_history_leads_to_nothing_whole() -> None:
    packed = zstd.compress(NEW, 12, OLD)
    with pytest.raises(Corrupt):
        zstd.decompress(packed, len(NEW))
