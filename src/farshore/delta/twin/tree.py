"""One value as decisions down a tree (``_tree.h``), bit for bit."""

from __future__ import annotations

from farshore.delta.twin.grids import Grid
from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tables import (
    CDF_STEPS,
    COUNTER_START,
    SQUASH,
    ST_MAX,
    apm_learn,
    apm_p,
    apm_start,
    counter_after,
    counter_vote,
    learn,
    lg,
    ln,
    mix,
)  # fmt: skip

BINS, WIDTHS, DEPTHS = 64, 40, 16
NODES = BINS + WIDTHS
STAGES = 4
SLOTS = 1 << 14
FIRST_WEIGHTS = (9000, 5000, 5000, 0, 30000, 6000, 3000, 6000, 9000, 3000, 5000, 3000, 9000)
_U32 = 0xFFFFFFFF
Shape = tuple[float, float, list[float]]
"""A distribution: centre, reciprocal of the scale, its table."""


def _quantiles() -> list[float]:
    table = [0.0]
    for k in range(1, BINS):
        p = float(k) / BINS
        odds, z = p / (1.0 - p), 0.0
        negative = odds < 1.0
        if negative:
            odds = 1.0 / odds
        while odds >= 2.0:
            odds = odds * 0.5
            z = z + ln(2.0)
        z = (z + ln(odds)) / 1.7
        z = z * (1.0 + 0.12 * z)
        table.append(-z if negative else z)
    return table


QUANTILE = _quantiles()


class Model:
    """What is learnt along a stream."""

    def __init__(self) -> None:
        self.weights = [list(FIRST_WEIGHTS) for _ in range(STAGES * NODES)]
        self.apm = [apm_start() for _ in range(STAGES * NODES)]
        self.apm_fit = [apm_start() for _ in range(NODES * 16)]
        self.nodes = [COUNTER_START] * (NODES * 64)
        self.cells = [COUNTER_START] * SLOTS
        self.cells2 = [COUNTER_START] * SLOTS
        self.zero = [COUNTER_START] * 1024
        self.zero_sign = [COUNTER_START] * 4
        self.equal = [COUNTER_START] * 64


def _cdf(table: list[float], z: float) -> float:
    y = (z + 16.0) * 32.0
    if not y > 0.0:
        return 0.0
    if y >= CDF_STEPS:
        return 1.0
    k = int(y)
    return table[k] + (table[k + 1] - table[k]) * (y - float(k))


class Tree:
    """The tree of one matrix."""

    def __init__(self, coder: Writer | Reader, model: Model, grid: Grid) -> None:
        self.c, self.m, self.grid = coder, model, grid

    def _cells(self, low: int, high: int, um: int, expected: int, node: int, context: int) -> tuple[int, int]:
        if not self.grid.integer:
            return (node + NODES * (context & 63)) & (SLOTS - 1), (node + NODES * (context >> 6 & 63)) & (SLOTS - 1)
        lo, hi, at = (max(-99, min(99, x - expected)) & _U32 for x in (low, high, um))
        key = lo * 0x9E3779B1 & _U32 ^ hi * 0x85EBCA6B & _U32 ^ at * 0xC2B2AE35 & _U32
        one = (key * 0x27D4EB2F & _U32) >> 18
        return one, ((key ^ context * 0x165667B1 & _U32) * 0x9E3779B1 & _U32) >> 18

    def code(
        self, value: int, mixture: list[Shape], mu: float, scale: float, part_of: int, q: int, expected: int, context: int
    ) -> int:  # fmt: skip
        """Code one grid index."""
        grid = self.grid
        low, high = 0, grid.top
        low_edge, high_edge = -1e300, 1e300
        lows, highs = [0.0] * len(mixture), [1.0] * len(mixture)
        first, last, node, depth = 0, BINS, 1, 0
        while low < high:
            tree, middle = last - first > 1, (first + last) >> 1
            width, even = high_edge - low_edge, grid.flat(low, high)
            if even and width < 0.5 * scale:
                break
            if tree:
                um = grid.index(mu + QUANTILE[middle] * scale)
                if um <= low:
                    first, node = middle, 2 * node + 1
                    continue
                if um > high:
                    last, node = middle, 2 * node
                    continue
                edge, at_node = grid.edge(um), node
            else:
                um = low + ((high - low) >> 1) + 1
                edge = grid.edge(um)
                if even:
                    at_node = BINS + max(0, min(WIDTHS - DEPTHS - 1, (lg(width / scale + 1e-9) >> 12) + 9))
                else:
                    at_node = BINS + WIDTHS - DEPTHS + min(depth, DEPTHS - 1)
                    depth += 1
            cells = self._cells(low, high, um, expected, at_node, context)
            bit, masses = self._decide(mixture, (lows, highs), part_of, at_node, q, cells, int(value >= um), edge)
            if bit:
                low, low_edge, lows = um, edge, masses
                if tree:
                    first, node = middle, 2 * node + 1
            else:
                high, high_edge, highs = um - 1, edge, masses
                if tree:
                    last, node = middle, 2 * node
        return self._rest(value, low, high - low)

    def _rest(self, value: int, low: int, count: int) -> int:
        if count == 0:
            return low
        value = (value - low) & ((1 << 64) - 1)
        if count < 1 << 32:
            return low + self.c.uniform(value, count + 1)
        upper = self.c.uniform(value >> 24, (count >> 24) + 1)
        lower = self.c.uniform(value & 0xFFFFFF, 1 << 24)
        return low + min(upper << 24 | lower, count)

    def _decide(
        self, mixture: list[Shape], bounds: tuple[list[float], list[float]], part_of: int, node: int, q: int, cells: tuple[int, int], bit: int,
        edge: float,
    ) -> tuple[int, list[float]]:  # fmt: skip
        m = self.m
        c0, (c1, c2) = node * 64 + q, cells
        votes = [counter_vote(m.nodes[c0]), counter_vote(m.cells[c1]), counter_vote(m.cells2[c2]), 256]
        masses = []
        for (mu, inverse, table), low, high in zip(mixture, *bounds, strict=True):
            at = _cdf(table, (edge - mu) * inverse)
            masses.append(at)
            above, below = high - at, at - low
            above = max(above, 1e-12)
            below = max(below, 1e-12)
            votes.append(max(-ST_MAX, min(ST_MAX, (lg(above) - lg(below)) >> 4)))
        w = m.weights[part_of * NODES + node]
        dot = mix(w, votes)
        p0 = SQUASH[dot + 4096]
        a1, a2 = m.apm[part_of * NODES + node], m.apm_fit[node * 16 + (q & 15)]
        p = (2 * p0 + apm_p(a1, dot) + apm_p(a2, dot) + 2) >> 2
        bit = self.c.bit(bit, max(4, min(p, 65532)))
        learn(w, votes, (bit << 16) - bit - p0, 18)
        apm_learn(a1, dot, bit, 6)
        apm_learn(a2, dot, bit, 6)
        m.nodes[c0] = counter_after(m.nodes[c0], bit, 400)
        m.cells[c1] = counter_after(m.cells[c1], bit, 250)
        m.cells2[c2] = counter_after(m.cells2[c2], bit, 250)
        return bit, masses
