"""Virtual time."""

from __future__ import annotations


class VirtualClock:
    """Passes only when someone sleeps. ``jump`` moves the wall clock alone, as a bad battery or a late time server does."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._wall = now
        self._ticks = 0.0

    def now(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._ticks

    def offset(self) -> int:
        return 0

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self._wall += seconds
        self._ticks += seconds

    def jump(self, seconds: float) -> None:
        self._wall += seconds
