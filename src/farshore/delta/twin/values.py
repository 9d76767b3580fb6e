"""The model of tensor values (``_values.h``), bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farshore.delta.twin.channels import Channels, Known, memory_add
from farshore.delta.twin.grids import Grid
from farshore.delta.twin.joint import Joint
from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tables import (
    GAUSS,
    LOGISTIC,
    clamp,
    code_flag,
    ex,
    lg,
)  # fmt: skip
from farshore.delta.twin.tree import Model, Tree

HAS_BASE, FLAG_ZERO, FLAG_EQUAL, FLAG_NEAR, FLAG_CHANNELS = 1, 2, 4, 8, 32
NEIGHBOURS = 16
TINY = 1e-36
JOINT_PRIOR = (1.0, 0.2, 5.0)


def log2(x: float) -> float:
    """As the kernel's LOG2."""
    return float(lg(x)) * (1.0 / 4096.0)


def exp2(x: float) -> float:
    """As the kernel's exp2_of."""
    return ex(int(clamp(x, -400.0, 400.0) * 1024.0))


def quantised(x: float, step: float, levels: int) -> int:
    """X in factors of two around 0."""
    return int(clamp(x * step + 0.5 * levels, 0.0, levels - 1))


class _Row:
    __slots__ = ("by_scale", "equal", "last", "last2", "log_near", "log_size", "saa", "sab", "scale", "sum", "x")

    def __init__(self, scale: float, log_scale: float, log_size: float) -> None:
        self.sab, self.saa, self.scale, self.x, self.equal = 0.0, 1e-30, scale, 0.0, 0
        self.by_scale = 1.0 / scale
        self.sum = [0.0] * 4
        self.log_near = self.last = self.last2 = log_scale
        self.log_size = log_size


class Matrix:
    """One matrix on its way through a coder."""

    def __init__(
        self, coder: Writer | Reader, model: Model, memory: list[Known], spec: tuple[float, ...], kin: Sequence[int]
    ) -> None:
        kind, bits, mantissa, bias, shift = (int(x) for x in spec[:5])
        self.c, self.m, self.memory, self.kin = coder, model, memory, kin
        self.grid = Grid(kind, bits, mantissa, bias, shift, spec[5])
        self.rows, self.cols, self.period, self.flags, self.joints, detail = (int(x) for x in spec[6:12])
        scale, size, prior = spec[12:]
        self.based = bool(self.flags & HAS_BASE)
        self.detail = detail
        self.used = range(0 if detail > 1 else 2, 4)
        self.rate = [0.0] * 4
        self.row = [_Row(scale, log2(scale), log2(size)) for _ in range(self.rows)]
        self.sum = [scale, scale, scale, size]
        self.seen, self.near, self.relative = 1.0, scale, 0.1
        self.tab, self.taa, self.tn = 0.0, 1e-30, 0.0
        self.log_mean, self.size_mean = log2(scale), log2(size)
        self.fit = [0.7, 0.6, 0.08, 0.05, 0.05, 0.0]
        self.tree = Tree(coder, model, self.grid)
        self.near_too = bool(self.flags & FLAG_NEAR)
        self.channels: Channels | None = None
        channels_too = bool(self.flags & FLAG_CHANNELS)
        self.features = self.joints + (NEIGHBOURS if self.near_too else 0) + channels_too
        self.weight = [1.0 / self.joints if i < self.joints else 0.0 for i in range(self.features)]
        if channels_too:
            self.weight[-1] = 1.0
        self.spread = [[0.002 if i == j else 0.0 for j in range(self.features)] for i in range(self.features)]
        self.residual: list[float] = []
        self.joint = [Joint(self.rows, prior * JOINT_PRIOR[k]) for k in range(self.joints)]
        self.none = self.grid.index(0.0)

    def code(self, u: NDArray[np.uint64], a: list[float]) -> None:
        """Code all values, column by column."""
        self.a = a
        if self.flags & FLAG_CHANNELS:
            self.channels = Channels((self.rows, self.cols, self.period), np.array(a), self.kin, self.memory)
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
        if self.channels:
            values = np.array([self.grid.value(int(x)) for x in u])
            values = np.where((values > -1e30) & (values < 1e30), values, 0.0)
            memory_add(self.memory, self.channels.known(np.array(self.residual), values))

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
        for joint in self.joint:
            joint.start()
        if self.channels:
            self.channels.column(t)

    def _expect(self, r: _Row, t: int, i: int) -> None:
        base, m1 = self.base, 0.0
        if self.based:
            k1 = 1.5 * r.saa * self.by_seen if self.seen_rows > 0.0 else 1.0
            m1 = clamp((r.sab + k1 * self.factor_all) / (r.saa + k1) * base, -1e30, 1e30)
        self.x = [clamp(float(joint.expected[i]), -6.0, 6.0) for joint in self.joint]
        if self.near_too:
            self.x += self._gather(r, t, i)
        if self.channels:
            self.x[: self.joints] = [x * self.channels.unit for x in self.x[: self.joints]]
            self.x.append(clamp(float(self.channels.expected[i]), -6.0, 6.0))
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
        shapes = [(m2, scale, True), (0.0, e[3], True), (0.0, exp2(r.log_size + 0.6), False)]
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

    def _flags(self, r: _Row, value: int, expected: int) -> int | None:
        """The value if a flag settles it."""
        zero = self.none
        minus = zero if self.grid.integer else zero - 1
        if self.flags & FLAG_ZERO:
            size = abs(self.base) if self.based else self.rate[3]
            q = quantised(log2(size / self.mean[3] + 1e-6), 16.0, 128) + 64
            if code_flag(self.c, self.m.zero, q, int(value in {zero, minus})):
                negative = not self.grid.integer and code_flag(
                    self.c, self.m.zero_sign, int(self.base < 0.0), int(value == minus)
                )
                return minus if negative else zero
        if self.flags & FLAG_EQUAL:
            q = min(r.equal, 7) * 8 + min(self.equal_column, 7)
            if code_flag(self.c, self.m.equal, q, int(value == expected)):
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
        return self.tree.code(value, self.shape, self.m2, self.scale, part_of, q, expected, context)

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
        left = n  # the rows have in common what the channels leave open
        if self.channels:
            left = (n - float(self.channels.expected[i])) / self.channels.unit
        for joint in self.joint:
            joint.add(left, i)
        r.x = clamp(left, -4.0, 4.0)
        if self.near_too or self.channels:
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
            for joint in self.joint:
                joint.learn(np.array([r.x for r in self.row]))
        if self.channels:
            self.channels.learn(np.array(self.residual[-self.rows :]), t)
        mean, by = self.sum[1] / self.seen, 1.2533 / (float(t) + 5.0)
        for r in self.row:
            r.scale = (r.sum[1] + mean * 4.0) * by + TINY
            r.by_scale = 1.0 / r.scale
        if self.seen > 40000.0:
            self.sum = [x * 0.5 for x in self.sum]
            self.seen = self.seen * 0.5
