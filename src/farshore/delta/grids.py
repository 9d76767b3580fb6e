"""Number formats as grids: every bit pattern has an index, in the order of the values it stands for.

Sign-and-magnitude floats become unsigned integers that rise with the value (NaNs beyond the infinities, -0.0 just below
0.0), so that coding an index keeps every payload bit. Low bits that are zero in a whole tensor (a narrower float stored
in a wider one) are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INT, FLOAT = 0, 1
Indices = NDArray[np.uint64]
Reals = NDArray[np.float64]
LARGEST = 1e30
"""Base values beyond it (and NaNs) count as 0 or as this: they only steer expectations."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A number format.

    Attributes:
        name: of the format, as :mod:`farshore.formats` names it.
        kind: :data:`INT` or :data:`FLOAT`.
        bits: of one value.
        mantissa, bias: of a float's parts.
        is_signed: of an integer (two's complement).

    """

    name: str
    kind: int
    bits: int
    mantissa: int = 0
    bias: int = 0
    is_signed: bool = False

    @property
    def lowest(self) -> int:
        """The integer at index 0."""
        return -(1 << (self.bits - 1)) if self.is_signed else 0


GRIDS = (
    Grid("float32", FLOAT, 32, 23, 127),
    Grid("float16", FLOAT, 16, 10, 15),
    Grid("bfloat16", FLOAT, 16, 7, 127),
    Grid("float64", FLOAT, 64, 52, 1023),
    Grid("int8", INT, 8, is_signed=True),
    Grid("uint8", INT, 8),
    Grid("int16", INT, 16, is_signed=True),
    Grid("uint16", INT, 16),
    Grid("int32", INT, 32, is_signed=True),
    Grid("uint32", INT, 32),
    Grid("int4", INT, 4, is_signed=True),
    Grid("uint4", INT, 4),
    Grid("float8e4m3fn", FLOAT, 8, 3, 7),
    Grid("float8e5m2", FLOAT, 8, 2, 15),
)
BY_NAME = {grid.name: code for code, grid in enumerate(GRIDS)}
"""Grid code by the format's name. The codes are part of the patch format."""

Patterns = NDArray[np.unsignedinteger]
_UNSIGNED: dict[int, np.dtype[np.unsignedinteger]] = {
    8: np.dtype("<u1"), 16: np.dtype("<u2"), 32: np.dtype("<u4"), 64: np.dtype("<u8"),
}  # fmt: skip


def byte_length(grid: Grid, count: int) -> int:
    """Bytes that ``count`` values take; halves of a byte are rounded up."""
    return (count * grid.bits + 7) // 8


def patterns(grid: Grid, data: bytes | memoryview, count: int) -> Patterns:
    """Bit patterns of ``count`` values, one each."""
    if grid.bits == 4:
        pairs = np.frombuffer(data, np.uint8)
        return np.stack([pairs & 15, pairs >> 4], axis=1).ravel()[:count]
    return np.frombuffer(data, _UNSIGNED[grid.bits], count)


def indices_of(grid: Grid, data: bytes | memoryview, count: int, shift: int = 0) -> Indices:
    """Grid indices of ``count`` values, ``shift`` low bits dropped."""
    bits = patterns(grid, data, count).astype(np.uint64)
    half = np.uint64(1 << (grid.bits - 1))
    if grid.kind == INT:
        return bits ^ half if grid.is_signed else bits
    negative = bits >= half
    magnitude = (bits & (half - np.uint64(1))) >> np.uint64(shift)
    middle = np.uint64(1 << (grid.bits - 1 - shift))
    return np.where(negative, middle - np.uint64(1) - magnitude, middle + magnitude)


def bytes_of(grid: Grid, indices: Indices, shift: int = 0) -> bytes:
    """The opposite of :func:`indices_of`."""
    half = np.uint64(1 << (grid.bits - 1))
    if grid.kind == INT:
        bits = indices ^ half if grid.is_signed else indices
    else:
        middle = np.uint64(1 << (grid.bits - 1 - shift))
        negative = indices < middle
        magnitude = np.where(negative, middle - np.uint64(1) - indices, indices - middle) << np.uint64(shift)
        bits = np.where(negative, magnitude | half, magnitude)
    if grid.bits == 4:
        nibbles = np.zeros(len(bits) + (len(bits) & 1), np.uint8)
        nibbles[: len(bits)] = bits
        return (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()
    return bits.astype(_UNSIGNED[grid.bits]).tobytes()


def reals_of(grid: Grid, data: bytes | memoryview, count: int) -> Reals:
    """Values as float64, bounded by :data:`LARGEST`; what is no number counts as 0."""
    bits = patterns(grid, data, count)
    if grid.kind == INT:
        values = bits.astype(np.float64)
        return np.where(values >= 1 << (grid.bits - 1), values - (1 << grid.bits), values) if grid.is_signed else values
    with np.errstate(all="ignore"):
        return bounded(_float_values(grid, bits))


def _float_values(grid: Grid, bits: Patterns) -> Reals:
    if grid.name == "float32":
        return bits.view(np.float32).astype(np.float64)
    if grid.name == "float16":
        return bits.view(np.float16).astype(np.float64)
    if grid.name == "float64":
        doubles: Reals = bits.view(np.float64)
        return doubles
    if grid.name == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    wide = bits.astype(np.int64)
    exponent = wide >> grid.mantissa & ((1 << (grid.bits - 1 - grid.mantissa)) - 1)
    part = (wide & ((1 << grid.mantissa) - 1)).astype(np.float64)
    scale: Reals = np.ldexp(1.0, np.maximum(exponent, 1) - grid.bias - grid.mantissa)
    values = np.where(exponent > 0, part + (1 << grid.mantissa), part) * scale
    return np.where(wide >= 1 << (grid.bits - 1), -values, values)


def bounded(values: Reals) -> Reals:
    """Finite values within ±:data:`LARGEST`."""
    if values.size and values.min() >= -LARGEST and values.max() <= LARGEST:  # neither is true of NaNs
        return values
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST), -LARGEST, LARGEST)


def rounded(grid: Grid, values: Reals) -> Reals:
    """Values as the format would hold them (nearest, ties to even)."""
    with np.errstate(all="ignore"):
        if grid.kind == INT:
            return np.clip(np.rint(values), grid.lowest, grid.lowest + (1 << grid.bits) - 1)
        if grid.name == "float32":
            return bounded(values.astype(np.float32).astype(np.float64))
        if grid.name == "float16":
            return bounded(values.astype(np.float16).astype(np.float64))
        if grid.name == "bfloat16":
            single = values.astype(np.float32).view(np.uint32).astype(np.uint64)
            even = (single + np.uint64(0x7FFF) + (single >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
            return bounded((even << np.uint64(16)).astype(np.uint32).view(np.float32).astype(np.float64))
    return values


def trailing_zeros(grid: Grid, data: bytes | memoryview, count: int) -> int:
    """Low mantissa bits that are zero in every value."""
    if grid.kind == INT:
        return 0
    together = int(np.bitwise_or.reduce(patterns(grid, data, count))) & ((1 << (grid.bits - 1)) - 1)
    shift = (together & -together).bit_length() - 1 if together else 0
    return min(shift, grid.mantissa)
