"""Which matrices of a stream know each other's channels.

What training changes in a matrix goes together where its inputs go together. How they do is told by the columns of the
matrix that the device holds, by what changed in another matrix with the same inputs, and by the rows of the one whose
outputs they are: rows × inputs' correlation × rows'. Nothing in a file says which matrix feeds which, and nothing has to:
here it is found by what fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from farshore.delta.frames import NOTHING, Piece
from farshore.delta.grids import Reals
from farshore.delta.kin import CHANNELS, LEAST_CHANNELS, MOST_KIN, MOST_SHARE, Kin, Shelf, has_channels, taps_of

LEAST_GAIN, LEAST_SAVED = 0.03, 256
"""Bits a value, and bits in all, that channels have to save."""
ZEROS, EQUALS = 2, 4
"""Flags of a matrix whose zeros, or whose values that the base has too, are told apart and not modelled."""
LEAST_SHARE = 0.01
"""Of what the channels have in common, what one more reference has to explain."""
LEAST_VALUES = 256


@dataclass(frozen=True, slots=True)
class _Told:
    """What a matrix tells: correlations of its inputs and of its outputs."""

    inputs: Reals
    outputs: Reals


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A correlation, and where it is from: a matrix of the frame (its inputs or outputs), or the base (-1)."""

    matrix: int
    inputs: bool
    correlation: Reals


@dataclass(frozen=True, slots=True)
class _Choice:
    """Chosen candidates from a channel on, each with its share; and the bits a value that they save."""

    parts: tuple[tuple[_Candidate, int, int], ...]
    gain: float


def _correlation(vectors: Reals) -> Reals:
    products = vectors @ vectors.T
    by = 1 / np.sqrt(np.maximum(np.diag(products), 1e-200))
    correlation: Reals = products * by[:, None] * by[None, :]
    np.fill_diagonal(correlation, 1)
    return correlation


def _scaled(matrix: Reals) -> Reals:
    scaled: Reals = matrix / np.sqrt(np.maximum((matrix * matrix).mean(axis=1, keepdims=True), 1e-200))
    return scaled


def with_channels(pieces: Sequence[Piece], matrices: Callable[[Piece], tuple[Reals, Reals]]) -> tuple[Piece, ...]:
    """The pieces of one frame, told what they know of each other.

    Args:
        pieces: in the order of the stream.
        matrices: gives a piece's values, and what its base lets expect (zeros where it has none), rows × columns each.

    """
    told: dict[int, _Told] = {}
    choices: dict[int, _Choice] = {}
    for k, piece in enumerate(pieces):
        if piece.detail and piece.count >= LEAST_VALUES and has_channels(piece.rows, piece.cols, piece.period):
            choices[k], told[k] = _examined(piece, *matrices(piece), told)
    useful = {
        k for k, choice in choices.items()
        if choice.gain >= LEAST_GAIN and choice.gain * pieces[k].count >= LEAST_SAVED
    }  # fmt: skip
    needed = useful | {part.matrix for k in useful for part, _, _ in choices[k].parts if part.matrix >= 0}
    return _numbered(pieces, {k: choices[k].parts if k in useful else () for k in sorted(needed)})


