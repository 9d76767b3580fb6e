"""The grids of number formats (``_grids.h``)."""

from __future__ import annotations

import math

from farshore.delta.twin.tables import bits_of, double_of


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
