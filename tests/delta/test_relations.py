"""A scale follows from its range or its weights, and is found from the numbers alone."""

from __future__ import annotations

import numpy as np

from farshore.delta import decode, encode
from farshore.delta.frames import KEPT
from farshore.delta.matching import tensors_of
from farshore.delta.relations import Relations, is_vector
from farshore.formats import segment

from .conftest import safetensors


def tensors(number, arrays):
    data = safetensors(arrays)
    return {t.segment.name: t for t in tensors_of(number, data, segment(data))}


RNG = np.random.default_rng(5)
WEIGHTS = (RNG.normal(size=(24, 36)) * 0.1).astype(np.float32)
RANGES = {
    "low": WEIGHTS.min(axis=1),
    "top": WEIGHTS.max(axis=1),
    "scale": np.abs(WEIGHTS).max(axis=1) / np.float32(127),
}


def test_vectors_are_short_and_real():
    found = tensors(
        0, {"v": RANGES["low"], "w": WEIGHTS, "i": np.arange(40, dtype=np.int32), "r": RANGES["low"].reshape(1, 24, 1)}
    )
    assert [name for name, tensor in found.items() if is_vector(tensor)] == ["v", "r"]


def test_ranges_and_scales_follow_from_the_bases_weights():
    target, base = tensors(KEPT, RANGES), tensors(0, {"w": WEIGHTS})
    relations = Relations(list(target.values()), list(base.values()))
    folds = {name: relations.of(tensor)[0].fold for name, tensor in target.items()}
    assert folds == {"low": 1, "top": 2, "scale": 0}


def test_a_scale_follows_from_its_range():
    target = tensors(KEPT, RANGES)
    relations = Relations(list(target.values()), [])
    assert relations.settle(target["low"], []) == 0
    assert relations.settle(target["top"], []) == 0
    best = relations.of(target["scale"])[0]
    assert best.partner == target["top"].span()
    assert relations.settle(target["scale"], [best.span, best.partner]) == 1


def test_unrelated_vectors_have_none():
    noise = {"a": RNG.normal(size=24).astype(np.float32), "b": RNG.normal(size=24).astype(np.float32)}
    target = tensors(KEPT, noise)
    relations = Relations(list(target.values()), list(tensors(0, {"w": WEIGHTS}).values()))
    relations.settle(target["a"], [])
    assert relations.of(target["b"]) == []


def test_a_quantised_model_with_its_scales_costs_little():
    quantised = np.rint(WEIGHTS / RANGES["scale"][:, None]).astype(np.int8)
    base, target = (
        safetensors({"w": WEIGHTS}),
        safetensors({**RANGES, "bias.scale": RANGES["scale"] * np.float32(0.037)}),
    )
    patch = b"".join(encode(target, [base], level="max"))
    assert b"".join(decode(patch, [base])) == target
    assert len(patch) < 420
    assert quantised.max() == 127
