"""Which matrices feed which is found from their numbers alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farshore.delta import decode, encode
from farshore.delta.channels import with_channels
from farshore.delta.container import Reader
from farshore.delta.frames import NOTHING, Piece, pieces_table, read_pieces
from farshore.delta.kin import CHANNELS

from .conftest import safetensors


def chain(seed=3):
    """Layers of a network and what training made of them: each layer's inputs are the outputs of the one before; the last two
    have the same inputs."""
    rng = np.random.default_rng(seed)
    first = np.tile(rng.normal(size=(32, 40)), (2, 1)) + 0.2 * rng.normal(size=(64, 40))
    seen = [rng.normal(size=(40, 300))]
    seen += [first @ seen[0]] * 2
    bases = [first, rng.normal(size=(48, 64)), rng.normal(size=(16, 64))]
    drift = [rng.normal(size=(len(base), 300)) @ x.T for base, x in zip(bases, seen, strict=True)]
    changed = [base + 0.01 * step / step.std() for base, step in zip(bases, drift, strict=True)]
    return bases, changed


def pieces_of(bases, offset=0):
    pieces = []
    for base in bases:
        pieces.append(Piece(offset, 0, *base.shape, source=0, at=offset))
        offset += base.size * 4
    return pieces


def told(bases, changed):
    pieces = pieces_of(bases)
    by_offset = {piece.offset: pair for piece, pair in zip(pieces, zip(changed, bases, strict=True), strict=True)}
    return with_channels(pieces, lambda piece: by_offset[piece.offset])


def test_the_matrix_that_makes_the_inputs_is_found():
    found = told(*chain())
    assert all(piece.flags & CHANNELS for piece in found)
    assert [(kin.back, kin.inputs) for kin in found[1].kin] == [(1, False)]
    assert read_pieces(Reader(pieces_table(found))) == found


def test_a_matrix_with_the_same_inputs_is_found():
    bases, changed = chain()
    found = told(bases[1:], changed[1:])
    assert [[(kin.back, kin.inputs) for kin in piece.kin] for piece in found] == [[], [(1, True)]]


def test_outputs_of_two_matrices_side_by_side_are_found():
    bases, changed = chain()
    rng = np.random.default_rng(9)
    inputs = np.concatenate(
        [bases[1] @ (bases[0] @ rng.normal(size=(40, 300))), bases[2] @ (bases[0] @ rng.normal(size=(40, 300)))]
    )
    joined = rng.normal(size=(16, 64))
    step = rng.normal(size=(16, 300)) @ inputs.T
    last = told([*bases, joined], [*changed, joined + 0.01 * step / step.std()])[-1]
    assert sorted((kin.start, kin.inputs) for kin in last.kin) == [(0, False), (48, False)]


def test_noise_has_no_kin():
    rng = np.random.default_rng(4)
    bases = [rng.normal(size=(24, 40)), rng.normal(size=(32, 24))]
    changed = [base + 0.01 * rng.normal(size=base.shape) for base in bases]
    assert told(bases, changed) == tuple(pieces_of(bases))


def test_what_flags_settle_has_no_kin():
    bases, _ = chain()
    pruned = [np.where(np.abs(base) < 0.7, 0.0, base) for base in bases]
    pieces = tuple(replace(piece, flags=6) for piece in pieces_of(bases))
    by_offset = {piece.offset: pair for piece, pair in zip(pieces, zip(pruned, bases, strict=True), strict=True)}
    assert with_channels(pieces, lambda piece: by_offset[piece.offset]) == pieces


def test_nothing_held_and_nothing_alike_are_no_trouble():
    zeros = [np.zeros((24, 40)), np.zeros((32, 24))]
    assert told(zeros, zeros) == tuple(pieces_of(zeros))
    alone = Piece(0, 0, 24, 40, source=NOTHING)
    assert with_channels([alone], lambda _: (np.ones((24, 40)), np.zeros((24, 40))))[0].kin == ()
    small = Piece(0, 0, 2, 3, source=NOTHING)
    assert with_channels([small], lambda _: (np.ones((2, 3)), np.zeros((2, 3)))) == (small,)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_patch_is_smaller_for_it_and_exact(dtype, monkeypatch):
    bases, changed = chain()
    files = [safetensors({f"{k}.weight": matrix.astype(dtype) for k, matrix in enumerate(m)}) for m in (bases, changed)]
    patch = b"".join(encode(files[1], [files[0]], level="max"))
    assert b"".join(decode(patch, [files[0]])) == files[1]
    monkeypatch.setattr("farshore.delta.planning.with_channels", lambda pieces, _: tuple(pieces))
    without = b"".join(encode(files[1], [files[0]], level="max"))
    assert len(patch) < 0.99 * len(without)
