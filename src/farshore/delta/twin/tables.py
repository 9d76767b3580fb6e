"""Tables and adaptive pieces of both models (``_coder.h``), bit for bit.

Python's floats are IEEE doubles and its operators round once each, as the kernel's do; integers never wrap here, so what
the kernel keeps in 32 or 64 bits is masked where it could matter.
"""

from __future__ import annotations

import struct
from typing import Protocol

ST_MAX = 4095
CDF_STEPS = 1024


def _exp(x: float) -> float:
    y = x / 1024.0
    term = total = 1.0
    for k in range(1, 12):
        term = term * y / float(k)
        total = total + term
    for _ in range(10):
        total = total * total
    return total


def ln(x: float) -> float:
    """Natural logarithm of 1 <= x <= 2."""
    y = (x - 1.0) / (x + 1.0)
    square, power, total = y * y, y, 0.0
    for k in range(24):
        total = total + power / float(2 * k + 1)
        power = power * square
    return 2.0 * total


LN2 = ln(2.0)
LG = [int(ln(1.0 + (i + 0.5) / 2048) / LN2 * 4096 + 0.5) for i in range(2048)]
EX = [_exp(LN2 * (i + 0.5) / 1024.0) for i in range(1024)]


def _squash(i: int) -> int:
    p = 65536.0 / (1.0 + _exp(-LN2 * (i - 4096) / 256.0))
    return 2 if p < 2.0 else 65534 if p > 65534.0 else int(p)


SQUASH = [_squash(i) for i in range(8192)]


def _stretches() -> list[int]:
    table, low = [], 0
    for i in range(4096):
        while low < 8191 and SQUASH[low] < i * 16 + 8:
            low += 1
        table.append(low - 4096)
    return table


STRETCH = _stretches()
RATE = [int(65536.0 / (i + 1.5)) for i in range(1024)]
TRUST = [1280 * i // (5 * i + 2) for i in range(1024)]


def _distributions() -> tuple[list[float], list[float]]:
    logistic, gauss, total = [], [], 0.0
    for i in range(CDF_STEPS + 2):
        z = (i - CDF_STEPS // 2) / 32.0
        logistic.append(1.0 / (1.0 + _exp(-z)))
        gauss.append(total)
        d0 = _exp(-0.5 * z * z)
        y = z + 1.0 / 64.0
        d1 = _exp(-0.5 * y * y)
        y = z + 1.0 / 32.0
        total = total + (d0 + 4.0 * d1 + _exp(-0.5 * y * y)) / 192.0
    whole = gauss[CDF_STEPS + 1]
    return logistic, [x / whole for x in gauss]


LOGISTIC, GAUSS = _distributions()
_PACK, _BITS = struct.Struct("<d"), struct.Struct("<Q")


def bits_of(x: float) -> int:
    """The 64 bits of a double."""
    return int(_BITS.unpack(_PACK.pack(x))[0])


def double_of(bits: int) -> float:
    """The double of 64 bits."""
    return float(_PACK.unpack(_BITS.pack(bits))[0])


def lg(x: float) -> int:
    """log2 of a positive double, in 1/4096."""
    bits = bits_of(x)
    return ((bits >> 52) - 1023) * 4096 + LG[bits >> 41 & 2047]


def ex(x: int) -> float:
    """2^(x/1024)."""
    return double_of(((x >> 10) + 1023) << 52) * EX[x & 1023]


def clamp(x: float, low: float, high: float) -> float:
    """X within bounds; what is no number becomes ``low``."""
    return (min(high, x)) if x > low else low


COUNTER_START = 1 << 31


def counter_after(s: int, bit: int, limit: int) -> int:
    """A counter that has seen one more bit."""
    p, n = s >> 10, s & 1023
    p += (((bit << 22) - bit - p) * RATE[n]) >> 16
    return p << 10 | (n + 1 if n < limit else n)


class _Coder(Protocol):
    def bit(self, bit: int, p: int) -> int: ...


def code_flag(c: _Coder, counters: list[int], k: int, bit: int) -> int:
    """A decision that one counter knows."""
    p = counters[k] >> 16
    bit = c.bit(bit, 16 if p < 16 else min(p, 65520))
    counters[k] = counter_after(counters[k], bit, 255)
    return bit


def counter_vote(s: int) -> int:
    """Its log-odds; a fresh one abstains."""
    return (STRETCH[s >> 20] * TRUST[s & 1023]) >> 8


def mix(weights: list[int], votes: list[int]) -> int:
    """Weighted log-odds."""
    total = 0
    for weight, vote in zip(weights, votes, strict=False):
        total += weight * vote
    total >>= 16
    return -ST_MAX if total < -ST_MAX else min(total, ST_MAX)


def learn(weights: list[int], votes: list[int], error: int, shift: int) -> None:
    """Move weights towards what would have been right."""
    half = 1 << (shift - 1)
    for i, vote in enumerate(votes):
        weights[i] += (vote * error + half) >> shift


def apm_start() -> list[int]:
    """A map from log-odds to probability that changes nothing yet."""
    return [SQUASH[min(i * 256, 8191)] for i in range(33)]


def apm_p(a: list[int], d: int) -> int:
    """Its probability."""
    x = d + 4096
    j, w = x >> 8, x & 255
    return (a[j] * (256 - w) + a[j + 1] * w) >> 8


def apm_learn(a: list[int], d: int, bit: int, shift: int) -> None:
    """Move the nearer point."""
    x = d + 4096
    j = (x >> 8) + ((x & 255) >= 128)
    p = a[j]
    a[j] = p + (((65535 if bit else 0) - p) >> shift)
