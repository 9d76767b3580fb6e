"""What a matrix's columns have to do with each other (``_channels.h``), bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Known = tuple[Reals, Reals]
"""What a matrix told: correlations of its inputs, products of its outputs (lower triangles count)."""
Kin = tuple[int, int, int, int]
"""How many matrices back, whether its inputs (or outputs), from which channel on, share in sixteenths."""

MOST_KNOWN, MOST_NUMBERS = 64, 1 << 20


def memory_add(memory: list[Known], told: Known) -> None:
    """Remember what a matrix told, and forget the oldest that leave no room."""
    numbers = sum(one.size + two.size for one, two in (*memory, told))
    while memory and (len(memory) == MOST_KNOWN or numbers > MOST_NUMBERS):
        numbers -= sum(part.size for part in memory.pop(0))
    memory.append(told)


def _correlation_add(total: Reals, start: int, products: Reals, share: float) -> None:
    n = len(products)
    diagonal = np.diag(products)
    by = np.where(diagonal > 1e-200, 1.0 / np.sqrt(np.maximum(diagonal, 1e-200)), 0.0)
    part = np.tril(products * by[None, :] * (share * by)[:, None], -1)
    total[start : start + n, start : start + n] += part


def _factor(correlation: Reals) -> Reals:
    a = correlation.copy()
    np.fill_diagonal(a, 1.0)
    for k in range(len(a)):
        a[k, k] = np.sqrt(max(1e-3, a[k, k]))
        column = a[k + 1 :, k] * (1.0 / a[k, k])
        a[k + 1 :, k] = column
        a[k + 1 :, k + 1 :] -= np.outer(column, column)
    return a


def _products(vectors: Reals) -> Reals:
    """The sum, one after the other, of what each row's elements make with each other."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for x in vectors:
        total += np.outer(x, x)
    return total


class Channels:
    """The channels of one matrix on its way through a coder."""

    def __init__(self, shape: tuple[int, int, int], base: Reals, kin: Sequence[int], memory: Sequence[Known]) -> None:
        self.rows, cols, period = shape
        self.taps = period if period > 1 and cols % period == 0 else 1
        n = self.channels = cols // self.taps
        self.told = np.zeros((n, n))
        tap = np.zeros((self.taps, self.taps))
        own, *relations = kin
        if own:
            self._own(base.reshape(cols, self.rows), own, tap)
        for back, inputs, start, share in zip(*(relations[k::4] for k in range(4)), strict=True):
            if 1 <= back <= len(memory):
                products = memory[-back][0 if inputs else 1]
                if 0 <= start <= n - len(products):
                    _correlation_add(self.told, start, products, share * 0.0625)
        self.inner, self.tap = _factor(self.told), _factor(tap)
        self.past = np.zeros((cols, self.rows))
        self.now = np.zeros((self.taps, self.rows))

    def _own(self, a: Reals, share: int, tap: Reals) -> None:
        squares = np.full(self.rows, 1e-200)
        for column in a:
            squares = squares + column * column
        scaled = (a * (1.0 / np.sqrt(squares))).reshape(self.channels, self.taps, self.rows)
        _correlation_add(self.told, 0, _products(scaled.transpose(2, 1, 0).reshape(-1, self.channels)), share * 0.0625)
        _correlation_add(tap, 0, _products(scaled.transpose(2, 0, 1).reshape(-1, self.taps)), 0.9375)

    def column(self, t: int) -> None:
        """What the columns before column t let expect of it."""
        c, j = divmod(t, self.taps)
        past = np.zeros(self.rows)
        for b in range(c):
            past = past + self.inner[c, b] * self.past[b * self.taps + j]
        self.past[t] = past
        for b in range(j):
            past = past + self.inner[c, c] * self.tap[j, b] * self.now[b]
        self.expected = past
        self.unit = float(self.inner[c, c] * self.tap[j, j])

    def learn(self, x: Reals, t: int) -> None:
        """Column t turned out as x."""
        c, j = divmod(t, self.taps)
        self.now[j] = (x - self.expected) * (1.0 / self.unit)
        self.past[t] = (x - self.past[t]) * (1.0 / self.inner[c, c])

    def known(self, residual: Reals, values: Reals) -> Known:
        """What the matrix tells, now that its residuals and values are known (both columns × rows)."""
        n, taps, rows = self.channels, self.taps, self.rows
        vectors = residual.reshape(n, taps, rows).transpose(2, 1, 0).reshape(-1, n)
        share = float(rows * taps) / float(rows * taps + n)
        told = self.told * (1.0 - share)
        _correlation_add(told, 0, _products(vectors), share)
        inner = _factor(told)
        np.fill_diagonal(told, 1.0)
        v = values.reshape(n, taps, rows).copy()
        for c in range(n):
            for j in range(taps):
                v[c, j] = v[c, j] * self.tap[j, j]
                for b in range(j + 1, taps):
                    v[c, j] = v[c, j] + self.tap[b, j] * v[c, b]
        for c in range(n):
            for j in range(taps):
                v[c, j] = v[c, j] * inner[c, c]
                for b in range(c + 1, n):
                    v[c, j] = v[c, j] + inner[b, c] * v[b, j]
        return told, _products(v.reshape(n * taps, rows))
