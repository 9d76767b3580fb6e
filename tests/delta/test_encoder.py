"""Whatever comes in comes out, and what a patch is for costs what it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.delta import decode, encode
from farshore.formats import Role, Segment, SegmentMap

from .conftest import network, safetensors, trained
from .models import FORMATS, file_of, moved, quantised, weights

LEVELS = ["fast", "default", "max"]


def both_ways(target, bases, level="default", **options):
    patch = b"".join(encode(target, bases, level=level, **options))
    assert b"".join(decode(patch, bases)) == target
    assert b"".join(decode(patch, bases[::-1])) == target
    return len(patch)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.lists(st.binary(max_size=300), max_size=3), st.sampled_from(LEVELS))
def test_any_bytes(target, bases, level):
    both_ways(target, bases, level)


DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int32")
mutations = st.lists(st.tuples(st.sampled_from("ydit"), st.floats(0, 1), st.integers(0, 255)), max_size=5)


def mutated(data, changes):
    """Bytes overwritten, deleted, put in, or cut off, anywhere: in headers, tables and weights alike."""
    data = bytearray(data)
    for how, where, number in changes:
        at = int(where * len(data))
        if how == "y":
            data[at : at + 1] = bytes([number])
        elif how == "d":
            del data[at : at + number]
        elif how == "i":
            data[at:at] = bytes(range(number))
        else:
            del data[at + number :]
    return bytes(data)


model_files = st.builds(
    lambda kind, dtype, seed, step, cast, changes: mutated(
        quantised(weights(seed)) if kind == "quantised" else file_of(
            {n: a.astype(cast or dtype) for n, a in (moved(weights(seed, dtype=dtype), step) if step else weights(seed, dtype=dtype)).items()},
            kind,
        ),
        changes,
    ),
    st.sampled_from([*FORMATS, "quantised"]), st.sampled_from(DTYPES), st.integers(0, 2), st.integers(0, 3),
    st.sampled_from([None, None, "float32", "float16", "int8"]), mutations,
)  # fmt: skip
any_models = given(
    model_files, st.lists(model_files, max_size=3), st.sampled_from(LEVELS), st.randoms(use_true_random=False)
)


def any_two_models(target, bases, level, order):
    """Any files as base and target, base lists of any length, held in any order."""
    patch = b"".join(encode(target, bases, level=level))
    held = [*bases, b"something else"]
    order.shuffle(held)
    assert b"".join(decode(patch, held)) == target


@settings(max_examples=60, deadline=None)
@any_models
def test_any_models(target, bases, level, order):
    any_two_models(target, bases, level, order)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@settings(max_examples=2000, deadline=None)
@any_models
def test_many_models(target, bases, level, order):
    any_two_models(target, bases, level, order)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=3000), st.lists(st.binary(max_size=3000), max_size=4), st.sampled_from(LEVELS))
def test_many_bytes(target, bases, level):
    both_ways(target, bases, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_training_costs_less_than_compressing(level, dtype):
    base = network(dtype=dtype)
    target = safetensors(trained(base))
    assert both_ways(target, [safetensors(base)], level) < both_ways(target, [], level)


@pytest.mark.parametrize("level", ["default", "max"])
def test_other_precisions_of_the_same_weights_cost_little(level):
    base = network()
    narrow = {name: array.astype(np.float16) for name, array in base.items()}
    brain = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in base.items()}
    assert both_ways(safetensors(narrow), [safetensors(base)], level) < 0.1 * len(safetensors(narrow))
    assert both_ways(safetensors(brain), [safetensors(base)], level) < 0.5 * len(safetensors(brain))
    wide = {name: array.astype(np.float32) for name, array in narrow.items()}
    assert both_ways(safetensors(wide), [safetensors(narrow)], level) < 0.05 * len(safetensors(wide))


@pytest.mark.parametrize("level", ["default", "max"])
def test_pruned_renamed_reordered_and_grown(level):
    base = network()
    pruned = {name: np.where(np.abs(a) < 0.04, 0, a).astype(a.dtype) for name, a in base.items()}
    assert both_ways(safetensors(pruned), [safetensors(base)], level) < 0.1 * len(safetensors(base))
    renamed = {name.replace("body", "trunk"): base[name] for name in reversed(base)}
    assert both_ways(safetensors(renamed), [safetensors(base)], level) < 700
    grown = base | {"head.weight": np.concatenate([base["head.weight"], base["head.weight"][:1] * 0.5])}
    assert both_ways(safetensors(grown), [safetensors(base)], level) < 900


@pytest.mark.parametrize("level", LEVELS)
def test_a_tensor_that_the_target_holds_twice_costs_once(level):
    once = network()
    twice = once | {"tied.weight": once["body.weight"]}
    sizes = [both_ways(safetensors(tensors), [], level) for tensors in (once, twice)]
    assert sizes[1] < sizes[0] + 400


def test_several_bases_help():
    one, other = network(1), network(2)
    mixed = {name: (one if k % 2 else other)[name] for k, name in enumerate(one)}
    files = [safetensors(one), safetensors(other)]
    assert both_ways(safetensors(mixed), files) < 0.05 * both_ways(safetensors(mixed), files[:1])


@pytest.mark.parametrize("level", LEVELS)
def test_larger_than_one_matrix(level):
    rng = np.random.default_rng(4)
    base = {
        "w": (rng.normal(size=(1100, 600)) * 0.1).astype(np.float32),
        "v": rng.normal(size=700_000).astype(np.float16),
    }
    target = {"w": base["w"] + np.float32(0.001), "v": base["v"]}
    both_ways(safetensors(target), [safetensors(base)], level, workers=2)


def test_moved_bytes_of_unknown_files_are_copied():
    rng = np.random.default_rng(8)
    base = rng.bytes(3 << 20)
    target = base[1 << 20 :] + rng.bytes(100) + base[: 1 << 20]
    for level in LEVELS:
        assert both_ways(target, [base], level) < 1000


def test_progress_reaches_the_end(pair):
    told = []
    list(encode(pair[1], [pair[0]], progress=lambda done, total: told.append((done, total))))
    assert told[-1] == (len(pair[1]), len(pair[1]))


def test_wrong_calls_are_refused():
    with pytest.raises(Invalid, match="level"):
        list(encode(b"a", [], level="best"))
    with pytest.raises(Invalid, match="bases"):
        list(encode(b"a", [b"b"] * 17))


def test_real_pairs(real_pairs):
    for base, target in real_pairs.values():
        fast, default = (both_ways(target, [base], level) for level in ("fast", "default"))
        assert default <= fast


def test_what_the_caller_knows_of_files_is_used():
    """Weights without a word of what they are, as ONNX keeps them beside a model."""
    before = network()
    old, new = (arrays["body.weight"].tobytes() for arrays in (before, trained(before)))
    maps = [SegmentMap("onnx", (Segment(0, len(old), Role.WEIGHT, "w", "float32", (32, 16, 3, 3)),))] * 2
    known, unknown = both_ways(new, [old], maps=maps), both_ways(new, [old])
    assert known < 0.9 * unknown
    with pytest.raises(Invalid, match="one for the target"):
        b"".join(encode(new, [old], maps=maps[:1]))
