"""A matrix of values on its way through the coder: what the base lets expect, and the model's view of it.

Shared by both directions, so that they cannot disagree. NumPy is used for single operations on elements only, never for
sums, whose order differs between machines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from farshore.delta.frames import KEPT, NOTHING, Piece, Span, source_span
from farshore.delta.grids import (
    FLOAT,
    GRIDS,
    LARGEST,
    Grid,
    Indices,
    Reals,
    bounded,
    bytes_of,
    indices_of,
    patterns,
    reals_of,
    rounded,
)
from farshore.delta.kernel import Coder, Kindred, Spec, coder
from farshore.delta.kin import MOST_KIN

Fetch = Callable[[Span], bytes | memoryview]
"""Gives the bytes of a span, or raises ``Invalid``."""
HAS_BASE = 1


def expectation(piece: Piece, fetch: Fetch) -> Reals:
    """The base's value for each of the piece's, in traversal order (columns outside, rows inside); zeros if none."""
    if piece.source == NOTHING:
        return np.zeros(piece.count)
    rows = piece.source_rows if piece.gather else piece.folds or piece.rows
    values = reals_of(GRIDS[piece.source_dtype], fetch(source_span(piece)), rows * piece.cols)
    if piece.partner:
        other = reals_of(GRIDS[piece.source_dtype], fetch(piece.partner), rows * piece.cols)
        values = np.maximum(np.abs(values), np.abs(other))
    matrix: Reals
    if piece.folds:  # one row of the source for each value
        table = values.reshape(rows, piece.cols).T if piece.source_order else values.reshape(piece.cols, rows)
        matrix = (np.abs(table).max(axis=1), table.min(axis=1), table.max(axis=1))[piece.fold].reshape(piece.cols, 1)
    else:
        matrix = values.reshape(piece.cols, rows) if piece.source_order else values.reshape(rows, piece.cols).T
    if piece.source_zero:
        matrix = matrix - float(piece.source_zero)
    if piece.gather:
        rows_of = np.array(piece.gather)
        matrix = np.where(rows_of >= 0, matrix[:, np.maximum(rows_of, 0)], 0.0)
    if piece.source_scale:
        matrix = matrix * _along(piece.source_scale, piece.source_axis, fetch)
    if piece.target_scale:
        by = _along(piece.target_scale, piece.target_axis, fetch)
        matrix = matrix / np.where(np.abs(by) < 1 / LARGEST, 1.0, by)
    if piece.factor:
        number = _float32(piece.factor >> 1)
        matrix = (matrix / number if number else matrix) if piece.factor & 1 else matrix * number
    matrix = bounded(matrix)
    if piece.rounds:
        grid = GRIDS[piece.dtype]
        matrix = rounded(grid, matrix + piece.zero) - piece.zero if not grid.kind else rounded(grid, matrix)
    if GRIDS[piece.dtype].kind != FLOAT:  # a dead channel's scale may blow its values up beyond any use
        most = 2.0 ** GRIDS[piece.dtype].bits
        matrix = np.clip(matrix, -most, most)
    return np.ascontiguousarray(matrix).ravel()


def _float32(bits: int) -> float:
    return float(bounded(np.array([bits], "<u4").view("<f4").astype(np.float64))[0])


def _along(span: Span, axis: int, fetch: Fetch) -> Reals:
    scales = bounded(np.frombuffer(fetch(span), "<f4").astype(np.float64))
    return scales.reshape(-1, 1) if axis == 2 else scales.reshape(1, -1)


def spec_of(piece: Piece) -> Spec:
    """What the kernel is told."""
    grid = GRIDS[piece.dtype]
    flags = piece.flags | (HAS_BASE if piece.source != NOTHING else 0)
    return (
        grid.kind, grid.bits - piece.shift, grid.mantissa, grid.bias, piece.shift, float(piece.zero - grid.lowest),
        piece.rows, piece.cols, piece.period, flags, piece.joints, piece.detail, 2.0**piece.scale, 2.0**piece.size,
        2.0 ** (piece.prior - 2),
    )  # fmt: skip


def kindred_of(piece: Piece) -> Kindred:
    """What the kernel is told of the piece's channels."""
    told = [number for one in piece.kin for number in (one.back, int(one.inputs), one.start, one.share)]
    return cast("Kindred", (piece.own, *told, *[0] * (4 * (MOST_KIN - len(piece.kin)))))


def reals_and_base(piece: Piece, fetch: Fetch) -> tuple[Reals, Reals]:
    """The target's values (to be fetched as kept bytes), and what the base lets expect, rows × columns each."""
    data = fetch(Span(KEPT, piece.offset, piece.length))
    values = reals_of(GRIDS[piece.dtype], data, piece.count) - piece.zero
    shaped = values.reshape(piece.cols, piece.rows).T if piece.order else values.reshape(piece.rows, piece.cols)
    return shaped, expectation(piece, fetch).reshape(piece.cols, piece.rows).T


