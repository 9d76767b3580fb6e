"""What a patch says of itself."""

from __future__ import annotations

import hashlib

import pytest

from farshore.core.errors import Corrupt, Invalid
from farshore.delta import encode, info


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


def test_what_is_no_patch_is_refused(pair):
    with pytest.raises(Invalid):
        info(pair[0])
    with pytest.raises(Corrupt):
        info(b"".join(encode(b"abc"))[:-1])
