"""The quick model of tensor values (``_quick.h``), bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farshore.delta.twin.bins import Binned, Bins
from farshore.delta.twin.grids import Grid
from farshore.delta.twin.joint import Joint
from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tables import clamp, code_flag, lg

FLAG_ZERO, FLAG_EQUAL, FLAG_NEAR, FLAG_DEAD = 2, 4, 8, 16
NEAR = 4
SMALL = 1e-36


class _Row:
    __slots__ = (
        "by_place", "by_rate", "by_scale", "dead", "equal", "factor", "last", "off1", "off2", "rate", "saa", "sab", "scale", "x",
    )  # fmt: skip

    def __init__(self, i: int) -> None:
        self.sab = self.off1 = self.off2 = self.x = 0.0
        self.factor = self.rate = self.by_rate = self.scale = self.by_scale = 0.0
        self.saa, self.last, self.by_place = 1e-30, 1.0, 1.0 / (float(i) + 8.0)
        self.equal = self.dead = 0


class Quick:
    """One matrix on its way through a coder."""

    def __init__(self, coder: Writer | Reader, bins: Bins, spec: tuple[float, ...]) -> None:
        kind, bits, mantissa, bias, shift = (int(x) for x in spec[:5])
        self.c, self.b = coder, bins
        self.grid = Grid(kind, bits, mantissa, bias, shift, spec[5])
        self.binned = Binned(coder, bins, self.grid)
        self.rows, self.cols, period, self.flags, joints, _ = (int(x) for x in spec[6:12])
        scale, size, prior = spec[12:]
        self.near = bool(self.flags & FLAG_NEAR)
        self.period = period if self.near and period < self.cols else 0
        self.row = [_Row(i) for i in range(self.rows)]
        self.joint = Joint(self.rows, prior) if joints else None
        self.off1 = self.off2 = scale
        self.size, self.seen = size, 1.0
        self.tab, self.taa, self.tn = 0.0, 1e-30, 0.0
        self.weight = [1.0, 0.0, 0.0, 0.0]
        self.spread = [[0.002 if i == j else 0.0 for j in range(NEAR)] for i in range(NEAR)]
        self.kin = [0.0] * (self.rows * self.period)
        self.zero = self.grid.index(0.0)
        self.dead_high = self.grid.index(size * 2.0**-20)
        self.dead_low = self.grid.index(-size * 2.0**-20)
        self.dead_octave = 0.0 if self.grid.integer else 0.5 * float((self.dead_high - self.zero) >> (mantissa - shift))

    def code(self, u: NDArray[np.uint64], a: list[float]) -> None:
        """Code all values, column by column."""
        for t in range(self.cols):
            self._column_start(t)
            for i, row in enumerate(self.row):
                at = t * self.rows + i
                u[at] = self._value(row, t, i, a[at], int(u[at]))
            if self.joint and t:
                self.joint.learn(np.array([row.x for row in self.row]))
            if self.seen > 40000.0:
                self.off1, self.off2, self.size, self.seen = (
                    x * 0.5 for x in (self.off1, self.off2, self.size, self.seen)
                )

    def _column_start(self, t: int) -> None:
        k0 = 40.0 * self.taa / self.tn if self.tn > 0.0 else 1.0
        whole = (self.tab + k0) / (self.taa + k0)
        shrink = 1.5 / float(t) if t else 0.0
        mean1, mean2 = self.off1 / self.seen + SMALL, self.off2 / self.seen + SMALL
        by2, by1 = 1.0 / (float(t) + 3.0), 1.2533 / (float(t) + 4.0)
        for r in self.row:
            k = shrink * r.saa if t else 1.0
            r.factor = (r.sab + k * whole) / (r.saa + k)
            r.rate = (r.off2 + mean2 * 3.0) * by2
            r.by_rate = 1.0 / r.rate
            r.scale = (r.off1 + mean1 * 4.0) * by1 + SMALL
            r.by_scale = 1.0 / r.scale
        if self.joint:
            self.joint.start()
        self.mean_size = self.size / self.seen + SMALL
        self.column, self.up = 0.0, 1.0
        self.equal = self.dead = 0

    def _value(self, r: _Row, t: int, i: int, base: float, value: int) -> int:
        m1, guess = clamp(r.factor * base, -1e30, 1e30), self._guess(t, i)
        m2, near = m1 + guess * r.scale, abs(base) / self.mean_size
        settled = self._flags(r, base, near, value)
        if isinstance(settled, tuple):  # dead: teaches nothing
            r.x = 0.0
            return settled[0]
        if settled is None:
            context = (
                ((near > 0.5) + (near > 1.0) + (near > 2.0)) * 6
                + (r.last > 1.0) * 3
                + (self.up > 0.7)
                + (self.up > 1.6)
            )
            value = self.binned.code(m2, r.rate * ((self.column + 8.0) * r.by_place), context, value)
        else:
            value = settled
        b = self.grid.value(value)
        self._learn(r, t, i, base, (m1, m2, guess), b if -1e30 < b < 1e30 else m1)
        return value

    def _guess(self, t: int, i: int) -> float:
        guess = clamp(float(self.joint.expected[i]), -6.0, 6.0) if self.joint else 0.0
        if not self.near:
            return guess
        kin = self.kin[t % self.period * self.rows + i] if self.period else 0.0
        self.z = [guess, self.row[i].x, self.row[i - 1].x if i else 0.0, kin]
        guess = 0.0
        for weight, z in zip(self.weight, self.z, strict=True):
            guess = guess + weight * z
        return clamp(guess, -8.0, 8.0)

    def _flags(self, r: _Row, base: float, near: float, value: int) -> int | tuple[int] | None:
        """The value if a flag settles it, alone in a tuple if it is dead."""
        c, b, zero, floats = self.c, self.b, self.zero, not self.grid.integer
        if self.flags & FLAG_ZERO:
            minus = zero - floats
            k = int(clamp(float(lg(near + 1e-6)) * (16.0 / 4096.0) + 128.0, 0.0, 255.0))
            if code_flag(c, b.zero, k, int(value in {zero, minus})):
                return minus if floats and code_flag(c, b.sign, int(base < 0.0), int(value == minus)) else zero
        if self.flags & FLAG_DEAD:
            dead = int(self.dead_low < value < self.dead_high if floats else value == zero)
            dead = code_flag(c, b.dead, (r.dead >> 1) * 8 + min(self.dead, 7), dead)
            if r.dead < 8:
                self.dead = self.dead + 1 if dead else 0
            r.dead = min(r.dead + 1, 15) if dead else r.dead >> 2
            if dead and floats:
                value, self.dead_octave = self.binned.dead(
                    value, self.dead_high - zero, int(base < 0.0), self.dead_octave
                )
            if dead:
                return (value if floats else zero,)
        if self.flags & FLAG_EQUAL:
            expected = self.grid.index(base)
            equal = code_flag(c, b.equal, min(r.equal, 7) * 8 + min(self.equal, 7), int(value == expected))
            r.equal, self.equal = (r.equal + 1, self.equal + 1) if equal else (0, 0)
            return expected if equal else None
        return None

    def _learn(self, r: _Row, t: int, i: int, base: float, means: tuple[float, float, float], b: float) -> None:
        m1, m2, guess = means
        off1, off2, ab, aa = abs(b - m1), abs(b - m2), base * b, base * base
        over = min(off2 * r.by_rate, 8.0)
        r.off1, r.off2 = r.off1 + off1, r.off2 + off2
        self.off1, self.off2 = self.off1 + off1, self.off2 + off2
        self.size, self.seen = self.size + abs(b), self.seen + 1.0
        self.column = self.column + over
        self.up = r.last = over
        r.sab, r.saa = r.sab + ab, r.saa + aa
        self.tab, self.taa, self.tn = self.tab + ab, self.taa + aa, self.tn + 1.0
        if not self.joint and not self.near:
            return
        n = (b - m1) * r.by_scale
        if self.joint:
            self.joint.add(n, i)
        r.x = clamp(n, -4.0, 4.0)
        if not self.near:
            return
        self._learn_near(clamp(n, -6.0, 6.0) - guess)
        if self.period:
            self.kin[t % self.period * self.rows + i] = r.x

    def _learn_near(self, error: float) -> None:
        z, spread, k = self.z, self.spread, [0.0] * NEAR
        over, trace = 1.0, 0.0
        for i in range(NEAR):
            for j in range(NEAR):
                k[i] = k[i] + spread[j][i] * z[j]
        for i in range(NEAR):
            over = over + k[i] * z[i]
        by = 1.0 / over
        step = clamp(error, -3.0, 3.0) * by
        for i in range(NEAR):
            self.weight[i] = self.weight[i] + step * k[i]
            trace = trace + spread[i][i]
        grow = 1.0002 if trace < 0.002 * NEAR else 1.0
        for j in range(NEAR):
            kj = k[j] * by
            for i in range(NEAR):
                spread[j][i] = (spread[j][i] - kj * k[i]) * grow
