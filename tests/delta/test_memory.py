"""A device with little memory applies a patch for a model of any size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from farshore.delta import encode

from .conftest import safetensors

APPLY = """
import hashlib, mmap, resource, sys
from pathlib import Path
from farshore.delta import decode

def chunks(path):
    with open(path, "rb") as file:
        while data := file.read(1 << 16):
            yield data

with open(sys.argv[1], "rb") as file:
    base = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
# Private writable memory only: pages of the mapped base are the page cache's.
used = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")).split()[1]) << 10
most = used + (int(sys.argv[3]) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
whole = hashlib.sha256()
for part in decode(chunks(sys.argv[2]), [base]):
    whole.update(part)
print(whole.hexdigest())
"""


@pytest.mark.deep
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
@pytest.mark.parametrize(("level", "megabytes"), [("fast", 500), ("default", 500), ("max", 60)])
def test_memory_is_bounded_whatever_the_size(tmp_path, level, megabytes):
    import hashlib

    rng = np.random.default_rng(1)
    block = (rng.normal(size=(1000, 1000)) * 0.1).astype(np.float32)
    base = {f"layer{k}": block + np.float32(k) for k in range(megabytes // 4)}
    target = {name: array * np.float32(1.001) for name, array in base.items()}
    (tmp_path / "base").write_bytes(safetensors(base))
    data = safetensors(target)
    (tmp_path / "patch").write_bytes(b"".join(encode(data, [(tmp_path / "base").read_bytes()], level=level, workers=2)))
    files = [str(tmp_path / "base"), str(tmp_path / "patch")]
    done = subprocess.run([sys.executable, "-c", APPLY, *files, "80"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == hashlib.sha256(data).hexdigest(), done.stderr[-2000:]
