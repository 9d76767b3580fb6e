"""One value as a bin of a learnt histogram (``_bins.h``), bit for bit."""

from __future__ import annotations

import math

from farshore.delta.twin.grids import Grid
from farshore.delta.twin.ranges import Reader, Writer
from farshore.delta.twin.tables import CDF_STEPS, COUNTER_START, LOGISTIC, bits_of, clamp, code_flag

BINS, MIDDLE = 64, 32
SHARPNESS, BIN_SHARE = 3.2, 0.21875
RATIOS, PLACES, WIDE_KINDS = 14, 8, 24
TAILS, OCTAVES = 64, 6
SINGLE = RATIOS * PLACES
DEAD = SINGLE + 2 * WIDE_KINDS


class Histogram:
    """What was seen of 64 bins; a logistic distribution before."""

    def __init__(self, first: float, step: float) -> None:
        self.count: list[int] = []
        below = 0.0
        for k in range(BINS):
            z, at = (first + step * float(k + 1)) * 1.3863, 1.0
            if k + 1 < BINS:
                at = LOGISTIC[int(clamp((z + 16.0) * 32.0, 0.0, CDF_STEPS))]
            self.count.append(int((at - below) * 2048.0) + 1)
            below = at
        self.seen = 1
        self._settle()

    def _settle(self) -> None:
        total, sum_ = sum(self.count), 0
        self.cum = []
        for count in self.count:
            self.cum.append(sum_)
            sum_ += 1 + count * (65536 - BINS) // total
        self.cum.append(65536)
        if self.seen >= 1 << 13:
            self.count = [(count + 1) >> 1 for count in self.count]
            self.seen >>= 1
        self.due = self.seen + (32 if self.seen < 128 else 256)

    def code(self, c: Writer | Reader, bin_: int) -> int:
        """Code a bin and learn it."""
        bin_ = c.share(bin_, self.cum)
        self.count[bin_] += 16
        self.seen += 1
        if self.seen >= self.due:
            self._settle()
        return bin_


class Bins:
    """What is learnt along a stream."""

    def __init__(self) -> None:
        self.histograms: dict[int, Histogram] = {}
        self.tail = [[COUNTER_START] * TAILS for _ in range(2)]
        self.half = [COUNTER_START] * TAILS
        self.zero, self.sign, self.equal = ([COUNTER_START] * n for n in (256, 2, 64))
        self.dead, self.dead_sign = ([COUNTER_START] * n for n in (64, 2))

    def histogram(self, index: int, first: float, step: float) -> Histogram:
        """One histogram, made when first used."""
        found = self.histograms.get(index)
        if found is None:
            found = self.histograms[index] = Histogram(first, step)
        return found


def _point(grid: Grid, x: float) -> tuple[int, float, float]:
    """The nearest index, the place beside it in cells, the cell's width."""
    if grid.integer:
        y = clamp(x + grid.zero, 0.0, float(grid.top))
        at = min(int(y + 0.5), grid.top)
        return at, clamp(y - float(at), -0.5, 0.5), 1.0
    e = (bits_of(x) >> 52 & 2047) - 1023
    cell = math.ldexp(1.0, max(e, 1 - grid.bias) - grid.mantissa + grid.shift)
    at = grid.index(x)
    place = (x - grid.value(at)) / cell
    if place >= 0.5 and at < grid.top:
        at, place = at + 1, place - 1.0
    if place < -0.5 and at > 0:
        at, place = at - 1, place + 1.0
    return at, clamp(place, -0.5, 0.5), cell


