"""Resizing against the definition of OpenCV's function, written here number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.serve.resize import bilinear


def reference(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """imgproc/src/resize.cpp, INTER_LINEAR for 8 bits: weights of 11 bits, one pixel at a time."""

    def axis(place: int, size: int, source: int) -> tuple[int, int, int, int]:
        at = np.float32((place + 0.5) * (source / size) - 0.5)
        first = math.floor(at)
        share = np.float32(at - np.float32(first))
        if first < 0:
            first, share = 0, np.float32(0)
        if first >= source - 1:
            first, share = source - 1, np.float32(0)
        second = min(first + 1, source - 1)
        return first, second, round(float((np.float32(1) - share) * 2048)), round(float(share * 2048))

    out = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        y0, y1, b0, b1 = axis(y, height, pixels.shape[0])
        for x in range(width):
            x0, x1, a0, a1 = axis(x, width, pixels.shape[1])
            for c in range(3):
                upper = int(pixels[y0, x0, c]) * a0 + int(pixels[y0, x1, c]) * a1
                lower = int(pixels[y1, x0, c]) * a0 + int(pixels[y1, x1, c]) * a1
                out[y, x, c] = (((b0 * (upper >> 4)) >> 16) + ((b1 * (lower >> 4)) >> 16) + 2) >> 2
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), st.integers(0, 1 << 30))
def test_bit_for_bit(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    found = bilinear(pixels, to_height, to_width)
    expected = pixels[:, :, :3] if (height, width) == (to_height, to_width) else reference(pixels, to_height, to_width)
    assert (found == expected).all()


@pytest.mark.parametrize("size", [(7, 5), (64, 33), (300, 300)])
def test_one_colour_stays_one_colour(size: tuple[int, int]) -> None:
    pixels = np.full((50, 90, 4), 201, np.uint8)
    assert (bilinear(pixels, *size) == 201).all()
