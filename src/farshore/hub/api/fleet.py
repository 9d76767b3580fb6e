"""The operator API's fleet: enrolment, devices, twins, deployments, the change feed."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

import farshore
from farshore.hub import identities, selector, twins
from farshore.hub.api import access, door, words
from farshore.hub.api.door import Endpoint
from farshore.hub.census import Summary
from farshore.hub.hub import Hub
from farshore.hub.records.access import Enrolment
from farshore.hub.records.configurations import Manner
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.devices import Device, Twin
from farshore.trust.metadata import pin_of

MAX_SERIAL = 1 << 53
FEED = 1000
MAX_VERSION = (1 << 31) - 1


async def info(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return door.reply(request, words.HubInfo(farshore.__version__, hub.settings.url, pin_of(hub.director.roots()[0])))


async def create_enrolment(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.NewEnrolment, what="enrolment")
    seconds, caller = asked.seconds or hub.settings.enrolment_seconds, access.caller(request)
    access.check_tags(caller, asked.tags)

    def make() -> tuple[Enrolment, str]:
        return hub.enrolments.create(caller, asked.device or "", asked.tags, seconds, approval=asked.approval)

    row, token = await hub.threads(make)
    return door.reply(request, words.enrolment(row, hub.invitation(token), hub.settings.url, qr=asked.qr), 201)


async def list_enrolments(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    caller, found = access.caller(request), await hub.threads(hub.enrolments.every)
    return door.reply(request, [words.enrolment(row) for row in found if caller.may("operator", row.fleet)])


async def delete_enrolment(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.enrolments.remove, door.segment(request, "enrolment"))
    return Response(status_code=204)


async def list_devices(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    limit, query = door.number(request, "limit", 100, 1, 1000), request.query_params
    where = access.within_fleets(access.caller(request), query.get("where", ""))
    version = door.number(request, "version", 0, 1, MAX_VERSION) if query.get("version") else None

    def look() -> list[tuple[Device, Twin]]:
        state, model = query.get("state", ""), query.get("model", "")
        return hub.fleet.devices(where, query.get("after", ""), limit, state=state, model=model, version=version)

    found = await hub.threads(look)
    items = [words.device(*one) for one in found]
    return door.reply(request, words.Devices(items, items[-1].id if len(items) == limit else None))


async def summary(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    where = access.within_fleets(access.caller(request), request.query_params.get("where", ""))
    return door.reply(request, await hub.threads(hub.census.summary, where))


async def show_device(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    found, held = await hub.threads(hub.fleet.device, device), await hub.threads(hub.fleet.modules, device)
    return door.reply(request, words.device(*found, held))


async def create_device(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.NewDevice, what="device")
    access.check_tags(access.caller(request), asked.tags)
    await hub.threads(hub.standings.announce, asked.id, asked.key, asked.tags)
    return door.reply(request, words.device(*await hub.threads(hub.fleet.device, asked.id)), 201)


async def approve_device(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.standings.approve, door.segment(request, "device"))
    return await show_device(request)


async def quarantine_device(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    asked = await door.read(request, words.Reason, what="reason")
    await hub.threads(hub.standings.quarantine, device, asked.reason)
    hub.bells.ring(device)
    return await show_device(request)


async def revoke_device(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    asked = await door.read(request, words.Reason, what="reason")
    await hub.threads(hub.standings.revoke, device, asked.reason)
    hub.bells.ring(device)
    return await show_device(request)


async def delete_device(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    await hub.threads(hub.fleet.remove, device)
    hub.bells.ring(device)
    return Response(status_code=204)


async def show_twin(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return _twin(request, await hub.threads(hub.fleet.twin, door.segment(request, "device")))


async def patch_twin(request: Request) -> Response:
    return await _change_twin(request, replace=False)


async def put_twin(request: Request) -> Response:
    return await _change_twin(request, replace=True)


async def _change_twin(request: Request, *, replace: bool) -> Response:
    hub: Hub = request.app.state.hub
    device, etag = door.segment(request, "device"), request.headers.get("if-match")
    document = await door.read(request, dict[str, Any], what="twin")
    access.check_twin(access.caller(request), document, replace=replace)
    row = await hub.threads(hub.fleet.change_twin, device, document, etag, replace=replace)
    hub.bells.ring(device)
    return _twin(request, row)


def _twin(request: Request, row: Twin) -> Response:
    return door.reply(request, twins.document(row), headers={"ETag": f'"{twins.etag_of(row)}"'})


async def list_deployments(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    caller, found = access.caller(request), await hub.threads(hub.deployments.every)
    mine = [row for row in found if caller.may("viewer", selector.parse(row.selector).fleet)]
    manners = await hub.threads(hub.deployments.manners)
    return door.reply(request, [words.deployment(row, manner=manners.get(row.id)) for row in mine])


async def create_deployment(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, words.NewDeployment, what="deployment")
    await hub.threads(access.check_deployment, hub, access.caller(request), "", asked.selector, asked.model)
    row, _ = await _put_deployment(hub, "", asked)
    return door.reply(request, words.deployment(row, manner=Manner(asked.classic)), 201)


async def put_deployment(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    key = door.segment(request, "deployment")
    asked = await door.read(request, words.NewDeployment, what="deployment")
    await hub.threads(access.check_deployment, hub, access.caller(request), key, asked.selector, asked.model)
    row, made = await _put_deployment(hub, key, asked)
    return door.reply(request, words.deployment(row, manner=Manner(asked.classic)), 201 if made else 200)


async def _put_deployment(hub: Hub, key: str, asked: words.NewDeployment) -> tuple[Deployment, bool]:
    ref = asked.model
    if asked.classic:
        identities.check_id(asked.classic)
        bundle = await hub.long_work(hub.bundles.make, ref)
        ref = f"{bundle.model}@{bundle.number}"  # the one whose ZIP file is made, also when an alias moves meanwhile

    def manner(before: Manner) -> Manner:
        return replace(before, classic=asked.classic)

    row, made = await hub.threads(hub.deployments.put, key, asked.selector, ref, asked.priority, asked.activate, manner)
    if not asked.classic:
        await hub.threads(hub.builds.foresee, row.digest)  # before anybody asks
    hub.bells.ring_all()
    return row, made


async def show_deployment(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    row, counts = await hub.threads(hub.deployments.one, door.segment(request, "deployment"))
    manners = await hub.threads(hub.deployments.manners)
    return door.reply(request, words.deployment(row, counts, manners.get(row.id)))


async def delete_deployment(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.deployments.remove, door.segment(request, "deployment"))
    hub.bells.ring_all()
    return Response(status_code=204)


async def feed(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    after = door.number(request, "after", 0, 0, MAX_SERIAL)
    found = await hub.threads(hub.fleet.changes, after, door.number(request, "limit", 100, 1, FEED))
    return door.reply(request, [words.change(row) for row in found])


async def timeline(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, before = door.segment(request, "device"), door.number(request, "before", MAX_SERIAL, 1, MAX_SERIAL)
    found = await hub.threads(hub.fleet.timeline, device, before, door.number(request, "limit", 100, 1, FEED))
    return door.reply(request, [words.change(row) for row in found])


_TWIN = "/v1/devices/{device}/twin"
_DEPLOYMENT = "/v1/deployments/{deployment}"
_LIMIT = ("limit", "most items, 1 to 1000")
ENDPOINTS = (
    Endpoint("GET", "/v1/hub", info, "About this hub", gives=words.HubInfo),
    Endpoint(
        "POST",
        "/v1/enrolments",
        create_enrolment,
        "A one-time token for a device",
        takes=words.NewEnrolment,
        gives=words.Enrolment,
        status=201,
    ),
    Endpoint("GET", "/v1/enrolments", list_enrolments, "Enrolment tokens", gives=list[words.Enrolment]),
    Endpoint("DELETE", "/v1/enrolments/{enrolment}", delete_enrolment, "Make a token useless", status=204),
    Endpoint(
        "GET",
        "/v1/devices",
        list_devices,
        "Devices",
        gives=words.Devices,
        query=(
            ("where", "selector"),
            ("state", "accepted, pending, quarantined or revoked"),
            ("model", "that they run"),
            ("version", "of the model, its number"),
            ("after", "id to begin after"),
            _LIMIT,
        ),
    ),
    Endpoint(
        "GET",
        "/v1/summary",
        summary,
        "The fleet in figures, and what of it wants an operator's eye",
        gives=Summary,
        query=(("where", "selector"),),
    ),
    Endpoint("GET", "/v1/devices/{device}", show_device, "A device", gives=words.Device),
    Endpoint(
        "POST",
        "/v1/devices",
        create_device,
        "Announce a device by its public key",
        takes=words.NewDevice,
        gives=words.Device,
        status=201,
    ),
    Endpoint(
        "POST",
        "/v1/devices/{device}/approve",
        approve_device,
        "Let a device in that waits, is quarantined or revoked",
        gives=words.Device,
    ),
    Endpoint(
        "POST",
        "/v1/devices/{device}/quarantine",
        quarantine_device,
        "Keep a device out until it is approved again",
        takes=words.Reason,
        gives=words.Device,
    ),
    Endpoint(
        "POST",
        "/v1/devices/{device}/revoke",
        revoke_device,
        "Keep a device out at once",
        takes=words.Reason,
        gives=words.Device,
    ),
    Endpoint("DELETE", "/v1/devices/{device}", delete_device, "Delete a device; its credential ends", status=204),
    Endpoint(
        "GET",
        "/v1/devices/{device}/timeline",
        timeline,
        "What happened to a device, newest first",
        gives=list[words.Change],
        query=(("before", "serial to begin before"), _LIMIT),
    ),
    Endpoint("GET", _TWIN, show_twin, "A twin, with its etag", gives=dict[str, Any]),
    Endpoint(
        "PATCH",
        _TWIN,
        patch_twin,
        "Merge into tags and desired (If-Match)",
        takes=dict[str, Any],
        gives=dict[str, Any],
    ),
    Endpoint("PUT", _TWIN, put_twin, "Replace tags and desired (If-Match)", takes=dict[str, Any], gives=dict[str, Any]),
    Endpoint("GET", "/v1/deployments", list_deployments, "Deployments", gives=list[words.Deployment]),
    Endpoint(
        "POST",
        "/v1/deployments",
        create_deployment,
        "A deployment under a name of the hub's choice",
        takes=words.NewDeployment,
        gives=words.Deployment,
        status=201,
    ),
    Endpoint("GET", _DEPLOYMENT, show_deployment, "A deployment, and who holds its version", gives=words.Deployment),
    Endpoint(
        "PUT",
        _DEPLOYMENT,
        put_deployment,
        "Create (201) or change (200) a deployment",
        takes=words.NewDeployment,
        gives=words.Deployment,
    ),
    Endpoint("DELETE", _DEPLOYMENT, delete_deployment, "Delete a deployment", status=204),
    Endpoint(
        "GET",
        "/v1/changes",
        feed,
        "What changed, oldest first",
        gives=list[words.Change],
        query=(("after", "serial to begin after"), _LIMIT),
    ),
)