def to_traversal(piece: Piece, data: bytes | memoryview) -> Indices:
    """Grid indices of the piece's bytes, columns outside, rows inside."""
    flat = indices_of(GRIDS[piece.dtype], data, piece.count, piece.shift)
    return flat if piece.order else np.ascontiguousarray(flat.reshape(piece.rows, piece.cols).T).ravel()


def from_traversal(piece: Piece, indices: Indices) -> bytes:
    """The opposite of :func:`to_traversal`."""
    flat = indices if piece.order else np.ascontiguousarray(indices.reshape(piece.cols, piece.rows).T).ravel()
    return bytes_of(GRIDS[piece.dtype], flat, piece.shift)


def decode_values(reader: Coder, piece: Piece, fetch: Fetch) -> bytes:
    """The next piece of a stream."""
    indices = np.zeros(piece.count, np.uint64)
    reader.values(indices, expectation(piece, fetch), piece.model, spec_of(piece), kindred_of(piece))
    return from_traversal(piece, indices)


def trial(piece: Piece, data: bytes | memoryview, fetch: Fetch, most: int) -> int:
    """What the first columns of a piece, about ``most`` values, would cost a fresh coder."""
    cols = min(piece.cols, max(8, most // piece.rows))
    indices = to_traversal(piece, data)[: cols * piece.rows].copy()
    base = expectation(piece, fetch)[: cols * piece.rows]
    writer = coder()
    writer.values(indices, base, piece.model, spec_of(replace(piece, cols=cols)))
    return len(writer.finish())


def encode_values(writer: Coder, piece: Piece, data: bytes | memoryview, fetch: Fetch) -> None:
    """Append a piece to a stream."""
    indices = to_traversal(piece, data).copy()
    writer.values(indices, expectation(piece, fetch), piece.model, spec_of(piece), kindred_of(piece))


# ---- the fast level: differences of bit patterns in byte planes ---------------------------------------------------


def _rising(grid: Grid, bits: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Sign-and-magnitude patterns as unsigned integers that rise with the value."""
    if grid.kind == 0 or grid.bits < 8:
        return bits
    half = bits.dtype.type(1 << (grid.bits - 1))
    return np.where(bits & half, ~bits, bits | half)


def _falling(grid: Grid, bits: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    if grid.kind == 0 or grid.bits < 8:
        return bits
    half = bits.dtype.type(1 << (grid.bits - 1))
    return np.where(bits & half, bits ^ half, ~bits)


def _base_patterns(piece: Piece, fetch: Fetch) -> NDArray[np.unsignedinteger] | None:
    grid = GRIDS[piece.dtype]
    if piece.source == NOTHING:
        return None
    if piece.source_dtype == piece.dtype and not (piece.gather or piece.source_scale or piece.target_scale):
        return patterns(grid, fetch(source_span(piece)), piece.count)
    values = expectation(piece, fetch)
    values = values if piece.order else values.reshape(piece.cols, piece.rows).T.ravel()
    index = rounded(grid, values + piece.zero)
    if grid.kind == 0:
        return (index.astype(np.int64) & ((1 << grid.bits) - 1)).astype(patterns(grid, b"", 0).dtype)
    if grid.name in {"float32", "float16", "float64"}:
        with np.errstate(over="ignore"):  # what was cut to 1e30 is infinite in a narrow format
            return index.astype(grid.name).view(patterns(grid, b"", 0).dtype)
    return None


def split_planes(piece: Piece, data: bytes | memoryview, fetch: Fetch) -> bytes:
    """The piece's differences from the base, small ones small, byte plane after byte plane."""
    grid = GRIDS[piece.dtype]
    bits = _rising(grid, patterns(grid, data, piece.count))
    base = _base_patterns(piece, fetch)
    if base is not None:
        bits = bits - _rising(grid, base)
        top = bits.dtype.type(bits.dtype.itemsize * 8 - 1)
        bits = (bits << bits.dtype.type(1)) ^ (bits.dtype.type(0) - (bits >> top))
    return np.ascontiguousarray(bits.view(np.uint8).reshape(piece.count, -1).T).tobytes()


def join_planes(piece: Piece, planes: bytes | memoryview, fetch: Fetch) -> bytes:
    """The opposite of :func:`split_planes`."""
    grid = GRIDS[piece.dtype]
    kind = patterns(grid, b"", 0).dtype
    bits = (
        np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(kind.itemsize, piece.count).T).view(kind).ravel()
    )
    base = _base_patterns(piece, fetch)
    if base is not None:
        bits = (bits >> kind.type(1)) ^ (kind.type(0) - (bits & kind.type(1)))
        bits = bits + _rising(grid, base)
    bits = _falling(grid, bits)
    if grid.bits == 4:
        return bytes_of(grid, (bits.astype(np.uint64) ^ np.uint64(8)) if grid.is_signed else bits.astype(np.uint64))
    return bits.tobytes()


def planes_length(piece: Piece) -> int:
    """Bytes of a piece's planes."""
    return piece.count * max(1, GRIDS[piece.dtype].bits // 8)
