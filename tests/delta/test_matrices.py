"""What a base lets expect, and planes: exact both ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farshore.delta.frames import KEPT, Piece, Span
from farshore.delta.grids import BY_NAME
from farshore.delta.kernel import coder
from farshore.delta.matrices import (
    decode_values,
    encode_values,
    expectation,
    join_planes,
    planes_length,
    split_planes,
    trial,
)

BASE = np.arange(24, dtype="<f4").reshape(4, 6) - 5
SCALES = np.array([0.5, 2, 4, 8], "<f4")
FILE = BASE.tobytes() + SCALES.tobytes() + BASE[:, :4].astype(np.int8).tobytes()


def fetch(span):
    return FILE[span.offset : span.offset + span.length]


PIECE = Piece(0, 0, 4, 6, source=0)


def by_rows(piece):
    return expectation(piece, fetch).reshape(piece.cols, piece.rows).T


def test_as_it_is_and_by_columns():
    assert (by_rows(PIECE) == BASE).all()
    assert (by_rows(replace(PIECE, rows=6, cols=4, source_order=1)) == BASE.T).all()
    assert (expectation(replace(PIECE, source=-2), fetch) == 0).all()


def test_gathered_rows():
    assert (
        by_rows(replace(PIECE, rows=3, source_rows=4, gather=(2, -1, 0))) == np.stack([BASE[2], BASE[2] * 0, BASE[0]])
    ).all()


def test_scales_and_zero_points():
    scale = Span(0, 96, 16)
    assert (by_rows(replace(PIECE, source_scale=scale, source_axis=1)) == BASE * SCALES[:, None]).all()
    assert (
        by_rows(replace(PIECE, target_scale=scale, target_axis=1, source_zero=3)) == (BASE - 3.0) / SCALES[:, None]
    ).all()
    assert (by_rows(replace(PIECE, target_scale=Span(0, 96, 4))) == BASE / 0.5).all()
    assert np.isfinite(by_rows(replace(PIECE, target_scale=Span(0, 20, 4)))).all()  # a scale of zero counts as one


def test_folds_partners_and_factors():
    folded = Piece(0, 0, 1, 4, source=0, folds=6)
    assert expectation(folded, fetch).tolist() == np.abs(BASE).max(axis=1).tolist()
    assert expectation(replace(folded, fold=1), fetch).tolist() == BASE.min(axis=1).tolist()
    assert (
        expectation(replace(folded, cols=6, folds=4, fold=2, source_order=1), fetch).tolist()
        == BASE.max(axis=0).tolist()
    )
    pair = Piece(0, 0, 1, 6, source=0, partner=Span(0, 24, 24))
    assert expectation(pair, fetch).tolist() == np.maximum(np.abs(BASE[0]), np.abs(BASE[1])).tolist()
    half = int(np.array([0.5], "<f4").view("<u4")[0]) << 1
    assert (by_rows(replace(PIECE, factor=half)) == BASE * 0.5).all()
    assert (by_rows(replace(PIECE, factor=half | 1)) == BASE * 2).all()


def test_rounding_and_range_of_integers():
    piece = replace(PIECE, dtype=BY_NAME["int8"], target_scale=Span(0, 96, 16), target_axis=1, rounds=1)
    assert (by_rows(piece) == np.rint(BASE / SCALES[:, None])).all()
    tiny = replace(piece, rounds=0, factor=int(np.array([1e-20], "<f4").view("<u4")[0]) << 1 | 1)
    assert np.abs(by_rows(tiny)).max() == 256


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "float64"])
def test_planes_and_values_come_back(name, order):
    dtype = np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")
    data = (np.arange(24) * 37 % 101).astype(dtype).tobytes()
    for source in (0, -2):
        piece = Piece(0, BY_NAME[name], 4, 6, order=order, source=source, source_order=order)
        planes = split_planes(piece, data, fetch)
        assert len(planes) == planes_length(piece)
        assert join_planes(piece, planes, fetch) == data
        writer = coder()
        encode_values(writer, piece, data, fetch)
        assert decode_values(coder(writer.finish()), piece, fetch) == data


def test_planes_of_half_bytes_come_back():
    for name in ("int4", "uint4"):
        piece = Piece(0, BY_NAME[name], 1, 7)
        data = b"\x12\x9f\xe4\x07"
        assert join_planes(piece, split_planes(piece, data, fetch), fetch) == data


def test_a_trial_prefers_the_base():
    data = (BASE * np.float32(1.001)).astype("<f4").tobytes()
    good = replace(PIECE, scale=-8, size=3)
    assert trial(good, data, fetch, 100) < trial(replace(good, source=-2, scale=3), data, fetch, 100)
    assert KEPT == -1
