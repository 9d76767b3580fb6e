"""Caps on bytes: so many a second (a token bucket), and so many a day and a month, over restarts too."""

from __future__ import annotations

from farshore.agent import limits
from farshore.agent.clock import Clock
from farshore.agent.journal import Journal
from farshore.core.wire import DesiredSettings

ASIDE = 256 * 1024
"""Bytes that are set aside at once where there is a cap: one durable note for so many."""


class Pace:
    """Lets bytes through no faster than ``rate``, and no more of them than the caps leave.

    Bytes are noted before they are asked for: what a power cut leaves in doubt counts as moved.

    Args:
        rate: bytes a second; None lets all through.
        clock: time.
        journal: remembers what was moved; None where nothing is capped.

    """

    def __init__(self, rate: int | None, clock: Clock, journal: Journal | None = None) -> None:
        self._own = self._rate = rate
        self._clock, self._journal = clock, journal
        self._given = DesiredSettings()
        self._credit = 0.0
        self._filled = clock.monotonic()
        self._aside = self._used = 0

    def heed(self, given: DesiredSettings) -> None:
        """Take what the hub asks for, beside the device's own rate: of both the stricter holds."""
        rates = [rate for rate in (self._own, given.rate) if rate is not None]
        self._rate, self._given = min(rates, default=None), given

    @property
    def spare(self) -> int:
        """Bytes that were set aside and have not been used yet."""
        return max(self._aside - self._used, 0)

    @property
    def portion(self) -> int:
        """Bytes to ask for at once: a quarter of a second's worth, so that the line carries an even stream, and what is set aside for
        them; 0 when the caps leave none.

        Raises:
            Unavailable: what is set aside cannot be noted.

        """
        even = 64 * 1024 if self._rate is None else max(256, min(64 * 1024, self._rate // 4))
        if self._journal is None or (self._given.day is None and self._given.month is None):
            return even
        if not self.spare:
            now = self._clock.now()
            more = min(limits.left(self._given, self._journal.notes.spent, now), ASIDE)
            self._journal.spend(more, now)
            self._aside += more
        return min(even, self.spare)

    def settle(self) -> None:
        """Note what was really moved, and give back what was set aside for more.

        Raises:
            Unavailable: it cannot be noted.

        """
        if self._journal is not None and self._used != self._aside:
            self._journal.spend(self._used - self._aside, self._clock.now())
        self._aside = self._used = 0

    def spend(self, count: int) -> float:
        """Account for ``count`` bytes that arrived, and sleep until the next may. Returns the seconds slept.

        At most one second's worth is saved up while nothing is moved.
        """
        self._used += count
        if self._rate is None:
            return 0.0
        now = self._clock.monotonic()
        self._credit = min(self._credit + (now - self._filled) * self._rate, float(self._rate)) - count
        self._filled = now
        pause = max(-self._credit / self._rate, 0.0)
        self._clock.sleep(pause)
        return pause
