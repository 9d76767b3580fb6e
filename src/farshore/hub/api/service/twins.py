"""Twins of devices and modules, queries over them, and methods."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from farshore.core.errors import Invalid
from farshore.hub.api import door
from farshore.hub.api.door import Endpoint
from farshore.hub.api.service import entrance
from farshore.hub.hub import Hub
from farshore.hub.queries import MAX_ITEMS
from farshore.hub.records.devices import Twin

MAX_METHOD = 256 << 10
"""Bytes of a call's body: the payload, escaped in whatever way, and what stands around it."""
ITEMS, MORE, TYPE = "x-ms-max-item-count", "x-ms-continuation", "x-ms-item-type"


class Asked(Struct, frozen=True):
    """A query."""

    query: str


class Call(Struct, frozen=True, rename="camel"):
    """A method to call, and how long to wait, in seconds."""

    method_name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f/#+?]+\Z")]
    payload: Any = None
    response_timeout_in_seconds: Annotated[int, Meta(ge=1, le=300)] = 30
    connect_timeout_in_seconds: Annotated[int, Meta(ge=0, le=300)] = 0


async def show(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return await _reply(request, hub, await hub.threads(hub.fleet.twin, *_who(request)))


async def patch(request: Request) -> Response:
    return await _change(request, replace=False)


async def put(request: Request) -> Response:
    return await _change(request, replace=True)


async def ask(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, Asked, what="query")
    text = request.headers.get(ITEMS, str(MAX_ITEMS // 10))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"{ITEMS}: a number is needed")
    found = await hub.long_work(hub.queries.ask, asked.query, int(text), request.headers.get(MORE) or None)
    headers = {TYPE: "Raw" if found.raw else "Twin"} | ({MORE: found.more} if found.more else {})
    return door.reply(request, found.rows, headers=headers)


async def call(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, module = _who(request)
    asked = await door.read(request, Call, what="method", limit=MAX_METHOD)
    await hub.threads(hub.identities.one, device, module)
    done = await hub.connected.invoke(
        device,
        module,
        asked.method_name,
        asked.payload,
        asked.response_timeout_in_seconds,
        asked.connect_timeout_in_seconds,
    )
    return door.reply(request, {"status": done.status, "payload": done.payload})


async def _change(request: Request, *, replace: bool) -> Response:
    hub: Hub = request.app.state.hub
    device, module = _who(request)
    document = _said(await entrance.read(request, "twin"))
    tag = entrance.etag(request)
    row = await hub.threads(hub.fleet.change_twin, device, document, tag, replace=replace, module=module)
    hub.bells.ring(device)
    return await _reply(request, hub, row)


def _said(document: dict[str, Any]) -> dict[str, Any]:
    """What of a twin may be changed, where all of it was sent back: tags and desired."""
    found: dict[str, Any] = {}
    if document.get("tags") is not None:
        found["tags"] = document["tags"]
    properties = document.get("properties")
    if isinstance(properties, dict):
        desired = properties.get("desired")
        found |= {"properties": {"desired": desired}} if desired is not None else {}
    elif properties is not None:
        raise Invalid("twin: properties must be an object")
    return found


def _who(request: Request) -> tuple[str, str]:
    module = door.segment(request, "module") if "module" in request.path_params else ""
    return door.segment(request, "device"), module


async def _reply(request: Request, hub: Hub, row: Twin) -> Response:
    found = await hub.threads(hub.queries.document, row)
    return door.reply(request, found, headers=entrance.quoted(found["etag"]))


_TWIN, _MODULE = "/twins/{device}", "/twins/{device}/modules/{module}"
_OBJECT = dict[str, Any]
ENDPOINTS = (
    Endpoint("POST", "/devices/query", ask, "Twins by a query", "service", Asked, list[_OBJECT]),
    Endpoint("GET", _TWIN, show, "A device's twin", "service", gives=_OBJECT),
    Endpoint("PATCH", _TWIN, patch, "Merge into tags and desired (If-Match)", "service", _OBJECT, _OBJECT),
    Endpoint("PUT", _TWIN, put, "Replace tags and desired (If-Match)", "service", _OBJECT, _OBJECT),
    Endpoint("POST", f"{_TWIN}/methods", call, "Call a device's method", "service", Call, _OBJECT),
    Endpoint("GET", _MODULE, show, "A module's twin", "service", gives=_OBJECT),
    Endpoint("PATCH", _MODULE, patch, "Merge into tags and desired (If-Match)", "service", _OBJECT, _OBJECT),
    Endpoint("PUT", _MODULE, put, "Replace tags and desired (If-Match)", "service", _OBJECT, _OBJECT),
    Endpoint("POST", f"{_MODULE}/methods", call, "Call a module's method", "service", Call, _OBJECT),
)
