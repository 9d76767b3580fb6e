"""A hub in memory: the far side of the agent, with real twins, tickets and byte ranges, and its every word under control."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.sim.releases import KEY, Release

from farshore.core import twin
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, NotFound, Unauthenticated
from farshore.core.wire import EnrolReply, EnrolRequest, Route, SyncReply, SyncRequest, TicketReply, TicketRequest

STAMP = "2026-01-02T03:04:05.0000000Z"


@dataclass
class Twin:
    """One device's twin at the hub."""

    desired: twin.Section = field(default_factory=lambda: twin.empty(STAMP, versioned=True))
    reported: twin.Section = field(default_factory=lambda: twin.empty(STAMP))


@dataclass
class SimHub:
    """Registry, fleet and object store of a small world.

    Attributes:
        tickets_last: objects answered by one ticket before it has run out; None for no limit.
        patches: wanted digest → (bases, patch bytes) to be offered before the whole.
        log: every request, as (what, detail).

    """

    releases: dict[Digest, Release] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"token-token-token-token"})
    credentials: dict[str, str] = field(default_factory=dict)
    twins: dict[str, Twin] = field(default_factory=dict)
    patches: dict[Digest, list[Route]] = field(default_factory=dict)
    tickets_last: int | None = None
    log: list[tuple[str, str]] = field(default_factory=list)
    served: int = 0
    _tickets: dict[str, tuple[str, int]] = field(default_factory=dict)

    def publish(self, release: Release) -> Release:
        self.releases[release.digest] = release
        for digest, data in release.blobs.items():
            self.objects[digest] = data
        return release

    def desire(self, device: str, *releases: Release, **extra: Any) -> None:
        """Let ``device`` run exactly these; ``extra`` members go into each entry (``retry=1``)."""
        models = {
            twin.key_of(one.manifest.model): {"version": one.manifest.version, "digest": one.digest, **extra}
            for one in releases
        }
        mine = self.twins.setdefault(device, Twin())
        mine.desired = twin.replace(mine.desired, {"models": models}, STAMP, limit=twin.MAX_DESIRED, versioned=True)

    def reported(self, device: str, model: str) -> dict[str, Any]:
        """What the device last reported of a model."""
        return self.twins[device].reported.values["models"][twin.key_of(model)]

    def add_device(self, device: str, credential: str) -> None:
        self.credentials[credential] = device
        self.twins.setdefault(device, Twin())

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        self.log.append(("enrol", request.device))
        if self.credentials.get(request.credential) != request.device:
            if request.token not in self.tokens:
                raise Denied("that token is not known")
            self.tokens.discard(request.token)
            self.add_device(request.device, request.credential)
        return EnrolReply(request.device, (str(KEY.public),))

    def sync(self, credential: str, request: SyncRequest) -> SyncReply:
        mine = self.twins[self._device(credential)]
        self.log.append(("sync", repr(request.reported)))
        if request.reported is not None:
            mine.reported = twin.patch(mine.reported, request.reported, STAMP, limit=twin.MAX_REPORTED)
        news = mine.desired.version != request.seen
        retry = 60.0 if news or not request.wait else 0.5  # who is not held is asked to stay away for a while
        return SyncReply(twin.wire(mine.desired) if news else None, retry)

    def envelope(self, credential: str, digest: Digest) -> bytes:
        self._device(credential)
        self.log.append(("envelope", digest))
        if digest not in self.releases:
            raise NotFound(f"no manifest {digest}")
        return self.releases[digest].envelope

    def tickets(self, credential: str, request: TicketRequest) -> TicketReply:
        self._device(credential)
        self.log.append(("tickets", request.want))
        offers = [
            route for route in self.patches.get(Digest(request.want), []) if set(route.bases) <= set(request.have)
        ]
        if request.want not in self.objects:
            raise NotFound(f"no object {request.want}")
        offers.append(Route("", request.want, len(self.objects[request.want])))
        routes = []
        for offer in offers:
            ticket = f"{len(self._tickets)}"
            self._tickets[ticket] = (offer.digest, self.tickets_last or 1 << 60)
            routes.append(
                Route(f"/objects/{offer.digest}?ticket={ticket}", offer.digest, offer.size, offer.kind, offer.bases)
            )
        return TicketReply(tuple(routes), 600)

    def object(self, url: str, start: int) -> tuple[bytes, int]:
        """The object's bytes from ``start`` on, and its whole size."""
        match = re.fullmatch(r"/objects/(sha256:[0-9a-f]{64})\?ticket=(\d+)", url)
        digest, uses = self._tickets.get(match[2], ("", 0)) if match else ("", 0)
        if match is None or digest != match[1] or not uses:
            raise Denied("that ticket has run out")
        self._tickets[match[2]] = (digest, uses - 1)
        self.log.append(("object", f"{digest} from {start}"))
        if digest not in self.objects:
            raise NotFound(f"no object {digest}")
        data = self.objects[digest]
        if start and start >= len(data):
            raise Conflict("range not satisfiable")
        return data[start:], len(data)

    def count(self, what: str) -> int:
        return sum(entry[0] == what for entry in self.log)

    def _device(self, credential: str) -> str:
        if credential not in self.credentials:
            raise Unauthenticated("that credential is not known")
        return self.credentials[credential]
