"""What each idea brings: patches of level max with one idea taken away, and a bound beside them.

    python benchmarks/patch/ablation.py ../shared/data/pairs/ft_det_small_f32 ...

The bound is what the values alone would cost one who is told, for free, the best factor on the base, and the true scale of every row and
every column, and codes what is left of each value as normally distributed. Models that learn scales pay for that;
models that know more (rows that move together, weights that a scale belongs to) can come out below it.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from farshore.delta import encoder, planning
from farshore.delta.encoder import Encoder, encode
from farshore.delta.frames import NOTHING, Piece
from farshore.delta.grids import FLOAT, GRIDS, reals_of
from farshore.delta.matrices import expectation
from farshore.formats import segment

Change = Callable[[Piece], Piece]
WITHOUT: dict[str, Change] = {
    "all": lambda piece: piece,
    "joint rows": lambda piece: replace(piece, joints=0),
    "neighbours": lambda piece: replace(piece, flags=piece.flags & ~8),
    "channels": lambda piece: replace(piece, flags=piece.flags & ~32, own=0, kin=()),
    "flags": lambda piece: replace(piece, flags=piece.flags & ~6),
    "detail": lambda piece: replace(piece, detail=min(piece.detail, 1)),
    "tree": lambda piece: replace(
        piece, detail=int(GRIDS[piece.dtype].bits > 32), flags=piece.flags & ~32, own=0, kin=()
    ),
    "scales": lambda piece: replace(piece, source_scale=None, source_axis=0, target_scale=None, target_axis=0),
    "base": lambda piece: Piece(
        piece.offset,
        piece.dtype,
        piece.rows,
        piece.cols,
        piece.order,
        piece.shift,
        piece.zero,
        flags=piece.flags & 10,
        joints=piece.joints,
        period=piece.period,
        model=piece.model | 1,
        scale=piece.size,
        size=piece.size,
    ),
}


def size_without(a: bytes, b: bytes, change: Change) -> int:
    """Bytes of a patch whose pieces are changed after planning."""

    def plan(*args: object) -> planning.Plan:
        made = planning.make_plan(*args)
        stages = tuple(tuple(change(piece) for piece in stage) for stage in made.first)
        return replace(made, first=stages, pieces=tuple(change(piece) for piece in made.pieces))

    encoder.make_plan = plan
    try:
        return sum(map(len, encode(b, [a], level="max")))
    finally:
        encoder.make_plan = planning.make_plan


def bound(a: bytes, b: bytes) -> int:
    """Bytes of all values under oracle scales (see above)."""
    views = [memoryview(a)]
    made = Encoder(memoryview(b), views, "max")
    plan = planning.make_plan(memoryview(b), views, (segment(b), [segment(a)]), "max", made.fetch)
    bits = 0.0
    for piece in (piece for stage in (*plan.first, plan.pieces) for piece in stage):
        bits += _oracle(piece, b, made)
    return math.ceil(bits / 8)


def _oracle(piece: Piece, b: bytes, made: Encoder) -> float:
    grid = GRIDS[piece.dtype]
    values = reals_of(grid, b[piece.offset : piece.offset + piece.length], piece.count) - piece.zero
    values = (values if piece.order else values.reshape(piece.rows, piece.cols).T.ravel()).reshape(
        piece.cols, piece.rows
    )
    base = expectation(piece, made.fetch).reshape(values.shape)
    if piece.source != NOTHING:
        base = base * np.clip((values * base).sum() / ((base * base).sum() + 1e-300), -4, 4)
    left = values - base
    if grid.kind == FLOAT:
        exponent = np.maximum(np.frexp(np.abs(values) + 1e-300)[1] - 1, 1 - grid.bias)
        cell = np.ldexp(1.0, exponent - grid.mantissa + piece.shift)
    else:
        cell = np.ones_like(values)
    rows = np.sqrt((left**2).mean(axis=0, keepdims=True)) + 1e-300
    cols = np.sqrt(((left / rows) ** 2).mean(axis=1, keepdims=True)) + 1e-300
    scale = rows * cols if min(values.shape) > 2 else np.sqrt((left**2).mean()) + 1e-300
    density = -0.5 * (left / scale) ** 2 / math.log(2) - np.log2(scale * math.sqrt(2 * math.pi) / cell)
    return float(np.maximum(-density, 0).sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="+", type=Path)
    print(
        "| pair | b | bound on values | "
        + " | ".join(f"without {name}" if name != "all" else "all" for name in WITHOUT)
        + " |"
    )
    print("|" + "---|" * (3 + len(WITHOUT)))
    for path in parser.parse_args().pairs:
        a, b = (next(iter(sorted((path / side).iterdir()))).read_bytes() for side in "ab")
        sizes = [size_without(a, b, change) for change in WITHOUT.values()]
        print(f"| {path.name} | {len(b)} | {bound(a, b)} | " + " | ".join(map(str, sizes)) + " |", flush=True)


if __name__ == "__main__":
    main()
