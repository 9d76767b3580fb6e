"""Links to the hub in memory: a good one, and weather to put before any of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TypeVar

from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub

from farshore.core.digest import Digest
from farshore.core.errors import Unavailable
from farshore.core.wire import (
    ChallengeReply,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    RenewReply,
    RenewRequest,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)

T = TypeVar("T")


class SimBody:
    """Bytes that arrive at ``rate`` and may end early."""

    def __init__(self, data: bytes, start: int, total: int | None, link: SimLink, cut: int | None) -> None:
        self.start, self.total = start, total
        self._data, self._at, self._link, self._cut = data, 0, link, cut

    def read(self, limit: int) -> bytes:
        if self._cut is not None and self._at >= self._cut:
            raise Unavailable("the connection was cut")
        end = len(self._data) if self._cut is None else min(self._cut, len(self._data))
        piece = self._data[self._at : min(self._at + limit, end)]
        self._at += len(piece)
        self._link.moved += len(piece)
        if self._link.rate is not None:
            self._link.clock.sleep(len(piece) / self._link.rate)
        return piece

    def close(self) -> None:
        pass


@dataclass
class SimLink:
    """The way to the hub.

    Attributes:
        rate: bytes a second; None for at once.
        up: whether the hub can be reached.
        lose_before: share of requests that never arrive.
        lose_after: share of answers that never arrive.
        cuts: bytes after which the coming responses are cut, one each.
        chance: randomness of the two shares.
        moved: bytes of objects that came over.
        ranges: whether the other side honours ranges.

    """

    hub: SimHub
    clock: VirtualClock
    credential: str | None = "credential-credential"
    rate: float | None = None
    up: bool = True
    lose_before: float = 0.0
    lose_after: float = 0.0
    cuts: list[int] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    moved: int = 0
    ranges: bool = True
    held: float = 0.0

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        self._before()
        return self._after(self.hub.enrol(request))

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        self._before()
        return self._after(self.hub.challenge(request))

    def renew(self, request: RenewRequest) -> RenewReply:
        self._before()
        return self._after(self.hub.renew(request))

    def sync(self, request: SyncRequest) -> SyncReply:
        self._before()
        reply = self.hub.sync(self.credential, request)
        if reply.desired is None and request.reported is None:
            self.clock.sleep(request.wait)
            self.held += request.wait
        return self._after(reply)

    def manifest(self, digest: Digest) -> bytes:
        self._before()
        return self._after(self.hub.manifest(self.credential, digest))

    def tickets(self, request: TicketRequest) -> TicketReply:
        self._before()
        return self._after(self.hub.tickets(self.credential, request))

    def fetch(self, url: str, start: int) -> SimBody:
        self._before()
        data, total = self.hub.object(url, start if self.ranges else 0)
        return SimBody(data, start if self.ranges else 0, total, self, self.cuts.pop(0) if self.cuts else None)

    def close(self) -> None:
        pass

    def _before(self) -> None:
        if not self.up or self.chance.random() < self.lose_before:
            self.clock.sleep(1.0)
            raise Unavailable("the hub cannot be reached")

    def _after(self, answer: T) -> T:
        if self.chance.random() < self.lose_after:
            self.clock.sleep(1.0)
            raise Unavailable("the answer was lost")
        return answer
