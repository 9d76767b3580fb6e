"""A hub in memory: the far side of the agent, with real twins, tickets and byte ranges, and its every word under control."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw
from tests.sim.clock import VirtualClock
from tests.sim.releases import Release
from tests.sim.repository import NOW, Repository

from farshore.core import possession, twin
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, NotFound, Unauthenticated
from farshore.core.trust import PublicKey
from farshore.core.wire import (
    ChallengeReply,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    News,
    RenewReply,
    RenewRequest,
    Route,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)
from farshore.trust import repository
from farshore.trust.releases import role_of

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
        credentials: device by hash of its bearer; ``keys`` and ``turns`` by device; ``copied`` those found to be two.
        repo: signed metadata and all keys; ``clock`` says how much time has passed.
        retry: seconds after which a device that is held and has no news may ask again.
        spoil: called with (device, request, reply) for each sync; what it returns is sent instead.
        log: every request, as (what, detail).

    """

    releases: dict[Digest, Release] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"token-token-token-token"})
    credentials: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    twins: dict[str, Twin] = field(default_factory=dict)
    patches: dict[Digest, list[Route]] = field(default_factory=dict)
    tickets_last: int | None = None
    repo: Repository = field(default_factory=Repository)
    clock: VirtualClock = field(default_factory=VirtualClock)
    spoil: Callable[[str, SyncRequest, SyncReply], SyncReply] = lambda _device, _request, reply: reply
    log: list[tuple[str, str]] = field(default_factory=list)
    served: int = 0
    retry: float = 0.5
    _tickets: dict[str, tuple[str, int]] = field(default_factory=dict)

    def publish(self, release: Release) -> Release:
        self.releases[release.digest] = release
        for digest, data in release.blobs.items():
            self.objects[digest] = data
        self._tick()
        self.repo.publish(release.manifest.model, release.manifest.version, release.payload)
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
        self.credentials[possession.hashed(credential)] = device
        self.twins.setdefault(device, Twin())

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        self.log.append(("enrol", request.device))
        possession.check(PublicKey.parse(request.key), request)
        if self.keys.get(request.device) != request.key:
            if request.token not in self.tokens:
                raise Denied("that token is not known")
            self.tokens.discard(request.token)
            self.keys[request.device] = request.key
            self.credentials[request.bearer] = request.device
            self.twins.setdefault(request.device, Twin())
        return EnrolReply(request.device, tuple(Raw(root) for root in self.repo.roots))

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        self.log.append(("challenge", request.device))
        return ChallengeReply(f"challenge-for-{request.device}-{self.turns.get(request.device, 0)}")

    def renew(self, request: RenewRequest) -> RenewReply:
        self.log.append(("renew", request.device))
        turn, mine = self.turns.get(request.device, 0), self.credentials.get(request.bearer) == request.device
        possession.check(PublicKey.parse(self.keys[request.device]), request)
        if request.challenge != f"challenge-for-{request.device}-{turn}":
            raise Unauthenticated("that challenge is stale")
        if request.device in self.copied or (request.turn < turn and not (mine and request.turn == turn - 1)):
            self.copied.add(request.device)
            raise Denied("that device is quarantined")
        if not mine:
            self.expire(request.device)
            self.credentials[request.bearer] = request.device
            self.turns[request.device] = request.turn + 1
        return RenewReply(self.turns[request.device], 604800)

    def run_out(self) -> None:
        """Let tickets from now on be good for one object."""
        self.tickets_last = 1

    def expire(self, device: str) -> None:
        """Take no bearer of ``device`` any more."""
        self.credentials = {bearer: one for bearer, one in self.credentials.items() if one != device}

    def sync(self, credential: str, request: SyncRequest) -> SyncReply:
        device = self._device(credential)
        mine = self.twins[device]
        self.log.append(("sync", repr(request.reported)))
        self._tick()
        if request.reported is not None:
            mine.reported = twin.patch(mine.reported, request.reported, STAMP, limit=twin.MAX_REPORTED)
        news = mine.desired.version != request.seen
        retry = 60.0 if news or not request.wait else self.retry  # who is not held is asked to stay away for a while
        desired = twin.wire(mine.desired)
        reply = SyncReply(desired if news else None, retry, self._signed(device, request, desired))
        return self.spoil(device, request, reply)

    def _signed(self, device: str, request: SyncRequest, desired: dict[str, Any]) -> News:
        versions, documents = self.repo.versions, self.repo.documents
        wanted = {"timestamp", "snapshot", "targets"} | {
            role_of(twin.name_of(key)) for key in desired.get("models", {})
        }
        lacking = {
            role: Raw(documents[role]) for role in wanted & documents.keys() if request.have.get(role) != versions[role]
        }
        roots = tuple(Raw(one) for one in self.repo.roots[request.have.get("root", 0) :])
        return News(Raw(self.repo.order(device, desired, request.nonce)), roots, lacking)

    def _tick(self) -> None:
        """Time has passed: what a hub signs again every day is signed again."""
        self.repo.now = NOW + self.clock.monotonic()
        if self.repo.now >= self.repo.signed + repository.RENEWED:
            self.repo.new_snapshot()

    def manifest(self, credential: str, digest: Digest) -> bytes:
        self._device(credential)
        self.log.append(("manifest", digest))
        if digest not in self.releases:
            raise NotFound(f"no manifest {digest}")
        return self.releases[digest].payload

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
        device = self.credentials.get(possession.hashed(credential))
        if device is None:
            raise Unauthenticated("that credential is not known")
        if device in self.copied:
            raise Denied("that device is quarantined")
        return device
