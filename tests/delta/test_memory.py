"""A device with little memory applies a patch for a model of any size, and a hub makes it in little more."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DECODER, ENCODER = 64 + 16, 128
"""MiB of private memory: the format's and the largest block of rows at work; what making a frame takes on top."""

MODEL = 500
"""MB of a model."""


def model(path, change):
    """A safetensors file of large layers, written layer by layer; its digest."""
    rng = np.random.default_rng(1)
    block = (rng.normal(size=(1000, 1000)) * 0.1).astype(np.float32)
    count = MODEL // 4
    header = json.dumps({
        f"layer{k}": {"dtype": "F32", "shape": [1000, 1000], "data_offsets": [k * block.nbytes, (k + 1) * block.nbytes]}
        for k in range(count)
    }).encode()  # fmt: skip
    whole = hashlib.sha256()
    with path.open("wb") as file:
        for part in (
            len(header).to_bytes(8, "little"),
            header,
            *(change(np.roll(block, k)).tobytes() for k in range(count)),
        ):
            file.write(part)
            whole.update(part)
    return whole.hexdigest()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base, and a target in which every weight has moved a little: no two layers alike."""
    folder = tmp_path_factory.mktemp("models")
    noise = (np.random.default_rng(2).normal(size=(1000, 1000)) * 1e-3).astype(np.float32)
    model(folder / "base", lambda block: block)
    return folder, model(folder / "target", lambda block: block * np.float32(1.001) + noise)


def peak(what, base, other, level, most):
    """Run it in a process that may take so many MiB, and hear what it took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.delta.peak", what, base, other, level, str(most)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{what} at level {level} in {most} MiB: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_memory_is_bounded_whatever_the_size(models, level):
    folder, digest = models
    made = peak("encode", folder / "base", folder / "target", level, ENCODER)
    applied = peak("decode", folder / "base", folder / "target.patch", "-", DECODER)
    assert applied["sha256"] == digest
    size = applied["size"]
    print(
        f"\n{level}: {size} bytes as a patch of {made['size']}; private memory: made in {made['peak'] / 2**20:.0f} MiB, "
        f"applied in {applied['peak'] / 2**20:.0f} MiB; processor: {size / made['seconds'] / 1e6:.1f} and "
        f"{size / applied['seconds'] / 1e6:.1f} MB/s"
    )
