"""Identities of devices and modules, many at once too, and how many there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from sqlalchemy import true
from starlette.requests import Request
from starlette.responses import Response

from farshore.core.errors import FarshoreError, Invalid
from farshore.hub import identities, queries
from farshore.hub.api import door
from farshore.hub.api.door import Endpoint
from farshore.hub.api.service import entrance
from farshore.hub.hub import Hub
from farshore.hub.identities import Known, Wanted
from farshore.hub.records import census, devices
from farshore.hub.records.devices import ACCEPTED

MAX_LISTED = 1000
MAX_BULK = 100

Text = Annotated[str, Meta(max_length=256)]


class Keys(Struct, frozen=True, rename="camel"):
    """A pair of symmetric keys, base64."""

    primary_key: Text | None = None
    secondary_key: Text | None = None


class Proof(Struct, frozen=True, rename="camel"):
    """How an identity proves itself."""

    symmetric_key: Keys | None = None
    type: Literal["sas", "certificateAuthority", "none", "selfSigned"] | None = None


class Abilities(Struct, frozen=True, rename="camel"):
    """What a device is."""

    iot_edge: bool = False


class Body(Struct, frozen=True, rename="camel"):
    """An identity as clients send it; members that are not here are the hub's own to say."""

    device_id: Text | None = None
    module_id: Text | None = None
    status: Literal["enabled", "disabled"] | None = None
    status_reason: Text | None = None
    authentication: Proof | None = None
    capabilities: Abilities | None = None
    managed_by: Text | None = None


class Entry(Struct, frozen=True, rename="camel"):
    """One identity of many; ``tags`` and ``properties`` are its twin's."""

    id: Text
    module_id: Text | None = None
    import_mode: Literal[
        "create", "createOrUpdate", "update", "updateIfMatchETag", "createOrUpdateIfMatchETag", "delete",
        "deleteIfMatchETag", "updateTwin", "updateTwinIfMatchETag",
    ] = "createOrUpdate"  # fmt: skip
    e_tag: Text | None = None
    twin_e_tag: Text | None = None
    status: Literal["enabled", "disabled"] | None = None
    status_reason: Text | None = None
    authentication: Proof | None = None
    capabilities: Abilities | None = None
    managed_by: Text | None = None
    tags: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None


