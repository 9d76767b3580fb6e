"""A candidate in the shadow of the version that answers: it gets a share of the same pictures, and what it says goes to nobody.

No request waits for it or fails by it. A picture is passed on when its own answer is out; at most :data:`DEPTH` are under way, and
what comes while they are is not compared. The candidate's worker has them answered by a thread of the lowest priority, and compares
there as well (:mod:`farshore.serve.agreement`), so that the front only passes bytes on and adds up.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from time import monotonic

from farshore.core.control import Serving
from farshore.core.sketch import Counts
from farshore.serve.frames import Compare, Compared, Score
from farshore.serve.lane import Lane, Lease, Reply

log = logging.getLogger(__name__)

DEPTH = 2
"""Pictures under way in the worker: one that is answered, and the next."""

MOST = 8 << 20
"""Bytes of a picture, or of an answer to it, that are kept for comparing."""

HANG_TIMES = 10.0
"""Times the patience with other workers: what stands back behind all traffic may be slow by no fault of its own."""


class Shadow:
    """What one candidate has shown beside the version that answers.

    Args:
        lane: the candidate's.
        hang_seconds: patience with a worker.

    Attributes:
        share: of the requests, that it answers.
        requests: answered; ``errors``: of these with a fault of the version's own.
        compared: answers compared with those of the version that leads.
        missed: requests that came while others were under way.

    """

    def __init__(self, lane: Lane, hang_seconds: float) -> None:
        self.lane = lane
        self.share = 0.0
        self._since = monotonic()
        self.requests = self.errors = self.compared = self.missed = 0
        self._agreed = 0.0
        self._counts = Counts()
        self._patience = HANG_TIMES * hang_seconds
        self._chance = random.Random()  # noqa: S311 - regular steps would always meet the same of several cameras
        self._ids = itertools.count(1)
        self._under_way: dict[int, float] = {}
        lane.unseen = self.heard

    def serving(self) -> Serving:
        """What it has shown so far."""
        lane = self.lane
        return Serving(
            lane.installed.digest, lane.installed.version, self.requests, self.errors, lane.deaths,
            round(monotonic() - self._since, 3), lane.state == "ready", 0.0, lane.memory,
            self.compared, min(round(self._agreed), self.compared), self.share, self._counts.told(),
        )  # fmt: skip

    def fade(self) -> bool:
        """Let its memory go, for somebody whom a client waits for; whether it held any."""
        if self.lane.state != "ready":
            return False
        log.info("%s: the shadow makes room", self.lane.name)
        self.lane.end()
        return True

    def offer(self, lease: Lease, reply: Reply) -> None:
        """An answer is about to go out: perhaps the candidate is to give its own, once it is out."""
        order = lease.order
        if reply.status != 200 or lease.version is not None or not isinstance(order, Score) or order.draw is not None:
            return
        if self._chance.random() >= self.share or self.lane.state != "ready":
            return
        if len(self._under_way) >= DEPTH or max(lease.length, len(reply.body)) > MOST:
            self.missed += 1
            return
        number = next(self._ids)
        self._under_way[number] = monotonic()
        message = Compare(number, lease.length, order.threshold, order.top)
        pieces = (*lease.body, reply.body)
        asyncio.get_running_loop().call_soon(self._send, message, pieces, lease.length + len(reply.body))

    def _send(self, message: Compare, pieces: tuple[bytes, ...], length: int) -> None:
        if self.lane.worker is not None and message.id in self._under_way:
            self.lane.worker.send(message, pieces, length)

    def heard(self, message: Compared | None) -> None:
        """The candidate has answered, and this is how; or its worker is gone with all that was under way."""
        if message is None:
            self._under_way.clear()
            return
        if self._under_way.pop(message.id, None) is None:
            return
        self.requests += 1
        if message.status >= 500:
            self.errors += 1
        elif message.status != 200:  # it finds the picture bad which the other one took
            self.compared += 1
        if message.agreement is not None:
            self.compared += 1
            self._agreed += message.agreement
            self._counts.add(message.before, message.after)

    def look(self, now: float) -> None:
        """What only time tells: a worker that hangs over one picture."""
        if self._under_way and now - next(iter(self._under_way.values())) > self._patience:
            log.warning("%s: hangs in the shadow, and is ended", self.lane.name)
            self._under_way.clear()
            if self.lane.worker is not None:
                self.lane.worker.kill()
