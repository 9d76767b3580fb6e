"""A cap on bytes a second: a token bucket."""

from __future__ import annotations

from farshore.agent.clock import Clock


class Pace:
    """Lets bytes through no faster than ``rate``.

    Args:
        rate: bytes a second; None lets all through.
        clock: time.

    """

    def __init__(self, rate: int | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._credit = 0.0
        self._filled = clock.monotonic()

    @property
    def portion(self) -> int:
        """Bytes to ask for at once: a quarter of a second's worth, so that the line carries an even stream."""
        return 64 * 1024 if self._rate is None else max(256, min(64 * 1024, self._rate // 4))

    def spend(self, count: int) -> float:
        """Account for ``count`` bytes that arrived, and sleep until the next may. Returns the seconds slept.

        At most one second's worth is saved up while nothing is moved.
        """
        if self._rate is None:
            return 0.0
        now = self._clock.monotonic()
        self._credit = min(self._credit + (now - self._filled) * self._rate, float(self._rate)) - count
        self._filled = now
        pause = max(-self._credit / self._rate, 0.0)
        self._clock.sleep(pause)
        return pause
