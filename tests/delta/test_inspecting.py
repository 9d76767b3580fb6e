"""What a patch says of itself."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from farshore.core.errors import Corrupt, Invalid
from farshore.delta import encode, info

from .conftest import network, safetensors


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_everything_is_accounted_for(pair, level):
    base, target = pair
    patch = b"".join(encode(target, [base], level=level))
    found = info(patch)
    assert found.level == level
    assert (found.target_size, found.target_digest) == (len(target), hashlib.sha256(target).hexdigest())
    assert found.bases == ((len(base), hashlib.sha256(base).hexdigest()),)
    assert found.size == len(patch)
    assert sum(frame.target_bytes for frame in found.frames) == len(target)
    assert 0 < sum(frame.size for frame in found.frames) <= len(patch)
    parts = sorted((part.offset, part.length) for frame in found.frames for part in frame.parts)
    assert sum(length for _, length in parts) == len(target)
    assert any(part.what == "float32 32x144" and part.based for frame in found.frames for part in frame.parts)


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize("with_bases", [False, True])
def test_costs_make_the_whole(pair, level, with_bases):
    base, target = pair
    found = info(b"".join(encode(target, [base], level=level)), [b"something else", base] if with_bases else None)
    assert found.exact == with_bases
    for frame in found.frames:
        assert sum(part.cost for part in frame.parts) == pytest.approx(frame.size)
        assert all(part.cost >= 0 for part in frame.parts)


@pytest.mark.parametrize("level", ["default", "max"])
def test_with_bases_a_matrix_costs_what_the_coder_spent(level):
    """One moved a little and one anew, of the same shape in the same frame: by length they would cost the same."""
    rng = np.random.default_rng(1)
    old, new = (rng.normal(size=(40, 90)).astype(np.float32) for _ in range(2))
    base = {"still": old, "near": old * 2, "anew": old * 3}
    target = base | {"near": old * 2 + new * np.float32(1e-6), "anew": new}
    files = safetensors(target), safetensors(base)
    patch = b"".join(encode(files[0], [files[1]], level=level))
    alone = {
        name: len(b"".join(encode(safetensors(base | {name: target[name]}), [files[1]], level=level)))
        for name in ("near", "anew")
    }
    start = len(files[0]) - 3 * old.nbytes
    cost = {part.offset: part.cost for frame in info(patch, [files[1]]).frames for part in frame.parts}
    found = {name: cost[start + place * old.nbytes] for place, name in enumerate(target) if name in alone}
    for name, size in found.items():
        assert size == pytest.approx(alone[name], rel=0.05, abs=400), name
    assert found["anew"] > 2 * found["near"]
    blind = {part.offset: part.cost for frame in info(patch).frames for part in frame.parts}
    assert blind[start + old.nbytes] == pytest.approx(blind[start + 2 * old.nbytes])


def test_what_a_base_lets_expect_is_told(pair):
    base, target = pair
    parts = [
        part
        for frame in info(b"".join(encode(target, [base], level="fast"))).frames
        for part in frame.parts
        if part.what
    ]
    assert all(part.source == "float32" and part.near >= 1 and not part.zeros for part in parts if part.length > 1000)
    narrow = safetensors({name: array.astype(np.float16) for name, array in network().items()})
    parts = [part for frame in info(b"".join(encode(narrow, [base]))).frames for part in frame.parts if part.what]
    assert parts and all(part.source == "float32" and part.what.startswith("float16") for part in parts)


def test_costs_need_the_bases_that_the_patch_names(pair):
    patch = b"".join(encode(pair[1], [pair[0]]))
    with pytest.raises(Invalid, match="not held"):
        info(patch, [pair[1]])


def test_what_is_no_patch_is_refused(pair):
    with pytest.raises(Invalid):
        info(pair[0])
    with pytest.raises(Corrupt):
        info(b"".join(encode(b"abc"))[:-1])
