"""The operator API's settings in layers."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from farshore.hub import moments, selector
from farshore.hub.api import access, door
from farshore.hub.api.door import Endpoint
from farshore.hub.hub import Hub
from farshore.hub.records.layers import Layer


class NewSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A layer of settings to make or change.

    Attributes:
        selector: devices that heed it.
        settings: ``rate``, ``windows``, ``day``, ``month``, ``link``, as in a device's desired section.
        priority: of several that say something of the same setting, the highest wins.

    """

    selector: Annotated[str, Meta(max_length=4096)]
    settings: Annotated[dict[str, Any], Meta(max_length=16)]
    priority: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class Settings(Struct, frozen=True):
    """A layer of settings."""

    id: str
    selector: str
    priority: int
    settings: dict[str, Any]
    changed: str


async def list_settings(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    caller, found = access.caller(request), await hub.threads(hub.layers.every)
    mine = [row for row in found if caller.may("viewer", selector.parse(row.selector).fleet)]
    return door.reply(request, [_said(row) for row in mine])


async def put_settings(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    key = door.segment(request, "settings")
    asked = await door.read(request, NewSettings, what="settings")
    await _check(request, key, asked.selector)
    made = await hub.threads(hub.layers.put, key, asked.selector, asked.priority, asked.settings)
    hub.bells.ring_all()
    return door.reply(request, _said(made))


async def delete_settings(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    key = door.segment(request, "settings")
    await _check(request, key)
    await hub.threads(hub.layers.remove, key)
    hub.bells.ring_all()
    return Response(status_code=204)


async def _check(request: Request, key: str, *texts: str) -> None:
    """Pass if the caller may change this layer, as it stands and as it is to be."""
    hub: Hub = request.app.state.hub
    held = [row.selector for row in await hub.threads(hub.layers.every) if row.id == key]
    for text in (*held, *texts):
        access.check_reach(access.caller(request), text)


def _said(row: Layer) -> Settings:
    return Settings(row.id, row.selector, row.priority, row.settings, moments.text(row.changed))


_ONE = "/v1/settings/{settings}"
ENDPOINTS = (
    Endpoint("GET", "/v1/settings", list_settings, "Settings of devices, in layers", gives=list[Settings]),
    Endpoint("PUT", _ONE, put_settings, "Set what devices heed", takes=NewSettings, gives=Settings),
    Endpoint("DELETE", _ONE, delete_settings, "Delete a layer of settings", status=204),
)
