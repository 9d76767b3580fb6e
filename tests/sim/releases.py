"""Versions to deliver: real manifests over bytes that are made up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.manifest import AcceptanceCase, Content, File, Manifest, Pipeline, Requirements, Tensor, Variant


@dataclass(frozen=True)
class Release:
    """One version as the hub holds it: manifest, its bytes, and the bytes of its files by digest."""

    manifest: Manifest
    payload: bytes
    digest: Digest
    blobs: dict[Digest, bytes]

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.blobs.values())


def release(
    model: str = "detector", version: int = 1, *, size: int = 300_000, seed: str = "", runtime: str = "onnxruntime", memory: int = 0, shared: bytes = b"person\ncat\n", weights: bytes = b"",
) -> Release:  # fmt: skip
    """A version with a model file (``weights``, or ``size`` bytes of noise), labels and one acceptance picture."""
    weights = weights or noise(size, f"{model}@{version}{seed}")
    picture = noise(1000, "picture")
    model_file, labels = _file("model.onnx", weights, "model"), _file("labels.txt", shared, "labels")
    variant = Variant(
        name="main",
        runtime=runtime,
        precision="float32",
        files=(model_file, labels, _file("README.md", b"not needed on devices", "other")),
        inputs=(Tensor("x", "float32", (1, 3, 8, 8)),),
        outputs=(Tensor("y", "float32", (1, 10)),),
        pipeline=Pipeline("classification", "softmax"),
        requires=Requirements(memory=memory),
    )
    case = AcceptanceCase("scene", _file("scene.jpg", picture, "picture"), {"classes": []})
    manifest = Manifest(model, version, Content((variant,), (case,)))
    payload = manifests.encode(manifest)
    blobs = {digests.of(data): data for data in (weights, shared, picture)}
    return Release(manifest, payload, digests.of(payload), blobs)


def noise(size: int, seed: str) -> bytes:
    """Bytes that look random and are the same each time."""
    return hashlib.shake_128(seed.encode()).digest(size)


def _file(path: str, data: bytes, role: str) -> File:
    return File(path, digests.of(data), len(data), role)
