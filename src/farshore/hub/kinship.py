"""Which of the files that a device holds help to make another one. Pure: over what is in the files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from farshore.formats import SegmentMap

MOST = 3
"""Most bases of one patch: each must be at hand on the device, and each costs the builder time."""

GAIN = 0.02
"""Share of the target that a further base must explain to be worth it."""

SMALL = 64
"""Bytes of a tensor below which it says nothing."""

EQUAL, CHANGED, CAST = 1.0, 0.5, 0.4
"""How much of a tensor is explained by one with the same bytes; the same name, type and shape; the same name and shape."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kin:
    """What makes a file recognisable.

    Attributes:
        size: bytes of the file.
        tensors: (SHA-256, name, dtype, shape, bytes) of each tensor that is not tiny.

    """

    size: int
    tensors: tuple[tuple[bytes, str, str, Shape, int], ...]


def kin(segments: SegmentMap, data: memoryview) -> Kin:
    """What makes the file with these segments recognisable."""
    return Kin(
        len(data),
        tuple(
            (
                hashlib.sha256(data[one.offset : one.offset + one.length]).digest(),
                one.name,
                one.dtype,
                one.shape,
                one.length,
            )
            for one in segments.segments
            if one.dtype and one.length >= SMALL
        ),
    )


def choose(target: Kin, candidates: Sequence[Kin], near: int) -> list[int]:
    """Which candidates to use as bases, the most helpful first.

    Args:
        target: what is to be made.
        candidates: what there is to make it from, likeliest first.
        near: how many of the first are earlier forms of the target: where tensors tell nothing, the first of them is taken.

    """
    shares = [_explained(target, one) for one in candidates]
    best = [0.0] * len(target.tensors)
    chosen: list[int] = []
    while len(chosen) < min(MOST, len(candidates)):
        gains = [
            sum(
                max(share - before, 0.0) * tensor[4]
                for share, before, tensor in zip(row, best, target.tensors, strict=True)
            )
            for row in shares
        ]
        gain = max(gains)
        if gain <= GAIN * target.size:
            break
        winner = gains.index(gain)
        chosen.append(winner)
        best = [max(pair) for pair in zip(best, shares[winner], strict=True)]
    return chosen or ([0] if near else [])


def _explained(target: Kin, other: Kin) -> list[float]:
    equal = {tensor[0] for tensor in other.tensors}
    changed = {tensor[1:4] for tensor in other.tensors}
    cast = {(tensor[1], tensor[3]) for tensor in other.tensors}
    return [
        EQUAL
        if digest in equal
        else CHANGED
        if (name, dtype, shape) in changed
        else CAST
        if (name, shape) in cast
        else 0.0
        for digest, name, dtype, shape, _ in target.tensors
    ]
