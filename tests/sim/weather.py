"""A link as it is at sea: slow, far, lossy, and gone for an hour. All in virtual time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from tests.sim.links import SimBody, SimLink

from farshore.core.errors import Unavailable

T = TypeVar("T")

PACKET = 1400
TRIES = 4
"""Losses of one packet in a row after which a connection is given up, as a TCP stack does in the end."""
PATIENCE = 30.0


class _Far:
    """A response that comes packet by packet."""

    def __init__(self, inner: SimBody, link: FarLink) -> None:
        self.start, self.total = inner.start, inner.total
        self._inner, self._link = inner, link

    def read(self, limit: int) -> bytes:
        self._link.check_up()
        data = self._inner.read(min(limit, PACKET))
        self._link.carry()
        return data

    def close(self) -> None:
        self._inner.close()


@dataclass
class FarLink(SimLink):
    """A :class:`SimLink` with distance and loss.

    Attributes:
        round_trip: seconds.
        loss: share of packets that do not arrive; each is sent again after a round trip, then two, four …
        outages: (begin, end) by the monotonic clock.
        broken: connections that were given up.

    """

    round_trip: float = 0.0
    loss: float = 0.0
    outages: Iterable[tuple[float, float]] = ()
    broken: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def fetch(self, url: str, start: int) -> _Far:
        return _Far(super().fetch(url, start), self)

    def check_up(self) -> None:
        now = self.clock.monotonic()
        if any(begin <= now < end for begin, end in self.outages):
            self.clock.sleep(PATIENCE)
            self.broken += 1
            raise Unavailable("nothing comes any more")

    def carry(self) -> None:
        """One packet's way, with what is lost of it."""
        for lost in range(TRIES):
            if self.dice.random() >= self.loss:
                return
            self.clock.sleep(max(self.round_trip, 0.2) * 2**lost)
        self.broken += 1
        raise Unavailable("the connection was given up")

    def _before(self) -> None:
        self.check_up()
        self.clock.sleep(self.round_trip)  # connection and request
        self.carry()
        super()._before()

    def _after(self, answer: T) -> T:
        self.carry()
        return super()._after(answer)
