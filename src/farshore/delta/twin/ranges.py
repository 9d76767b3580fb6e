"""The range coder (``_coder.h``), both ways."""

from __future__ import annotations

from bisect import bisect_right

_MASK = (1 << 64) - 1


class Writer:
    """Encodes."""

    decodes = False

    def __init__(self) -> None:
        self.out = bytearray()
        self.low = 0
        self.range = _MASK

    @property
    def at(self) -> int:
        """Bytes written."""
        return len(self.out)

    def bit(self, bit: int, p: int) -> int:
        """Code a decision whose probability of 1 is p/65536."""
        bound = (self.range >> 16) * p
        if bit:
            self.range = bound
        else:
            self._add(bound)
            self.range -= bound
        self._normalise()
        return bit

    def uniform(self, value: int, n: int) -> int:
        """Code a number below n."""
        step = self.range // n
        self._add(value * step)
        self.range = step
        self._normalise()
        return value

    def share(self, value: int, cum: list[int]) -> int:
        """Code one of a few things, given 65536 times the share of those before each, and 65536."""
        step = self.range >> 16
        self._add(step * cum[value])
        self.range = step * (cum[value + 1] - cum[value])
        self._normalise()
        return value

    def _add(self, x: int) -> None:
        low = self.low + x
        if low > _MASK:
            self._carry()
        self.low = low & _MASK

    def _carry(self) -> None:
        for i in range(len(self.out) - 1, -1, -1):
            self.out[i] = (self.out[i] + 1) & 255
            if self.out[i]:
                return

    def _normalise(self) -> None:
        while self.range < 1 << 48:
            self.out.append(self.low >> 56)
            self.low = self.low << 8 & _MASK
            self.range = self.range << 8 & _MASK

    def finish(self) -> bytes:
        """End the stream."""
        for size in range(9):
            mask = _MASK >> (8 * size)
            value = (self.low + mask) & _MASK & ~mask
            if (value - self.low) & _MASK < self.range:
                if value < self.low:
                    self._carry()
                self.out += value.to_bytes(8, "big")[:size]
                break
        return bytes(self.out).rstrip(b"\0")


class Reader:
    """Decodes."""

    decodes = True

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data)
        self.at = 0
        self.range = _MASK
        self.low = 0
        for _ in range(8):
            self.low = self.low << 8 | self._byte()

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def bit(self, bit: int, p: int) -> int:
        """The next decision."""
        bound = (self.range >> 16) * p
        bit = int(self.low < bound)
        if bit:
            self.range = bound
        else:
            self.low -= bound
            self.range -= bound
        self._normalise()
        return bit

    def uniform(self, value: int, n: int) -> int:
        """The next number below n."""
        step = self.range // n
        value = min(self.low // step, n - 1)
        self.low -= value * step
        self.range = step
        self._normalise()
        return value

    def share(self, value: int, cum: list[int]) -> int:
        """The next of a few things."""
        step = self.range >> 16
        value = bisect_right(cum, self.low // step, 0, len(cum) - 1) - 1
        self.low -= step * cum[value]
        self.range = step * (cum[value + 1] - cum[value])
        self._normalise()
        return value

    def _normalise(self) -> None:
        while self.range < 1 << 48:
            self.low = (self.low << 8 | self._byte()) & _MASK
            self.range = self.range << 8 & _MASK
