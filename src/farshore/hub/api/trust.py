"""Signed metadata, for the holders of offline keys."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from farshore.core import twin
from farshore.core.dispatch import Published
from farshore.hub.api import door, words
from farshore.hub.api.door import Endpoint
from farshore.hub.hub import Hub

MAX_DOCUMENTS = 32 << 20
MAX_REPORT = 256 << 10


async def show_trust(request: Request) -> Response:
    hub: Hub = request.app.state.hub

    def find() -> words.Trust:
        state = hub.director.state()
        documents = {role: Raw(body) for role, body in state.chain.documents().items() if role != "root"}
        return words.Trust(
            hub.director.development, hub.director.online, [Raw(body) for body in state.roots], documents
        )

    return door.reply(request, await hub.threads(find))


async def change_trust(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.TrustChange, what="metadata", limit=MAX_DOCUMENTS)
    documents = {role: bytes(body) for role, body in asked.documents.items()}
    root = documents.pop("root", None)
    await hub.threads(hub.director.adopt, root, documents)
    return Response(status_code=204)


async def make_keys(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.director.prepare)
    return Response(status_code=204)


async def draft_role(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    body = await hub.threads(hub.registry.redraft, door.segment(request, "name"))
    return door.content(request, body, "application/json")


async def show_order(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")

    def find() -> Published:
        desired = twin.wire(hub.fleet.twin(device).desired)
        return Published(desired, hub.director.news(device, "", {}, desired))

    return door.reply(request, await hub.threads(find))


async def report(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    said = await door.read(request, dict[str, Any], what="report", limit=MAX_REPORT)

    def take() -> None:
        hub.fleet.twin(device)
        hub.fleet.report(device, "", said)

    await hub.threads(take)
    return Response(status_code=204)


ENDPOINTS = (
    Endpoint(
        "PATCH",
        "/v1/devices/{device}/reported",
        report,
        "Pass on what a device said where it cannot say it here",
        takes=dict[str, Any],
        status=204,
    ),
    Endpoint(
        "GET",
        "/v1/devices/{device}/order",
        show_order,
        "What a device should run, signed for it, for where it cannot ask itself",
        gives=Published,
    ),
    Endpoint("GET", "/v1/trust", show_trust, "All signed metadata", gives=words.Trust),
    Endpoint("PUT", "/v1/trust", change_trust, "Documents signed offline", takes=words.TrustChange, status=204),
    Endpoint("POST", "/v1/trust/keys", make_keys, "Make the hub's next own keys", status=204),
    Endpoint(
        "GET", "/v1/models/{name}/role", draft_role, "The publisher's role as it would be now, unsigned", gives=bytes
    ),
)