class Binned:
    """The bins of one matrix."""

    def __init__(self, coder: Writer | Reader, bins: Bins, grid: Grid) -> None:
        self.c, self.b, self.grid = coder, bins, grid

    def code(self, x: float, scale: float, context: int, value: int) -> int:
        """Code one grid index, expected at x, off by ``scale`` in the mean."""
        at, place, cell = _point(self.grid, x)
        cells = scale / cell
        bits = bits_of(cells * (1.0 / SHARPNESS))
        octave, half = (bits >> 52) - 1023, bits >> 51 & 1
        if not self.grid.integer and octave > 2:
            return self._reals(x, scale, context, value)
        if octave > 0:
            h = self.b.histogram(SINGLE + context, -MIDDLE / 4.5, 1 / 4.5)
        else:
            kind = max(2 * octave + half + RATIOS - 2, 0)
            index = kind * PLACES + int(clamp((place + 0.5) * PLACES, 0.0, PLACES - 1))
            h = self.b.histogram(index, (-MIDDLE - 0.5 - place) / cells, 1.0 / cells)
        return self._indices(h, at, max(0, min(octave, 31)), x, value)

    def _reals(self, x: float, scale: float, context: int, value: int) -> int:
        grid, step = self.grid, scale * BIN_SHARE
        last = step * (MIDDLE - 1)
        h = self.b.histogram(SINGLE + WIDE_KINDS + context, -MIDDLE * BIN_SHARE, BIN_SHARE)

        def edge(k: int) -> int:
            return grid.index(x + float(k - MIDDLE) * step)

        k = 0
        if not self.c.decodes:
            k = int(clamp((grid.value(value) - x) / step + MIDDLE, 0.0, BINS - 1))
            while k > 0 and value < edge(k):
                k -= 1
            while k < BINS - 1 and value >= edge(k + 1):
                k += 1
        k = h.code(self.c, k)
        low, after = edge(k), edge(k + 1)
        if k == 0:
            return self._tail(0, max(after - 1, 0), 0, x, last, value)
        if k == BINS - 1:
            return self._tail(1, low, 0, x, last, value)
        return self._within(low, after - 1 if after > low else low, value)

    def _indices(self, h: Histogram, middle: int, shift: int, x: float, value: int) -> int:
        top, size = self.grid.top, 1 << shift
        k = h.code(self.c, max(0, min(((value - middle) >> shift) + MIDDLE, BINS - 1)))
        low = middle + (k - MIDDLE) * size
        high = low + size - 1
        if high < 0:
            return 0
        if low > top:
            return top
        if k == 0:
            return self._tail(0, high, size << 3, x, 0.0, value)
        low = max(low, 0)
        if k == BINS - 1:
            return self._tail(1, low, size << 3, x, 0.0, value)
        high = min(high, top)
        return low if low == high else low + self.c.uniform(value - low, high - low + 1)

    def _tail(self, above: int, edge: int, step: int, x: float, reach: float, value: int) -> int:
        grid = self.grid
        low, high = (edge, grid.top) if above else (0, edge)
        for j in range(TAILS):
            far, reach = step << min(j, 40), reach * 2.0
            if reach > 0.0:
                after = grid.index(x + reach if above else x - reach)
            else:
                after = min(edge + far, grid.top) if above else max(edge - far, 0)
            if after <= low or after >= high:
                break
            further = code_flag(self.c, self.b.tail[above], j, int(value >= after if above else value < after))
            if above == further:
                low = after
            else:
                high = after - 1
            if not further:
                break
        return self._within(low, high, value)

    def _within(self, low: int, high: int, value: int) -> int:
        """A grid index in [low, high], as likely as its cell is wide."""
        grid, octave = self.grid, 0
        by = grid.mantissa - grid.shift
        while not grid.flat(low, high):
            if octave < OCTAVES:
                if low < grid.half <= high:
                    um = grid.half
                elif high >= grid.half:
                    um = grid.half + ((high - grid.half) >> by << by)
                else:
                    um = grid.half - ((grid.half - 1 - low) >> by << by)
                top, bottom = grid.edge(high + 1), grid.edge(low) if low else grid.value(0)
                p = (top - grid.edge(um)) / (top - bottom) * 65536.0
                bit = self.c.bit(int(value >= um), int(clamp(p, 16.0, 65520.0)))
            else:
                um = low + ((high - low) >> 1) + 1
                bit = code_flag(self.c, self.b.half, min(octave, TAILS - 1), int(value >= um))
            low, high = (um, high) if bit else (low, um - 1)
            octave += 1
        return low if low == high else low + self.c.uniform(value - low, high - low + 1)

    def dead(self, value: int, most: int, negative: int, usual: float) -> tuple[int, float]:
        """A magnitude below ``most``, by its octave's distance from the usual one; and the usual one after it."""
        grid = self.grid
        by = grid.mantissa - grid.shift
        about, highest = int(usual + 0.5), most >> by
        h = self.b.histogram(DEAD, -MIDDLE / 1.2, 1 / 1.2)
        negative = code_flag(self.c, self.b.dead_sign, negative, int(value < grid.half))
        m = grid.half - 1 - value if value < grid.half else value - grid.half
        octave = m >> by
        k = h.code(self.c, max(0, min(octave - about + MIDDLE, BINS - 1)))
        octave = self.c.uniform(octave, highest + 1) if k in {0, BINS - 1} else about + k - MIDDLE
        octave = max(0, min(octave, highest))
        m = octave << by | self.c.uniform(m & ((1 << by) - 1), 1 << by)
        return grid.half - 1 - m if negative else grid.half + m, usual + (float(octave) - usual) * 0.05
