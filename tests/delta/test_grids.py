"""Grids keep every bit and the order of the values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.delta.grids import (
    BY_NAME,
    FLOAT,
    GRIDS,
    LARGEST,
    byte_length,
    bytes_of,
    indices_of,
    reals_of,
    rounded,
    trailing_zeros,
)
from farshore.formats.dtypes import BITS

NUMPY = {
    "float32": np.float32, "float16": np.float16, "float64": np.float64, "bfloat16": ml_dtypes.bfloat16,
    "float8e4m3fn": ml_dtypes.float8_e4m3fn, "float8e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def test_names_and_widths_are_those_of_the_formats():
    assert all(BITS[name] == GRIDS[code].bits for name, code in BY_NAME.items())


@given(st.sampled_from(GRIDS), st.binary(min_size=8, max_size=64))
def test_any_bits_come_back(grid, data):
    count = len(data) * 8 // grid.bits
    data = data[: byte_length(grid, count)]
    assert bytes_of(grid, indices_of(grid, data, count)) == data


@pytest.mark.parametrize("grid", [g for g in GRIDS if g.bits <= 16], ids=lambda g: g.name)
def test_all_patterns_come_back_and_rise(grid):
    count = 1 << grid.bits
    data = np.arange(count, dtype="<u2" if grid.bits == 16 else "<u1").tobytes()
    if grid.bits == 4:
        data = bytes((2 * k & 15) | ((2 * k + 1 & 15) << 4) for k in range(8))
    index = indices_of(grid, data, count)
    assert bytes_of(grid, index) == data
    assert sorted(index.tolist()) == list(range(count))
    values = reals_of(grid, data, count)
    finite = np.abs(values) < LARGEST
    if grid.kind == FLOAT:
        with np.errstate(invalid="ignore"):
            exact = np.frombuffer(data, NUMPY[grid.name]).astype(np.float64)
        finite &= np.isfinite(exact)
        assert (values[finite] == exact[finite]).all()
    ordered = values[finite][np.argsort(index[finite])]
    assert (np.diff(ordered) >= 0).all()


def test_special_values_of_float32_keep_their_bits():
    patterns = np.array(
        [0x7FC00001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 0, 1, 0x807FFFFF, 0x7F7FFFFF], "<u4"
    )
    grid = GRIDS[BY_NAME["float32"]]
    assert bytes_of(grid, indices_of(grid, patterns.tobytes(), len(patterns))) == patterns.tobytes()
    assert np.abs(reals_of(grid, patterns.tobytes(), len(patterns))).max() <= LARGEST


def test_low_zero_bits_are_found_and_dropped():
    grid = GRIDS[BY_NAME["float32"]]
    data = np.array([1.5, -2.25, 0, 100], np.float16).astype("<f4").tobytes()
    shift = trailing_zeros(grid, data, 4)
    assert shift >= 13
    assert bytes_of(grid, indices_of(grid, data, 4, shift), shift) == data
    assert trailing_zeros(grid, bytes(16), 4) == 0
    assert trailing_zeros(GRIDS[BY_NAME["int8"]], b"\4\4", 2) == 0


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_rounding_is_the_formats(name):
    values = np.random.default_rng(1).normal(size=500) * np.logspace(-6, 4, 500)
    assert (
        rounded(GRIDS[BY_NAME[name]], values) == values.astype(np.float32).astype(NUMPY[name]).astype(np.float64)
    ).all()


def test_integers_round_and_stay_in_range():
    assert rounded(GRIDS[BY_NAME["int8"]], np.array([-200.0, -0.5, 1.5, 2.5, 300.0])).tolist() == [-128, 0, 2, 2, 127]
    assert rounded(GRIDS[BY_NAME["float64"]], np.array([1 / 3])).tolist() == [1 / 3]
