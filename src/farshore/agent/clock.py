"""Time as an argument, so that a week of bad weather takes a test a second."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the agent knows of time."""

    def now(self) -> float:
        """Seconds since 1970 by the machine's clock, which may be wrong by decades and may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant; never jumps. Only differences mean something."""
        ...

    def offset(self) -> int:
        """Seconds by which local time is ahead of UTC now."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def offset(self) -> int:
        return time.localtime().tm_gmtoff

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)
