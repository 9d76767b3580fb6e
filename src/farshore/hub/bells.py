"""Bells: how a waiting device is woken inside one process. Used from the event loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

PER_SECOND = 500
MAX_SPREAD = 10.0


class Bells:
    """Who waits, and how to wake them.

    Args:
        limit: most that may wait at one time.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        self.closed = False

    @contextmanager
    def listen(self, device: str) -> Iterator[asyncio.Event | None]:
        """A bell for ``device``; None when too many wait already, or the hub is closing."""
        if self.closed or self._count >= self._limit:
            yield None
            return
        bell = asyncio.Event()
        bells = self._waiting.setdefault(device, set())
        bells.add(bell)
        self._count += 1
        try:
            yield bell
        finally:
            self._count -= 1
            bells.discard(bell)
            if not bells:
                self._waiting.pop(device, None)

    @property
    def spread(self) -> float:
        """Seconds over which those that wait should come back, so that a change for all is no stampede."""
        return min(self._count / PER_SECOND, MAX_SPREAD)

    def ring(self, device: str) -> None:
        """Wake one device."""
        for bell in self._waiting.get(device, ()):
            bell.set()

    def ring_all(self) -> None:
        """Wake every device: a rule changed, and each must look whether it is meant."""
        for bells in self._waiting.values():
            for bell in bells:
                bell.set()

    def open(self) -> None:
        """Let devices wait (again)."""
        self.closed = False

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        self.ring_all()
