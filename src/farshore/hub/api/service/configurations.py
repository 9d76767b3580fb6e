"""Configurations, deployments of models among them, and content for one device."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from farshore.core.errors import FarshoreError, Invalid
from farshore.hub import configuration, configurations, moments, query
from farshore.hub.api import door
from farshore.hub.api.door import Endpoint
from farshore.hub.api.service import entrance
from farshore.hub.configurations import MAX_PRIORITY, Asked
from farshore.hub.hub import Hub
from farshore.hub.records.configurations import Configuration

MAX_LISTED = 1000


class Metrics(Struct, frozen=True):
    """Queries by name; their results are the hub's to say."""

    queries: dict[str, str] = {}


class Body(Struct, frozen=True, rename="camel"):
    """A configuration as clients send it; members that are not here are the hub's own to say."""

    content: dict[str, Any]
    id: str | None = None
    target_condition: Annotated[str, Meta(max_length=4096)] | None = None
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] = 0
    labels: dict[str, str] | None = None
    metrics: Metrics | None = None


class Tested(Struct, frozen=True, rename="camel"):
    """Queries to try."""

    target_condition: str | None = None
    custom_metric_queries: dict[str, str] | None = None


async def list_(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    top = entrance.number(request, "top", MAX_LISTED, MAX_LISTED)
    found = await hub.threads(hub.configurations.every)
    return door.reply(request, [document(one, {}) for one in found[:top]])


async def show(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return await _reply(request, hub, await hub.threads(hub.configurations.one, _key(request)))


async def put(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    key, body = _key(request), await door.read(request, Body, what="configuration")
    if body.id not in {None, key}:
        raise Invalid("configuration: it has another id than the address")
    asked = Asked(
        {name: value for name, value in body.content.items() if value},
        body.target_condition or "",
        body.priority,
        body.labels or {},
        {} if body.metrics is None else body.metrics.queries,
    )
    found = await hub.threads(hub.configurations.put, key, asked, entrance.etag(request))
    hub.bells.ring_all()
    return await _reply(request, hub, found)


async def delete(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.configurations.remove, _key(request), entrance.etag(request))
    hub.bells.ring_all()
    return Response(status_code=204)


async def test(request: Request) -> Response:
    asked = await door.read(request, Tested, what="queries")
    errors = {name: _error(query.parse, text) for name, text in (asked.custom_metric_queries or {}).items()}
    return door.reply(
        request,
        {
            "targetConditionError": _error(query.target, asked.target_condition or ""),
            "customMetricQueryErrors": {name: error for name, error in errors.items() if error},
        },
    )


async def apply(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, content = door.segment(request, "device"), await entrance.read(request, "content")

    def change() -> None:
        for module, wanted in hub.configurations.plan(device, content).items():
            hub.fleet.change_twin(device, wanted, None, replace=True, module=module)

    await hub.threads(change)
    hub.bells.ring(device)
    return Response(status_code=204)


def document(row: Configuration, counts: dict[str, int]) -> dict[str, Any]:
    """A configuration as clients read it.

    Args:
        row: the configuration.
        counts: results of its metrics, as far as they were counted.

    """
    system = system_queries(row)
    return {
        "id": row.id,
        "schemaVersion": "1.0",
        "labels": row.labels,
        "content": row.content,
        "targetCondition": row.selector,
        "createdTimeUtc": moments.text(row.created),
        "lastUpdatedTimeUtc": moments.text(row.changed),
        "priority": row.priority,
        "systemMetrics": {"results": _counted(counts, system), "queries": system},
        "metrics": {"results": _counted(counts, row.metrics), "queries": row.metrics},
        "etag": configurations.etag_of(row),
    }


def system_queries(row: Configuration) -> dict[str, str]:
    """The metrics that every configuration has, as IoT Hub asks them."""
    applied, agent = f"configurations.[[{row.id}]].status = 'Applied'", configuration.AGENT
    if "moduleContent" in row.content:
        where = row.selector.strip()[len("from") :].strip()
        return {
            "targetedCount": f"select deviceId, moduleId from {where}",  # noqa: S608 - our own parser reads it
            "appliedCount": _asking("devices.modules", applied),
        }
    found = {"targetedCount": _asking("devices", row.selector)}
    if "deviceContent" in row.content:
        return found | {"appliedCount": _asking("devices", applied)}
    if agent not in row.content["modulesContent"]:
        return found | {"appliedCount": _asking("devices.modules", applied)}
    agents = f"moduleId = '{agent}' and {applied}"
    current = f"{agents} and properties.desired.$version = properties.reported.lastDesiredVersion"
    return found | {
        "appliedCount": _asking("devices.modules", agents),
        "reportedSuccessfulCount": _asking(
            "devices.modules", f"{current} and properties.reported.lastDesiredStatus.code = 200"
        ),
        "reportedFailedCount": _asking(
            "devices.modules", f"{current} and properties.reported.lastDesiredStatus.code != 200"
        ),
    }


def _asking(source: str, where: str) -> str:
    return f"select deviceId from {source} where {where}"  # noqa: S608 - our own parser reads it


def _counted(counts: dict[str, int], queries: dict[str, str]) -> dict[str, int]:
    return {name: counts[text] for name, text in queries.items() if text in counts}


async def _reply(request: Request, hub: Hub, row: Configuration) -> Response:
    def count() -> dict[str, int]:
        wanted = {**system_queries(row), **row.metrics}
        counts = {text: hub.queries.count(text) for name, text in wanted.items() if name != "targetedCount"}
        return counts | {wanted["targetedCount"]: hub.queries.targeted(row.selector)}

    counts = await hub.long_work(count)
    return door.reply(request, document(row, counts), headers=entrance.quoted(configurations.etag_of(row)))


def _error(check: Any, text: str) -> str:
    try:
        check(text)
    except FarshoreError as error:
        return error.message
    return ""


def _key(request: Request) -> str:
    return door.segment(request, "configuration")


_CONFIGURATION = "/configurations/{configuration}"
_OBJECT = dict[str, Any]
_TOP = (("top", "most items"),)
ENDPOINTS = (
    Endpoint(
        "GET", "/configurations", list_, "Configurations, not counted", "service", gives=list[_OBJECT], query=_TOP
    ),
    Endpoint("POST", "/configurations/testQueries", test, "Try queries", "service", Tested, _OBJECT),
    Endpoint("GET", _CONFIGURATION, show, "A configuration, with its metrics", "service", gives=_OBJECT),
    Endpoint("PUT", _CONFIGURATION, put, "Make a configuration, or change it (If-Match)", "service", Body, _OBJECT),
    Endpoint("DELETE", _CONFIGURATION, delete, "Delete a configuration (If-Match)", "service", status=204),
    Endpoint(
        "POST",
        "/devices/{device}/applyConfigurationContent",
        apply,
        "Give content to one device and its modules",
        "service",
        _OBJECT,
        status=204,
    ),
)