async def list_devices(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    top = entrance.number(request, "top", MAX_LISTED, MAX_LISTED)
    found = await hub.threads(hub.identities.page, "", top)
    return door.reply(request, [document(hub, one) for one in found])


async def show(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return _reply(request, hub, await hub.threads(hub.identities.one, *_who(request)))


async def put(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, module = _who(request)
    asked = await door.read(request, Body, what="identity")
    if asked.device_id not in {None, device} or asked.module_id not in {None, module or None}:
        raise Invalid("identity: it names another device or module than the address")
    found, new = await hub.threads(hub.identities.put, device, module, wanted(asked), entrance.etag(request))
    hub.bells.ring(device)
    return _reply(request, hub, found, 201 if new and module else 200)


async def delete(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, module = _who(request)
    await hub.threads(hub.identities.remove, device, module, entrance.etag(request))
    hub.bells.ring(device)
    return Response(status_code=204)


async def list_modules(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    found = await hub.threads(hub.identities.modules, door.segment(request, "device"))
    return door.reply(request, [document(hub, one) for one in found])


async def bulk(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    entries = await door.read(request, list[Entry], what="identities")
    if len(entries) > MAX_BULK:
        raise Invalid(f"{len(entries)} identities; at most {MAX_BULK} are taken at once")
    errors = []
    for entry in entries:
        try:
            await hub.threads(_one_of_many, hub, entry)
        except FarshoreError as error:
            said = {"deviceId": entry.id, "errorCode": type(error).__name__, "errorStatus": error.message}
            errors.append(said | ({"moduleId": entry.module_id} if entry.module_id else {}))
        hub.bells.ring(entry.id)
    answer = {"isSuccessful": not errors, "errors": errors, "warnings": []}
    return door.reply(request, answer, 400 if errors else 200)


async def count_devices(request: Request) -> Response:
    hub: Hub = request.app.state.hub

    def count() -> dict[str, int]:
        with hub.database.reading() as tx:
            return census.states(tx, true())

    found = await hub.threads(count)
    total, enabled = sum(found.values()), found.get(ACCEPTED, 0)
    return door.reply(
        request,
        {"totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled},
    )


async def count_connected(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return door.reply(request, {"connectedDeviceCount": len(hub.connected)})


def wanted(asked: Body | Entry) -> Wanted:
    """What an identity should be.

    Raises:
        Invalid: it would prove itself in a way that is not possible here.

    """
    proof = asked.authentication or Proof()
    if proof.type == "selfSigned":
        raise Invalid("authentication.type selfSigned: not possible here; use sas or certificateAuthority")
    keys = proof.symmetric_key or Keys()
    return Wanted(
        kind=proof.type,
        primary=keys.primary_key,
        secondary=keys.secondary_key,
        enabled=None if asked.status is None else asked.status == "enabled",
        reason=asked.status_reason,
        edge=None if asked.capabilities is None else asked.capabilities.iot_edge,
        managed_by=asked.managed_by,
    )


def document(hub: Hub, known: Known) -> dict[str, Any]:
    """An identity as clients read it."""
    one, when = known.identity, queries.when
    connected = hub.connected.connected(one.device, one.module)
    keys = {"primaryKey": one.primary or None, "secondaryKey": one.secondary or None}
    thumbs = {"primaryThumbprint": None, "secondaryThumbprint": None}
    found = {
        "deviceId": one.device,
        "generationId": one.generation,
        "etag": identities.etag_of(one),
        "connectionState": "Connected" if connected else "Disconnected",
        "connectionStateUpdatedTime": when(one.connection_at),
        "lastActivityTime": when(one.active_at if one.module else known.device.seen or one.active_at),
        "cloudToDeviceMessageCount": known.waiting,
        "authentication": {"symmetricKey": keys, "x509Thumbprint": thumbs, "type": one.kind},
    }
    if one.module:
        return {**found, "moduleId": one.module, "managedBy": one.managed_by or None}
    return {
        **found,
        "status": "enabled" if known.device.state == ACCEPTED else "disabled",
        "statusReason": known.device.reason or None,
        "statusUpdatedTime": when(one.status_at),
        "capabilities": {"iotEdge": one.edge},
    }


def _one_of_many(hub: Hub, entry: Entry) -> None:
    mode, device, module = entry.import_mode, entry.id, entry.module_id or ""
    if mode in {"delete", "deleteIfMatchETag"}:
        hub.identities.remove(device, module, entry.e_tag if mode.endswith("ETag") else None)
        return
    if not mode.startswith("updateTwin"):
        held = (entry.e_tag or "") if mode.endswith("ETag") else "*"
        if mode == "create" or (mode.startswith("createOrUpdate") and not _exists(hub, device, module)):
            hub.identities.put(device, module, wanted(entry), None)
        else:
            hub.identities.put(device, module, wanted(entry), held)
    changed = {key: value for key, value in (("tags", entry.tags), ("properties", entry.properties)) if value}
    if changed:
        tag = entry.twin_e_tag if mode.endswith("ETag") else None
        hub.fleet.change_twin(device, changed, tag, replace=False, module=module)


def _exists(hub: Hub, device: str, module: str) -> bool:
    with hub.database.reading() as tx:
        return devices.twin(tx, device, module) is not None


def _who(request: Request) -> tuple[str, str]:
    module = door.segment(request, "module") if "module" in request.path_params else ""
    return door.segment(request, "device"), module


def _reply(request: Request, hub: Hub, known: Known, status: int = 200) -> Response:
    headers = entrance.quoted(identities.etag_of(known.identity))
    return door.reply(request, document(hub, known), status, headers)


_DEVICE, _MODULE = "/devices/{device}", "/devices/{device}/modules/{module}"
_TOP = (("top", "most items"),)
ENDPOINTS = (
    Endpoint(
        "GET", "/devices", list_devices, "Identities of devices", "service", gives=list[dict[str, Any]], query=_TOP
    ),
    Endpoint("POST", "/devices", bulk, "Make, change or delete up to 100", "service", list[Entry], dict[str, Any]),
    Endpoint("GET", _DEVICE, show, "An identity", "service", gives=dict[str, Any]),
    Endpoint("PUT", _DEVICE, put, "Make a device, or change it (If-Match)", "service", Body, dict[str, Any]),
    Endpoint("DELETE", _DEVICE, delete, "Delete a device (If-Match)", "service", status=204),
    Endpoint("GET", f"{_DEVICE}/modules", list_modules, "A device's modules", "service", gives=list[dict[str, Any]]),
    Endpoint("GET", _MODULE, show, "A module's identity", "service", gives=dict[str, Any]),
    Endpoint("PUT", _MODULE, put, "Make a module, or change it (If-Match)", "service", Body, dict[str, Any]),
    Endpoint("DELETE", _MODULE, delete, "Delete a module (If-Match)", "service", status=204),
    Endpoint("GET", "/statistics/devices", count_devices, "How many devices", "service", gives=dict[str, int]),
    Endpoint("GET", "/statistics/service", count_connected, "How many are here", "service", gives=dict[str, int]),
)
