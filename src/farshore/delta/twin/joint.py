"""Rows taken as jointly normal (``_joint.h``), bit for bit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Joint:
    """The triangular factor of the rows' running covariance, and what it lets expect in this column."""

    def __init__(self, rows: int, prior: float) -> None:
        self.factor = np.zeros((rows, rows))
        np.fill_diagonal(self.factor, math.sqrt(prior * rows))
        self.start()

    def start(self) -> None:
        """A new column."""
        self.expected = np.zeros(len(self.factor))

    def add(self, x: float, i: int) -> None:
        """Row i turned out as x: what the rows below may expect now."""
        f = self.factor[i]
        z = (x - self.expected[i]) / f[i]
        self.expected[i + 1 :] = self.expected[i + 1 :] + f[i + 1 :] * z

    def learn(self, x: NDArray[np.float64]) -> None:
        """A whole column, spent here."""
        for i in range(len(x)):
            f = self.factor[i]
            d, xi = float(f[i]), float(x[i])
            r = math.sqrt(d * d + xi * xi)
            s, by, c = xi / d, d / r, r / d
            f[i] = r
            y = (f[i + 1 :] + s * x[i + 1 :]) * by
            x[i + 1 :] = c * x[i + 1 :] - s * y
            f[i + 1 :] = y
