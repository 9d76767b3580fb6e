"""The device API: what :mod:`farshore.core.wire` says, over HTTP."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import Future
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Denied, NotFound
from farshore.core.wire import (
    API,
    EnrolReply,
    EnrolRequest,
    Route,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)
from farshore.hub import auth
from farshore.hub.api import door, ranges
from farshore.hub.api.door import Endpoint
from farshore.hub.hub import Hub

MAX_ENROL = 4 << 10
MAX_SYNC = 256 << 10
MAX_TICKET = 64 << 10
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
JITTER = (0.8, 1.2)


async def enrol(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, EnrolRequest, what="enrol request", limit=MAX_ENROL)
    device = await hub.threads(hub.enrolments.enrol, asked)
    return door.reply(request, EnrolReply(device, hub.keys))


async def sync(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    credential = _credential(request)
    asked = await door.read(request, SyncRequest, what="sync request", limit=MAX_SYNC)
    device, desired = await hub.threads(hub.fleet.sync, credential, asked)
    held = False
    if desired is None and asked.wait and asked.reported is None:
        held, desired = await _wait(hub, request, device, credential, asked)
    served = held or desired is not None or asked.reported is not None
    return door.reply(request, SyncReply(desired, _retry(hub, asked, served=served)))


async def fetch_envelope(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, digest = await _device(request), digests.parse(door.segment(request, "digest"))

    def find() -> bytes:
        hub.fleet.check_wants_version(device, digest)
        return hub.registry.envelope(digest)

    return door.content(request, await hub.threads(find), ENVELOPE)


async def tickets(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = await _device(request)
    asked = await door.read(request, TicketRequest, what="ticket request", limit=MAX_TICKET)

    digest = Digest(asked.want)

    def begin() -> Future[None] | None:
        hub.fleet.check_needs_file(device, digest)
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
    return f"{API}/objects/{digest}?ticket={hub.tickets.write(device, digest, now)}"


async def fetch_object(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    digest = digests.parse(door.segment(request, "digest"))

    def check() -> int:
        device = hub.tickets.read(request.query_params.get("ticket", ""), digest, hub.clock())
        if not hub.fleet.exists(device):
            raise Denied("the device of this ticket was deleted")
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


async def _wait(
    hub: Hub, request: Request, device: str, credential: str, asked: SyncRequest
) -> tuple[bool, dict[str, Any] | None]:
    """Hold the request until desired changes or its time is over: whether it was held, and desired if it changed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + asked.wait
    with hub.bells.listen(device) as bell:
        if bell is None:
            return False, None
        gone = asyncio.ensure_future(_gone(request))
        try:
            while True:
                bell.clear()  # before looking: a change after the look rings again
                _, desired = await hub.threads(hub.fleet.sync, credential, asked)
                left = end - loop.time()
                if desired is not None or left <= 0 or hub.bells.closed:
                    return True, desired
                rung = asyncio.ensure_future(bell.wait())
                await asyncio.wait({rung, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                rung.cancel()
                if gone.done() or not bell.is_set():
                    return True, None
                await asyncio.sleep(min(random.uniform(0.0, hub.bells.spread), left))  # noqa: S311
        finally:
            gone.cancel()


async def _gone(request: Request) -> None:
    """Return when the caller hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


ENDPOINTS = (
    Endpoint("POST", f"{API}/enrol", enrol, "Turn a one-time token into a device", "anyone", EnrolRequest, EnrolReply),
    Endpoint("POST", f"{API}/sync", sync, "Report, get desired, wait for it", "device", SyncRequest, SyncReply),
    Endpoint("POST", f"{API}/tickets", tickets, "Ways to fetch an object", "device", TicketRequest, TicketReply),
    Endpoint("GET", f"{API}/envelopes/{{digest}}", fetch_envelope, "A signed manifest", "device", gives=bytes),
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
