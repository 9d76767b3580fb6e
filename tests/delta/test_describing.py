"""A changed tensor is described by what lets expect it best."""

from __future__ import annotations

import numpy as np

from farshore.delta.encoder import Encoder
from farshore.delta.frames import NOTHING
from farshore.delta.planning import make_plan
from farshore.formats import segment

from .conftest import network, safetensors, trained


def pieces(target, base, level="default"):
    data, held = memoryview(safetensors(target)), memoryview(safetensors(base))
    made = Encoder(data, [held], level)
    plan = make_plan(data, [held], (segment(data), [segment(held)]), level, made.fetch)
    return [piece for stage in (*plan.first, plan.pieces) for piece in stage]


def only(target, base, level="default"):
    (piece,) = pieces({"w": target}, {"w": base}, level)
    return piece


WEIGHTS = network()["body.weight"]


def test_trained_weights_are_expected_from_the_base_and_moved_together():
    piece = only(trained({"w": WEIGHTS})["w"], WEIGHTS)
    assert (piece.rows, piece.cols, piece.source, piece.joints) == (32, 144, 0, 1)
    assert piece.scale < piece.size


def test_unrelated_weights_are_expected_from_nothing():
    assert (
        only(np.random.default_rng(77).normal(size=(40, 40)).astype(np.float32), np.ones((40, 40), np.float32)).source
        == NOTHING
    )


def test_pruned_and_kept_values_are_flagged():
    piece = only(np.where(np.abs(WEIGHTS) < 0.05, 0, WEIGHTS).astype(np.float32), WEIGHTS)
    assert piece.flags & 6 == 6


def test_another_precision_of_the_same_weights_is_rounded():
    piece = only(WEIGHTS.astype(np.float16), WEIGHTS)
    assert (piece.rounds, piece.flags & 4) == (1, 4)


def test_a_narrow_float_in_a_wide_one_drops_its_zero_bits():
    base = WEIGHTS.astype(np.float16).astype(np.float32)
    assert only((base * 2 + np.float32(0.25)).astype(np.float16).astype(np.float32), base).shift >= 13


def test_dead_channels_are_flagged_for_the_quick_model():
    dead = trained({"w": WEIGHTS})["w"] * np.where(np.arange(32) % 2, 1, 1e-12).astype(np.float32)[:, None, None, None]
    assert (only(dead, WEIGHTS).detail, only(dead, WEIGHTS).flags & 16) == (0, 16)
    assert (only(dead, WEIGHTS, "max").detail, only(dead, WEIGHTS, "max").flags & 16) == (2, 0)
    assert only(trained({"w": WEIGHTS})["w"], WEIGHTS).flags & 16 == 0
    assert only(dead[:8], WEIGHTS[:8]).detail == 1
