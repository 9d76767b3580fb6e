"""The device API: what :mod:`farshore.core.wire` says, over HTTP."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import Future

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from farshore.core import digest as digests
from farshore.core import twin
from farshore.core.digest import Digest
from farshore.core.errors import Denied, NotFound
from farshore.core.wire import (
    API,
    ChallengeReply,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    RenewReply,
    RenewRequest,
    Route,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)
from farshore.hub import auth
from farshore.hub.api import door, ranges
from farshore.hub.api.door import Endpoint
from farshore.hub.fleet import Told
from farshore.hub.hub import Hub
from farshore.hub.records.devices import PENDING

MAX_ENROL = 4 << 10
MAX_SYNC = 256 << 10
MAX_TICKET = 64 << 10
MANIFEST = "application/vnd.farshore.manifest+json"
JITTER = (0.8, 1.2)


async def enrol(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, EnrolRequest, what="enrol request", limit=MAX_ENROL)
    device, state = await hub.threads(hub.enrolments.enrol, asked)
    roots = tuple(Raw(one) for one in await hub.threads(hub.director.roots))
    return door.reply(request, EnrolReply(device, roots, state == PENDING))


async def challenge(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, ChallengeRequest, what="challenge request", limit=MAX_ENROL)
    return door.reply(request, ChallengeReply(await hub.threads(hub.standings.challenge, asked.device)))


async def renew(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, RenewRequest, what="renewal", limit=MAX_ENROL)
    try:
        return door.reply(request, await hub.threads(hub.standings.renew, asked))
    except Denied:
        hub.bells.ring(asked.device)  # it may just have been found to be two
        raise


async def sync(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    credential = _credential(request)
    asked = await door.read(request, SyncRequest, what="sync request", limit=MAX_SYNC)
    told = await _told(hub, credential, asked)
    held = False
    if not told.news and asked.wait and asked.reported is None:
        held, told = await _wait(hub, request, told, credential, asked)
    served = held or told.news or asked.reported is not None
    desired = twin.wire(told.twin.desired)
    trust = None
    if asked.nonce:
        trust = await hub.threads(hub.director.news, told.twin.device, asked.nonce, asked.have, desired)
    return door.reply(request, SyncReply(desired if told.news else None, _retry(hub, asked, served=served), trust))


async def fetch_manifest(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, digest = await _device(request), digests.parse(door.segment(request, "digest"))

    def find() -> bytes:
        hub.fleet.check_wants_version(device, digest)
        return hub.registry.payload(digest)

    return door.content(request, await hub.threads(find), MANIFEST)


async def tickets(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = await _device(request)
    asked = await door.read(request, TicketRequest, what="ticket request", limit=MAX_TICKET)

    digest = Digest(asked.want)

    def begin() -> Future[None] | None:
        hub.fleet.check_needs_file(device, digest)
        for one in asked.wrong:
            hub.builds.doubt(Digest(one))
        return hub.builds.ask(digest, asked.have)

    def write() -> TicketReply:
        now, size = hub.clock(), hub.registry.blob_size(digest)
        routes = [
            Route(_address(hub, device, patch.digest, now), patch.digest, patch.size, "patch", patch.bases)
            for patch in hub.builds.routes(digest, asked.have)
            if patch.digest is not None
        ]
        return TicketReply((*routes, Route(_address(hub, device, digest, now), digest, size)), hub.tickets.seconds)

    building = await hub.threads(begin)
    if building is not None:
        await asyncio.wait({asyncio.wrap_future(building)}, timeout=hub.settings.patch_wait)
    return door.reply(request, await hub.threads(write))


def _address(hub: Hub, device: str, digest: Digest, now: float) -> str:
    """Where the device may fetch an object for a while: from the store itself where the hub is set so, else from the hub."""
    if hub.settings.direct:
        return hub.registry.objects.address(digest, hub.tickets.seconds)
    return f"{API}/objects/{digest}?ticket={hub.tickets.write(device, digest, now)}"


async def fetch_object(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    digest = digests.parse(door.segment(request, "digest"))

    def check() -> int:
        device = hub.tickets.read(request.query_params.get("ticket", ""), digest, hub.clock())
        hub.fleet.check_may_fetch(device)
        return hub.registry.blob_size(digest)

    size = await hub.threads(check)
    try:
        return await ranges.send(request, hub.registry.objects, digest, size)
    except NotFound:
        await hub.threads(hub.builds.lost, digest)
        raise


async def _device(request: Request) -> str:
    hub: Hub = request.app.state.hub
    return await hub.threads(hub.fleet.authenticate, _credential(request))


def _credential(request: Request) -> str:
    return auth.bearer(request.headers.get("authorization"))


def _retry(hub: Hub, asked: SyncRequest, *, served: bool) -> float:
    """Seconds until the next sync. Who waits here comes back at once; who was turned away, or polls, does so later."""
    if asked.wait and served:
        return round(random.uniform(0.0, 1.0), 2)  # noqa: S311 - spreading load, no secret
    return round(hub.settings.sync_seconds * random.uniform(*JITTER), 2)  # noqa: S311


async def _told(hub: Hub, credential: str, asked: SyncRequest) -> Told:
    """What a sync comes to: at once where nothing is to be written, else by a thread."""
    found = hub.fleet.glance(credential, asked)
    return found if found is not None else await hub.threads(hub.fleet.sync, credential, asked)


async def _wait(hub: Hub, request: Request, told: Told, credential: str, asked: SyncRequest) -> tuple[bool, Told]:
    """Hold the request until desired changes or its time is over: whether it was held, and what there is to tell then."""
    loop = asyncio.get_running_loop()
    end = loop.time() + asked.wait
    with hub.bells.listen(told.twin.device) as bell:
        if bell is None:
            return False, told
        gone = asyncio.ensure_future(_gone(request))
        try:
            while True:
                bell.clear()  # before looking: a change after the look rings again
                told = await _told(hub, credential, asked)
                left = end - loop.time()
                if told.news or left <= 0 or hub.bells.closed:
                    return True, told
                rung = asyncio.ensure_future(bell.wait())
                await asyncio.wait({rung, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                rung.cancel()
                if gone.done() or not bell.is_set():
                    return True, told
                await asyncio.sleep(min(random.uniform(0.0, hub.bells.spread), left))  # noqa: S311
        finally:
            gone.cancel()


async def _gone(request: Request) -> None:
    """Return when the caller hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


ENDPOINTS = (
    Endpoint("POST", f"{API}/enrol", enrol, "Turn a one-time token into a device", "anyone", EnrolRequest, EnrolReply),
    Endpoint("POST", f"{API}/challenge", challenge, "Something to sign", "anyone", ChallengeRequest, ChallengeReply),
    Endpoint("POST", f"{API}/renew", renew, "A new bearer, for the device's key", "anyone", RenewRequest, RenewReply),
    Endpoint("POST", f"{API}/sync", sync, "Report, get desired, wait for it", "device", SyncRequest, SyncReply),
    Endpoint("POST", f"{API}/tickets", tickets, "Ways to fetch an object", "device", TicketRequest, TicketReply),
    Endpoint("GET", f"{API}/manifests/{{digest}}", fetch_manifest, "A manifest", "device", gives=bytes),
    Endpoint(
        "GET",
        f"{API}/objects/{{digest}}",
        fetch_object,
        "An object, whole or one range",
        "ticket",
        gives=bytes,
        query=(("ticket", "permission, from tickets"),),
    ),
)