def _numbered(pieces: Sequence[Piece], chosen: dict[int, tuple[tuple[_Candidate, int, int], ...]]) -> tuple[Piece, ...]:
    """References by number become references by distance, as far as the stream remembers."""
    result, shelf, order = list(pieces), Shelf(), list(chosen)
    for place, (k, parts) in enumerate(chosen.items()):
        piece = pieces[k]
        own = sum(share for part, _, share in parts if part.matrix < 0)
        kin = tuple(
            Kin(place - order.index(part.matrix), part.inputs, start, share)
            for part, start, share in parts if part.matrix >= 0 and place - order.index(part.matrix) <= len(shelf)
        )  # fmt: skip
        result[k] = replace(piece, flags=piece.flags | CHANNELS, own=own, kin=kin)
        shelf.add(piece.cols // taps_of(piece.cols, piece.period), piece.rows)
    return tuple(result)


def _examined(piece: Piece, values: Reals, base: Reals, told: dict[int, _Told]) -> tuple[_Choice, _Told]:
    """How a matrix's channels are explained best, and what it tells in its turn."""
    taps = taps_of(piece.cols, piece.period)
    shape = (piece.rows, piece.cols // taps, taps)

    def by_channel(matrix: Reals) -> Reals:
        flat: Reals = _scaled(matrix).reshape(shape).transpose(1, 0, 2).reshape(shape[1], -1)
        return flat

    changed, candidates = values, []
    if piece.source != NOTHING and base.any():
        factor = (base * values).sum(axis=1) / np.maximum((base * base).sum(axis=1), 1e-200)
        changed = values - factor[:, None] * base
        candidates.append(_Candidate(-1, True, _correlation(by_channel(base))))
    flagged = ((values == 0) & bool(piece.flags & ZEROS)) | ((values == base) & bool(piece.flags & EQUALS))
    changed = np.where(flagged, 0.0, changed)
    for k, known in told.items():
        candidates += [_Candidate(k, True, known.inputs)] if len(known.inputs) == shape[1] else []
        candidates += [_Candidate(k, False, known.outputs)] if LEAST_CHANNELS <= len(known.outputs) <= shape[1] else []
    target = _correlation(by_channel(changed))
    choice, explained = _explained(target, candidates, piece.rows * taps)
    weight = piece.rows * taps / (piece.rows * taps + shape[1])
    inputs = weight * target + (1 - weight) * explained
    factor = np.linalg.cholesky(inputs + 1e-6 * np.eye(shape[1]))
    outputs = (values.reshape(shape).transpose(0, 2, 1).reshape(-1, shape[1]) @ factor).reshape(piece.rows, -1)
    return choice, _Told(inputs, _correlation(outputs))


def _explained(target: Reals, candidates: Sequence[_Candidate], samples: int) -> tuple[_Choice, Reals]:
    """The few candidates that explain a correlation best, found one after the other, and what they make together."""
    n = len(target)
    left = np.tril(target, -1)
    chosen: list[tuple[_Candidate, int]] = []
    features: list[Reals] = []
    whole = float((left * left).sum())
    weights = np.zeros(0)
    while len(chosen) <= MOST_KIN:
        ends = {0, *(start + len(one.correlation) for one, start in chosen)}
        tries = [
            (_merit(left, one.correlation, start), one, start) for one in candidates
            for start in sorted(ends | {n - len(one.correlation)})
            if start + len(one.correlation) <= n and (one, start) not in chosen
            and (one.matrix < 0 or sum(part.matrix >= 0 for part, _ in chosen) < MOST_KIN)
        ]  # fmt: skip
        merit, one, start = max(tries, key=lambda found: found[0], default=(0.0, None, 0))
        if one is None or merit < max(LEAST_SHARE * whole, 4 / samples):
            break
        chosen.append((one, start))
        feature = np.zeros_like(target)
        size = len(one.correlation)
        feature[start : start + size, start : start + size] = np.tril(one.correlation, -1)
        features.append(feature)
        weights = _fitted(features, np.tril(target, -1))
        left = np.tril(target, -1) - sum(weight * part for weight, part in zip(weights, features, strict=True))
    shares = _sixteenths(weights, [(start, start + len(one.correlation)) for one, start in chosen], n)
    below = sum((share / 16 * part for share, part in zip(shares, features, strict=True)), np.zeros_like(target))
    explained = below + below.T + np.eye(n)
    parts = tuple((one, start, share) for (one, start), share in zip(chosen, shares, strict=True) if share)
    return _Choice(parts, _gain(explained, target)), explained


def _merit(left: Reals, correlation: Reals, start: int) -> float:
    """How much of the squares that are left a correlation from a channel on explains."""
    size = len(correlation)
    inside = left[start : start + size, start : start + size]
    common = float((inside * correlation).sum())
    squares = (float((correlation * correlation).sum()) - size) / 2
    return common * common / squares if common > 0 and squares > 0 else 0.0


def _fitted(features: Sequence[Reals], target: Reals) -> Reals:
    """Least squares with weights that are not negative, one after the other until they settle."""
    flat = np.stack([feature.ravel() for feature in features])
    gram, towards = flat @ flat.T, flat @ target.ravel()
    weights = np.zeros(len(features))
    for _ in range(50):
        for k in range(len(weights)):
            weights[k] = max(0.0, weights[k] + (towards[k] - gram[k] @ weights) / max(gram[k, k], 1e-200))
    return weights


def _sixteenths(weights: Reals, ranges: Sequence[tuple[int, int]], channels: int) -> list[int]:
    """Weights as shares, so that no channel is known by more than all but one sixteenth."""
    load = np.zeros(channels)
    for weight, (start, end) in zip(weights, ranges, strict=True):
        load[start:end] += weight
    by = 16 * min(1.0, MOST_SHARE / 16 / max(float(load.max()), 1e-9))
    shares = [int(weight * by) for weight in weights]
    order = sorted(range(len(shares)), key=lambda k: shares[k] - weights[k] * by)
    for k in order:  # the remainders, as far as there is room
        over = [
            sum(share for share, (low, high) in zip(shares, ranges, strict=True) if low <= start < high)
            for start in {start for start, _ in ranges} if ranges[k][0] <= start < ranges[k][1]
        ]  # fmt: skip
        over.append(sum(share for share, (low, high) in zip(shares, ranges, strict=True) if low <= ranges[k][0] < high))
        if weights[k] * by - shares[k] >= 0.5 and max(over) < MOST_SHARE:
            shares[k] += 1
    return shares


def _gain(explained: Reals, target: Reals) -> float:
    """Bits a value that are saved where normal vectors with the correlation `target` are taken for `explained`."""
    n = len(target)
    excess = n - float(np.linalg.slogdet(explained)[1]) - float(np.trace(np.linalg.solve(explained, target)))
    return excess / (2 * math.log(2) * n)
