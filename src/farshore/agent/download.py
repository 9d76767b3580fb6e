"""One file on its way from the hub to the blobs, in slices, surviving whatever the link does.

The response stays open between two slices, so that looking around costs no byte. What the hub says about routes is a
hint: a route whose bytes turn out wrong is left for the next one, and the digest alone decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from farshore.agent.clock import Clock
from farshore.agent.journal import Tries
from farshore.agent.link import Body, Link
from farshore.agent.pace import Pace
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Corrupt, Denied, FarshoreError, Invalid, NotFound, Unavailable
from farshore.core.wire import MAX_HAVE, MAX_WRONG, Route, TicketRequest
from farshore.store.blobs import Blobs, Partial

log = logging.getLogger(__name__)

Apply = Callable[[Path, Sequence[Path]], Iterable[bytes]]
"""Decodes a patch: (patch file, base files in order) → the target's bytes in order. May raise ``Corrupt`` or ``Invalid``."""

TICKET_MARGIN = 5.0
"""Seconds before its end from which a ticket is no longer used."""

SLOW_SPAN = 60.0
"""Seconds over which a connection's speed is judged."""


class Transfer:
    """The way of one wanted blob: tickets, routes, ranges, and the check at the end.

    Args:
        digest: of the wanted bytes.
        size: of the wanted bytes, as the signed manifest says.
        blobs: where they go, and the bases come from.
        link: where they come from.
        pace: cap on their speed.
        clock: time.
        minimum_rate: bytes a second below which, over :data:`SLOW_SPAN`, the connection is given up.
        apply: decodes patches; None when patches are not wanted.
        tries: remembers over a kill which patches were being applied; None for no memory.
        room: bytes that may still be written here; a patch needs room beside what it makes. None for no limit.

    Attributes:
        fetched: bytes that came over the link, wasted ones included.

    """

    def __init__(
        self, digest: Digest, size: int, *, blobs: Blobs, link: Link, pace: Pace, clock: Clock, minimum_rate: int = 0,
        apply: Apply | None = None, tries: Tries | None = None, room: Callable[[], int] | None = None,
    ) -> None:  # fmt: skip
        self.digest, self.size = digest, size
        self.fetched = 0
        self._blobs, self._link, self._pace, self._clock = blobs, link, pace, clock
        self._minimum_rate, self._apply, self._tries, self._room = minimum_rate, apply, tries, room
        self._routes: list[Route] = []
        self._expires = 0.0
        self._wrong: set[tuple[str, str]] = set()
        self._cheated = False
        self._object: Partial | None = None
        self._body: Body | None = None
        self._skip = 0
        self._judged_from, self._judged_bytes = 0.0, 0

    @property
    def share(self) -> float:
        """How much of what is fetched now, the file or a patch to it, is here: 0 to 1."""
        return self._object.done / self._object.size if self._object is not None and self._object.size else 0.0

    def run(self, until: float) -> bool:
        """Go on until the wanted blob is here (True) or it is ``until`` by the monotonic clock (False).

        Raises:
            Unavailable: link, hub or disk; what arrived is kept.
            Corrupt: no route gave the right bytes.

        """
        while not self._blobs.has(self.digest):
            route = self._route()
            try:
                if not self._fetch(route, until):
                    return False
                self._arrived(route)
            except (Corrupt, Invalid, Conflict) as error:
                self._reject(route, error)
            except NotFound as error:
                if route.kind == "patch":
                    self._reject(route, error)
                    self._forget_ticket()  # the hub may know another way by now
                    continue
                self._forget_ticket()
                raise Unavailable(f"the hub no longer has what its ticket names: {error.message}") from error
            except Unavailable:
                self._forget_ticket()
                raise
        return True

    def close(self) -> None:
        """Let go of connection and file; what arrived in whole chunks stays."""
        self._close_body()
        if self._object is not None:
            self._object.close()
            self._object = None

    def _route(self) -> Route:
        """The usable route of a valid ticket with the fewest bytes to go: a whole that is nearly here beats a fresh patch."""
        if self._body is None and (not self._routes or self._clock.monotonic() >= self._expires):
            self._ask_for_ticket()
        usable = [route for route in self._routes if self._usable(route)]
        if usable:
            begun = self._blobs.partial_sizes()
            return min(usable, key=lambda route: self._rest(route, begun))
        self._forget_ticket()
        if self._cheated:
            raise Corrupt(f"no route to {self.digest} gave the right bytes")
        raise Unavailable(f"no route to {self.digest} offers it as the manifest states it")

    def _rest(self, route: Route, begun: Mapping[Digest, int]) -> int:
        digest = Digest(route.digest)
        if self._object is not None and self._object.digest == digest:
            return route.size - self._object.done
        return 0 if self._blobs.has(digest) else route.size - begun.get(digest, 0)

    def _ask_for_ticket(self) -> None:
        asked = self._clock.monotonic()
        wrong = tuple(Digest(digest) for kind, digest in sorted(self._wrong) if kind == "patch")
        have = tuple(self._blobs.digests())[:MAX_HAVE]
        reply = self._link.tickets(TicketRequest(self.digest, have, wrong[:MAX_WRONG]))
        self._routes = list(reply.routes)
        self._expires = asked + max(reply.expires - TICKET_MARGIN, reply.expires / 2)

    def _usable(self, route: Route) -> bool:
        if (route.kind, route.digest) in self._wrong:
            return False
        if route.kind == "whole":
            return route.digest == self.digest and route.size == self.size
        if self._apply is None or len(self._wrong) >= MAX_WRONG:
            return False
        if self._tries is not None and self._tries.spent(Digest(route.digest)):
            return False
        held = all(self._blobs.has(Digest(base)) for base in route.bases)
        return held and route.size < self.size and self._fits(route)

    def _fits(self, patch: Route) -> bool:
        """Whether there is room for a patch and what it makes; it is not asked again while the patch arrives."""
        digest = Digest(patch.digest)
        if self._room is None or (self._object is not None and self._object.digest == digest):
            return True
        begun = self._blobs.partial_sizes()
        here = patch.size if self._blobs.has(digest) else begun.get(digest, 0)
        return patch.size - here + self.size - begun.get(self.digest, 0) <= self._room()

    def _fetch(self, route: Route, until: float) -> bool:
        """Bring the route's object here as a blob; False when time is over."""
        target = Digest(route.digest)
        if self._blobs.has(target):
            return True
        if self._object is None or self._object.digest != target:
            self.close()
            self._object = self._blobs.partial(target, route.size)
        while self._object.done < route.size:
            if not self._pace.portion:
                return False  # the link's cap is reached
            if self._body is None:
                self._open(route, self._object.done)
            self._receive(self._object, route)
            if self._object.done < route.size and self._clock.monotonic() >= until:
                return False
        self._close_body()
        partial, self._object = self._object, None
        partial.finish()
        return True

    def _open(self, route: Route, start: int) -> None:
        """Ask for the object from ``start`` on; a ticket that has run out is replaced once."""
        try:
            body = self._link.fetch(route.url, start)
        except Denied as error:
            self._forget_ticket()
            self._ask_for_ticket()
            again = [
                entry
                for entry in self._routes
                if (entry.kind, entry.digest, entry.size) == (route.kind, route.digest, route.size)
            ]
            if not again:
                raise Unavailable("the hub has changed its routes: trying again") from error
            try:
                body = self._link.fetch(again[0].url, start)
            except Denied as refused:
                raise Unavailable(f"the hub refuses its own fresh ticket: {refused.message}") from refused
        if body.start not in (0, start) or body.total not in (None, route.size):
            body.close()
            raise Conflict(f"asked for {route.size} bytes from {start}, offered {body.total} from {body.start}")
        self._body, self._skip = body, start - body.start
        self._judged_from, self._judged_bytes = self._clock.monotonic(), 0

    def _receive(self, partial: Partial, route: Route) -> None:
        assert self._body is not None
        data = self._body.read(self._pace.portion)
        if not data:
            raise Unavailable(f"the connection ended after {partial.done} of {route.size} bytes")
        self.fetched += len(data)
        fresh = data[self._skip :]
        self._skip -= len(data) - len(fresh)
        try:
            partial.append(fresh)
        except Unavailable:
            self.close()  # the disk failed: what is there is judged anew when it is opened again
            raise
        slept = self._pace.spend(len(data))
        self._judge(len(data), slept)

    def _judge(self, count: int, slept: float) -> None:
        """Give up a connection that only trickles; the time that our own cap took does not count."""
        self._judged_from += slept
        self._judged_bytes += count
        span = self._clock.monotonic() - self._judged_from
        if span >= SLOW_SPAN:
            if self._judged_bytes < span * self._minimum_rate:
                raise Unavailable(f"the connection is too slow: {self._judged_bytes} bytes in {span:.0f} seconds")
            self._judged_from, self._judged_bytes = self._clock.monotonic(), 0

    def _arrived(self, route: Route) -> None:
        """The route's object is here. A patch is applied and then of no more use."""
        if route.kind == "whole" or self._apply is None:
            return
        patch, bases = Digest(route.digest), [self._blobs.path(Digest(base)) for base in route.bases]
        target = self._blobs.partial(self.digest, self.size)
        cut = False
        if self._tries is not None:
            self._tries.begin(patch)
        try:
            done = target.done
            for piece in self._apply(self._blobs.path(patch), bases):
                fresh = piece[done:]
                done -= len(piece) - len(fresh)
                target.append(fresh)
            target.finish()
        except (KeyboardInterrupt, SystemExit, Unavailable):
            target.close()  # the order to stop, or the disk: what was paid for stays
            cut = True
            raise
        except Exception as error:
            target.discard()  # nobody knows which of its bytes are right
            self._blobs.remove(patch)
            if isinstance(error, FarshoreError):
                raise
            raise Corrupt(f"the patch cannot be applied: {error!r}") from error  # whatever it is, the next route may do
        finally:
            if self._tries is not None:
                self._tries.end(patch, cut=cut)
        self._blobs.remove(patch)

    def _reject(self, route: Route, error: FarshoreError) -> None:
        log.warning("%s route to %s is no good: %s", route.kind, self.digest, error.message)
        self._wrong.add((route.kind, route.digest))
        self._cheated |= not isinstance(error, Conflict | NotFound)  # a refused offer cost nothing and proves nothing
        self._close_body()
        if route.kind == "patch" and isinstance(error, Corrupt | Invalid):
            self._routes = []  # ask anew: so the hub hears of it, and may know another way
        if self._object is not None:
            self._object.discard()
            self._object = None

    def _forget_ticket(self) -> None:
        self._close_body()
        self._routes = []

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
