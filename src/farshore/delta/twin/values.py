"""The model of tensor values (``_values.h``), bit for bit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tables import (
    CDF_STEPS,
    COUNTER_START,
    GAUSS,
    LOGISTIC,
    SQUASH,
    ST_MAX,
    apm_learn,
    apm_p,
    apm_start,
    bits_of,
    clamp,
    counter_after,
    counter_vote,
    double_of,
    ex,
    learn,
    lg,
    ln,
    mix,
)  # fmt: skip

HAS_BASE, FLAG_ZERO, FLAG_EQUAL, FLAG_NEAR = 1, 2, 4, 8
BINS, WIDTHS, DEPTHS = 64, 40, 16
NODES = BINS + WIDTHS
STAGES, SHAPES, LIGHT_SHAPES = 4, 9, 2
SLOTS = 1 << 14
NEIGHBOURS = 16
TINY = 1e-36
FIRST_WEIGHTS = (9000, 5000, 5000, 0, 30000, 6000, 3000, 6000, 9000, 3000, 5000, 3000, 9000)
JOINT_PRIOR = (1.0, 0.2, 5.0)
_U32 = 0xFFFFFFFF


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


def log2(x: float) -> float:
    """As the kernel's LOG2."""
    return float(lg(x)) * (1.0 / 4096.0)


def exp2(x: float) -> float:
    """As the kernel's exp2_of."""
    return ex(int(clamp(x, -400.0, 400.0) * 1024.0))


def quantised(x: float, step: float, levels: int) -> int:
    """X in factors of two around 0."""
    return int(clamp(x * step + 0.5 * levels, 0.0, levels - 1))


def _cdf(table: list[float], z: float) -> float:
    y = (z + 16.0) * 32.0
    if not y > 0.0:
        return 0.0
    if y >= CDF_STEPS:
        return 1.0
    k = int(y)
    return table[k] + (table[k + 1] - table[k]) * (y - float(k))


class _Row:
    __slots__ = ("by_scale", "equal", "last", "last2", "log_near", "log_size", "saa", "sab", "scale", "sum", "x")

    def __init__(self, scale: float, log_scale: float, log_size: float) -> None:
        self.sab, self.saa, self.scale, self.x, self.equal = 0.0, 1e-30, scale, 0.0, 0
        self.by_scale = 1.0 / scale
        self.sum = [0.0] * 4
        self.log_near = self.last = self.last2 = log_scale
        self.log_size = log_size


class Grid:
    """A number format's grid (see the kernel)."""

    def __init__(self, kind: int, bits: int, mantissa: int, bias: int, shift: int, zero: float) -> None:
        self.integer = kind == 0
        self.bits, self.mantissa, self.bias, self.shift, self.zero = bits, mantissa, bias, shift, zero
        self.top = (1 << bits) - 1
        self.half = 1 << (bits - 1)

    def value(self, u: int) -> float:
        """The real at an index."""
        if self.integer:
            return float(u) - self.zero
        negative = u < self.half
        index = (self.half - 1 - u if negative else u - self.half) << self.shift
        e, m = index >> self.mantissa, index & ((1 << self.mantissa) - 1)
        if e == 0:
            x = 0.0 if self.bias == 1023 else float(m) * math.ldexp(1.0, 1 - self.bias - self.mantissa)
        elif self.bias == 1023 and e >= 2047:
            x = 1.7e308
        else:
            x = double_of((e - self.bias + 1023) << 52 | m << (52 - self.mantissa))
        return -x if negative else x

    def index(self, x: float) -> int:
        """The index at or just below |x|, with x's sign."""
        if self.integer:
            x = x + self.zero + 0.5
            if not x > 0.0:
                return 0
            return self.top if x >= float(self.top) else int(x)
        bits = bits_of(x)
        negative, bits = bits >> 63, bits & ~(1 << 63)
        e = (bits >> 52) - 1023 + self.bias
        most = (self.half << self.shift) - 1
        if e <= 0:
            index = (
                0
                if self.bias == 1023
                else int((-x if negative else x) * math.ldexp(1.0, self.bias + self.mantissa - 1))
            )
        else:
            index = e << self.mantissa | (bits & ((1 << 52) - 1)) >> (52 - self.mantissa)
        index = min(index, most) >> self.shift
        return self.half - 1 - index if negative else self.half + index

    def edge(self, u: int) -> float:
        """The threshold between u - 1 and u."""
        if self.integer:
            return float(u) - self.zero - 0.5
        return 0.5 * self.value(u - 1) + 0.5 * self.value(u)

    def flat(self, low: int, high: int) -> bool:
        """Whether all cells in [low, high] are equally wide, or nearly."""
        if self.integer:
            return True
        if (low < self.half) != (high < self.half):
            return False
        by = self.mantissa - self.shift
        a = (self.half - 1 - low if low < self.half else low - self.half) >> by
        b = (self.half - 1 - high if high < self.half else high - self.half) >> by
        return a == b or (a <= 1 and b <= 1)


