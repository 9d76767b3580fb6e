"""Small model files, made here so that these tests always run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "pairs"
NAMES = {
    "float32": "F32",
    "float16": "F16",
    "float64": "F64",
    "int8": "I8",
    "uint8": "U8",
    "int32": "I32",
    "int64": "I64",
}


def safetensors(tensors: dict[str, np.ndarray], **notes: str) -> bytes:
    """A safetensors file of the arrays; uint16 stands for bfloat16."""
    header, at = {"__metadata__": notes} if notes else {}, 0
    for name, array in tensors.items():
        kind = "BF16" if array.dtype == np.uint16 else NAMES[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return (
        len(text).to_bytes(8, "little") + text + b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values())
    )


def network(seed: int = 1, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Tensors like a small network's."""
    rng = np.random.default_rng(seed)
    shapes = {"stem.weight": (16, 3, 3, 3), "stem.bias": (16,), "body.weight": (32, 16, 3, 3), "head.weight": (10, 32)}
    return {name: (rng.normal(size=shape) * 0.1).astype(dtype) for name, shape in shapes.items()}


def trained(tensors: dict[str, np.ndarray], seed: int = 2, step: float = 0.01) -> dict[str, np.ndarray]:
    """The same after some training: every weight moved a little, along few directions."""
    rng = np.random.default_rng(seed)
    moved = {}
    for name, array in tensors.items():
        rows = array.reshape(array.shape[0], -1).astype(np.float64)
        drift = rng.normal(size=(rows.shape[0], 2)) @ rng.normal(size=(2, rows.shape[1])) + rng.normal(size=rows.shape)
        moved[name] = (rows + step * 0.1 * drift).reshape(array.shape).astype(array.dtype)
    return moved


@pytest.fixture(scope="session")
def pair() -> tuple[bytes, bytes]:
    """A model and its fine-tune."""
    base = network()
    return safetensors(base), safetensors(trained(base))


@pytest.fixture(scope="session")
def real_pairs() -> dict[str, tuple[bytes, bytes]]:
    """Real version pairs, small ones."""
    found = {}
    for folder in sorted(DATA.glob("*/")):
        files = [next(iter(sorted((folder / side).iterdir()))) for side in "ab"]
        if sum(file.stat().st_size for file in files) < 700_000:
            found[folder.name] = (files[0].read_bytes(), files[1].read_bytes())
    if not found:
        pytest.skip("../shared/data/pairs is not beside the checkout")
    return found