class Matrix:
    """One matrix on its way through a coder."""

    def __init__(self, coder: Writer | Reader, model: Model, spec: tuple[float, ...]) -> None:
        kind, bits, mantissa, bias, shift = (int(x) for x in spec[:5])
        self.c, self.m = coder, model
        self.grid = Grid(kind, bits, mantissa, bias, shift, spec[5])
        self.rows, self.cols, self.period, self.flags, self.joints, detail = (int(x) for x in spec[6:12])
        scale, size, prior = spec[12:]
        self.based = bool(self.flags & HAS_BASE)
        self.detail = detail
        self.shapes = SHAPES if detail > 1 else LIGHT_SHAPES + detail
        self.used = range(0 if detail > 1 else 2, 4)
        self.rate = [0.0] * 4
        self.row = [_Row(scale, log2(scale), log2(size)) for _ in range(self.rows)]
        self.sum = [scale, scale, scale, size]
        self.seen, self.near, self.relative = 1.0, scale, 0.1
        self.tab, self.taa, self.tn = 0.0, 1e-30, 0.0
        self.log_mean, self.size_mean = log2(scale), log2(size)
        self.fit = [0.7, 0.6, 0.08, 0.05, 0.05, 0.0]
        self.near_too = bool(self.flags & FLAG_NEAR)
        self.features = self.joints + (NEIGHBOURS if self.near_too else 0)
        self.weight = [1.0 / self.joints if i < self.joints else 0.0 for i in range(self.features)]
        self.spread = [[0.002 if i == j else 0.0 for j in range(self.features)] for i in range(self.features)]
        self.residual: list[float] = []
        self.factor = []
        for k in range(self.joints):
            factor = np.zeros((self.rows, self.rows))
            np.fill_diagonal(factor, math.sqrt(prior * JOINT_PRIOR[k] * self.rows))
            self.factor.append(factor)
        self.none = self.grid.index(0.0)

    def code(self, u: NDArray[np.uint64], a: list[float]) -> None:
        """Code all values, column by column."""
        self.a = a
        at = 0
        for t in range(self.cols):
            self._column_start(t)
            for i in range(self.rows):
                self.base = a[at]
                row = self.row[i]
                self._expect(row, t, i)
                value = self._value(row, t, int(u[at]))
                u[at] = value
                self._learn(row, i, value)
                at += 1
            self._column_end(t)

    def _column_start(self, t: int) -> None:
        k0 = 40.0 * self.taa / self.tn if self.tn > 0.0 else 1.0
        self.factor_all = (self.tab + k0) / (self.taa + k0)
        self.seen_rows = float(t)
        self.by_seen = 1.0 / float(t) if t > 0 else 0.0
        self.by_row = 1.0 / (float(t) + 3.0)
        self.slow = 1.0 / (float(t) + 1.0)
        self.row_rate = max(self.slow, 0.04)
        self.by_mean = 1.0 / min(self.seen, 2000.0)
        self.mean = [x / self.seen + TINY for x in self.sum]
        self.column = [0.0] * 4
        self.column_log = self.column_residual = 0.0
        self.equal_column = 0
        self.expected = [np.zeros(self.rows) for _ in range(self.joints)]

    def _expect(self, r: _Row, t: int, i: int) -> None:
        base, m1 = self.base, 0.0
        if self.based:
            k1 = 1.5 * r.saa * self.by_seen if self.seen_rows > 0.0 else 1.0
            m1 = clamp((r.sab + k1 * self.factor_all) / (r.saa + k1) * base, -1e30, 1e30)
        self.x = [clamp(float(expected[i]), -6.0, 6.0) for expected in self.expected]
        if self.near_too:
            self.x += self._gather(r, t, i)
        self.guess = 0.0
        if self.features == 1:
            self.guess = self.x[0]
        elif self.features:
            total = 0.0
            for weight, x in zip(self.weight, self.x, strict=True):
                total = total + weight * x
            self.guess = clamp(total, -8.0, 8.0)
        m2 = m1 + self.guess * r.scale
        by_column, e = 1.0 / (float(i) + 8.0), [0.0] * 4
        for k in self.used:
            self.rate[k] = (r.sum[k] + self.mean[k] * 3.0) * self.by_row
            e[k] = self.rate[k] * ((self.column[k] + 8.0) * by_column)
        mean = self.log_mean
        self.log_base = log2((abs(base) if self.based else 0.0) + TINY)
        self.f = [
            (r.log_near if self.seen_rows > 0.0 else mean) - mean,
            self.column_log * (1.0 / (float(i) + 4.0)),
            clamp(r.last - mean, -4.0, 4.0),
            clamp(self.row[i - 1].last - mean, -4.0, 4.0) if i > 0 else 0.0,
            clamp(self.log_base - self.size_mean, -6.0, 3.0),
            clamp(r.last2 - mean, -4.0, 4.0),
        ]
        fitted = mean
        for k in range(6):
            fitted = fitted + self.fit[k] * self.f[k]
        scale = exp2(fitted + 0.6)
        if self.seen_rows <= 4.0:
            scale = clamp(scale, 0.15 * e[2], 6.0 * e[2])
        shapes = [(m2, scale, True), (0.0, e[3], True)]
        if self.detail:
            shapes.append((0.0, exp2(r.log_size + 0.6), False))
        if self.detail > 1:
            near = 0.5 * self.near + 0.5 * exp2(0.5 * r.last + 0.5 * r.last2) + TINY
            shapes += [
                (m1, e[1], False), (m2, scale, False), (base, e[0], False), (m2, near, False), (m2, abs(m1) * self.relative + TINY, False),
                (m2, e[2], True),
            ]  # fmt: skip
        self.shape = [(mu, (0.79788 if gauss else 1.3863) / s, GAUSS if gauss else LOGISTIC) for mu, s, gauss in shapes]
        self.m1, self.m2, self.fitted, self.scale, self.log_e2 = m1, m2, fitted, scale, log2(e[2])

    def _gather(self, row: _Row, t: int, i: int) -> list[float]:
        rows, r, a = self.rows, self.residual, self.a
        at = t * rows + i
        left, right, up, down = t > 0, t + 1 < self.cols, i > 0, i + 1 < rows
        p = self.period * rows
        kin = self.period > 1 and t >= self.period
        by = 1.0 / (row.sum[3] * self.slow + 1e-30)
        return [
            r[at - rows] if left else 0.0,
            r[at - 2 * rows] if t > 1 else 0.0,
            r[at - 3 * rows] if t > 2 else 0.0,
            r[at - 1] if up else 0.0,
            r[at - 2] if i > 1 else 0.0,
            r[at - 3] if i > 2 else 0.0,
            r[at - rows - 1] if left and up else 0.0,
            r[at - rows + 1] if left and down else 0.0,
            r[at - p] if kin else 0.0,
            r[at - 2 * p] if kin and t >= 2 * self.period else 0.0,
            self.column_residual * (1.0 / (float(i) + 6.0)),
            clamp(a[at] * by, -4.0, 4.0),
            clamp(a[at - rows] * by, -4.0, 4.0) if left else 0.0,
            clamp(a[at + rows] * by, -4.0, 4.0) if right else 0.0,
            clamp(a[at - 1] * by, -4.0, 4.0) if up else 0.0,
            clamp(a[at + 1] * by, -4.0, 4.0) if down else 0.0,
        ]

    def _flag(self, counters: list[int], q: int, bit: int) -> int:
        p = counters[q] >> 16
        bit = self.c.bit(bit, 16 if p < 16 else min(p, 65520))
        counters[q] = counter_after(counters[q], bit, 255)
        return bit

    def _flags(self, r: _Row, value: int, expected: int) -> int | None:
        """The value if a flag settles it."""
        zero = self.none
        minus = zero if self.grid.integer else zero - 1
        if self.flags & FLAG_ZERO:
            size = abs(self.base) if self.based else self.rate[3]
            q = quantised(log2(size / self.mean[3] + 1e-6), 16.0, 128) + 64
            if self._flag(self.m.zero, q, int(value in {zero, minus})):
                negative = not self.grid.integer and self._flag(
                    self.m.zero_sign, int(self.base < 0.0), int(value == minus)
                )
                return minus if negative else zero
        if self.flags & FLAG_EQUAL:
            q = min(r.equal, 7) * 8 + min(self.equal_column, 7)
            if self._flag(self.m.equal, q, int(value == expected)):
                r.equal += 1
                self.equal_column += 1
                return expected
            r.equal = self.equal_column = 0
        return None

    def _value(self, r: _Row, t: int, value: int) -> int:
        expected = self.grid.index(self.base if self.based else self.m1)
        settled = self._flags(r, value, expected)
        if settled is not None:
            return settled
        q = quantised(self.fitted + 0.6 - self.log_e2, 3.0, 16)
        part_of = 0 if t < 6 else 1 if q < 5 else 3 if q > 9 else 2
        if self.grid.integer:
            part = self.m2 - float(int(clamp(self.m2, -1e9, 1e9)))
            context = int(clamp(log2(self.scale) * 2.0 + 16.0, 0.0, 31.0)) * 8 + int(clamp(part * 4.0 + 4.0, 0.0, 7.0))
        else:
            context = (
                quantised(r.last - self.fitted, 2.0, 8) + quantised(self.f[4], 2.0, 8) * 8
                + (quantised(self.f[1], 3.0, 8) + quantised(self.f[3], 1.0, 8) * 8) * 64
            )  # fmt: skip
        return self._index(value, part_of, q, expected, context)

    def _cells(self, low: int, high: int, um: int, expected: int, node: int, context: int) -> tuple[int, int]:
        if not self.grid.integer:
            return (node + NODES * (context & 63)) & (SLOTS - 1), (node + NODES * (context >> 6 & 63)) & (SLOTS - 1)
        lo, hi, at = (max(-99, min(99, x - expected)) & _U32 for x in (low, high, um))
        key = lo * 0x9E3779B1 & _U32 ^ hi * 0x85EBCA6B & _U32 ^ at * 0xC2B2AE35 & _U32
        one = (key * 0x27D4EB2F & _U32) >> 18
        return one, ((key ^ context * 0x165667B1 & _U32) * 0x9E3779B1 & _U32) >> 18

    def _index(self, value: int, part_of: int, q: int, expected: int, context: int) -> int:
        grid, mu, scale = self.grid, self.m2, self.scale
        low, high = 0, grid.top
        low_edge, high_edge = -1e300, 1e300
        lows, highs = [0.0] * self.shapes, [1.0] * self.shapes
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
            bit, masses = self._decide((lows, highs), part_of, at_node, q, cells, int(value >= um), edge)
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
        self, bounds: tuple[list[float], list[float]], part_of: int, node: int, q: int, cells: tuple[int, int], bit: int,
        edge: float,
    ) -> tuple[int, list[float]]:  # fmt: skip
        m = self.m
        c0, (c1, c2) = node * 64 + q, cells
        votes = [counter_vote(m.nodes[c0]), counter_vote(m.cells[c1]), counter_vote(m.cells2[c2]), 256]
        masses = []
        for (mu, inverse, table), low, high in zip(self.shape, *bounds, strict=True):
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

    def _learn(self, r: _Row, i: int, value: int) -> None:
        grid, base = self.grid, self.base
        b = grid.value(value)
        cell = 0.3 * (grid.value(value + 1) - b if value < grid.top else 0.0)
        if not -1e30 < b < 1e30:
            b, cell = self.m1, 0.0
        miss = [abs(b - base), abs(b - self.m1), abs(b - self.m2), abs(b)]
        for k in range(4):
            r.sum[k] = r.sum[k] + miss[k]
            self.sum[k] = self.sum[k] + miss[k]
        for k in self.used:
            self.column[k] = self.column[k] + min(miss[k] / (self.rate[k] + TINY), 8.0)
        self.seen = self.seen + 1.0
        if self.detail > 1:
            self.near = self.near + (miss[2] - self.near) * 0.12
            ratio = miss[2] / (abs(self.m1) + TINY)
            self.relative = self.relative + (min(ratio, 3.0) - self.relative) * 0.004
        if self.detail:
            r.log_size = r.log_size + (log2(miss[3] + cell + TINY) - r.log_size) * self.row_rate
        x = log2(miss[2] + cell + 1e-3 * self.rate[2] + TINY)
        error, square = clamp(x - self.fitted, -4.0, 4.0), 1.0
        for f in self.f:
            square = square + f * f
        step = 0.003 * error / square
        for k in range(6):
            self.fit[k] = self.fit[k] + step * self.f[k]
        r.log_near = r.log_near + (x - r.log_near) * self.row_rate
        self.log_mean = self.log_mean + (x - self.log_mean) * self.by_mean
        self.size_mean = self.size_mean + (self.log_base - self.size_mean) * self.by_mean
        self.column_log = self.column_log + clamp(x - self.fitted + self.fit[1] * self.f[1], -3.0, 3.0)
        r.last2, r.last = r.last, x
        if self.features:
            self._learn_joint(r, i, (b - self.m1) * r.by_scale)
        r.sab = r.sab + base * b
        r.saa = r.saa + base * base
        self.tab = self.tab + base * b
        self.taa = self.taa + base * base
        self.tn = self.tn + 1.0

    def _learn_joint(self, r: _Row, i: int, n: float) -> None:
        if self.features > 1:
            self._learn_regression(clamp(n, -6.0, 6.0) - self.guess)
        for factor, expected in zip(self.factor, self.expected, strict=True):
            z = (n - expected[i]) / factor[i, i]
            expected[i + 1 :] = expected[i + 1 :] + factor[i, i + 1 :] * z
        r.x = clamp(n, -4.0, 4.0)
        if self.near_too:
            n = clamp(n, -6.0, 6.0)
            self.residual.append(n)
            self.column_residual = self.column_residual + n

    def _learn_regression(self, error: float) -> None:
        count, x = self.features, self.x
        k = [0.0] * count
        for j in range(count):
            for i in range(count):
                k[i] = k[i] + self.spread[j][i] * x[j]
        over = 1.0
        for i in range(count):
            over = over + k[i] * x[i]
        by, trace = 1.0 / over, 0.0
        step = clamp(error, -3.0, 3.0) * by
        for i in range(count):
            self.weight[i] = self.weight[i] + step * k[i]
            trace = trace + self.spread[i][i]
        grow = 1.0002 if trace < 0.002 * count else 1.0
        for j in range(count):
            kj = k[j] * by
            for i in range(count):
                self.spread[j][i] = (self.spread[j][i] - kj * k[i]) * grow

    def _column_end(self, t: int) -> None:
        if t > 0:
            for factor in self.factor:
                _rank_one(factor, np.array([r.x for r in self.row]))
        mean, by = self.sum[1] / self.seen, 1.2533 / (float(t) + 5.0)
        for r in self.row:
            r.scale = (r.sum[1] + mean * 4.0) * by + TINY
            r.by_scale = 1.0 / r.scale
        if self.seen > 40000.0:
            self.sum = [x * 0.5 for x in self.sum]
            self.seen = self.seen * 0.5


def _rank_one(factor: NDArray[np.float64], x: NDArray[np.float64]) -> None:
    """A triangular factor after one more column; x is spent."""
    for i in range(len(x)):
        d, xi = float(factor[i, i]), float(x[i])
        r = math.sqrt(d * d + xi * xi)
        s, by, c = xi / d, d / r, r / d
        factor[i, i] = r
        y = (factor[i, i + 1 :] + s * x[i + 1 :]) * by
        x[i + 1 :] = c * x[i + 1 :] - s * y
        factor[i, i + 1 :] = y
