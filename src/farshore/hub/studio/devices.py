"""Pages of devices: the list, one device, its twin, its timeline, and how new ones come in."""

from __future__ import annotations

import json
import re
from typing import Any

from farshore.core import wire
from farshore.core.errors import FarshoreError, Invalid
from farshore.hub.studio.page import Page, Shown, Visit

LIMIT = 50
LINES = 100
STATES = ("accepted", "pending", "quarantined", "revoked")
_COLUMN = re.compile(r"column (\d{1,5}): (.*)", re.DOTALL)


async def devices(visit: Visit) -> Shown:
    asked = {name: visit.asked(name) for name in ("where", "state", "model", "version")}
    fault: dict[str, str] | None = None
    found: dict[str, Any] = {"items": []}
    try:
        found = await visit.get("devices", after=visit.asked("after"), limit=LIMIT, **asked)
    except Invalid as error:
        fault = pointed(asked["where"], error.message)
    rows = [{**one, "models": running(one)} for one in found["items"]]
    following = {**asked, "after": found["next"]} if found.get("next") else {}
    values = {"devices": rows, "following": following, "fault": fault, "states": STATES, "filters": asked}
    return Shown("devices.html", values, 200 if fault is None else 400)


async def device(visit: Visit) -> Shown:
    name = visit.segment("device")
    one, spent = await visit.get_all(
        visit.get("devices", name), visit.get_if_allowed("ledger", by="month,model,version,link", device=name)
    )
    models = running(one)
    chains = await visit.get_all(*(visit.get("devices", name, "why", row["model"]) for row in models))
    rows = [{**row, "chain": told["chain"]} for row, told in zip(models, chains, strict=True)]
    return Shown("device.html", {"one": one, "models": rows, "spent": spent})


async def twin(visit: Visit) -> Shown:
    name = visit.segment("device")
    one, found = await visit.get_all(visit.get("devices", name), visit.get("devices", name, "twin"))
    desired, reported = (found["properties"][part] for part in ("desired", "reported"))
    values = {
        "one": one,
        "etag": found["etag"],
        "tags": indented(found["tags"]),
        "desired": indented(bare(desired)),
        "desired_version": desired["$version"],
        "reported": indented(bare(reported)),
        "reported_version": reported["$version"],
        "whole": indented(found),
    }
    return Shown("twin.html", values)


async def timeline(visit: Visit) -> Shown:
    name = visit.segment("device")
    one, lines = await visit.get_all(
        visit.get("devices", name),
        visit.get("devices", name, "timeline", before=visit.asked("before"), limit=LINES),
    )
    older = {"before": lines[-1]["serial"]} if len(lines) == LINES else {}
    return Shown("timeline.html", {"one": one, "lines": lines, "older": older})


async def enrol(visit: Visit) -> Shown:
    tokens, waiting = await visit.get_all(
        visit.get_if_allowed("enrolments"), visit.get("devices", state="pending", limit=LIMIT)
    )
    unused = None if tokens is None else [one for one in tokens if not one.get("used")]
    return Shown("enrol.html", {"tokens": unused, "waiting": waiting["items"]})


def pointed(text: str, message: str) -> dict[str, str]:
    """A selector's fault, and the selector around the column that it points at (counted from 1)."""
    found = _COLUMN.search(message)
    if found is None:
        return {"message": message, "before": "", "at": "", "after": ""}
    place = min(int(found[1]) - 1, len(text))
    return {"message": message, "before": text[:place], "at": text[place : place + 1], "after": text[place + 1 :]}


def running(one: dict[str, Any]) -> list[dict[str, Any]]:
    """What a device should run, runs and works on, model by model; nothing where its twin cannot be read."""
    try:
        desired = wire.desired_models({"models": one.get("desired", {})})
        reported = wire.reported_models({"models": one.get("reported", {})})
    except FarshoreError:
        return []
    rows = []
    for name in sorted({*desired, *reported}):
        want, have = desired.get(name), reported.get(name, wire.ReportedModel())
        target = have.target
        rows.append(
            {
                "model": name,
                "desired": want.version if want else None,
                "current": have.current.version if have.current else None,
                "variant": have.current.variant if have.current else "",
                "previous": have.previous.version if have.previous else None,
                "target": target.version if target else None,
                "state": target.state if target else "",
                "done": target.done if target else 0,
                "size": target.size if target else 0,
                "fault": target.fault.message if target and target.fault else "",
                "fetched": have.fetched,
                "settled": want is None or (have.current is not None and have.current.digest == want.digest),
                "trial": have.trial,
            }
        )
    return rows


def bare(section: dict[str, Any]) -> dict[str, Any]:
    """A twin's section without what the hub keeps about it."""
    return {name: value for name, value in section.items() if not name.startswith("$")}


def indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


_ONE = "/studio/devices/{device}"
PAGES = (
    Page("/studio/devices", devices, "devices"),
    Page("/studio/enrol", enrol, "devices"),
    Page(_ONE, device, "devices"),
    Page(f"{_ONE}/twin", twin, "devices"),
    Page(f"{_ONE}/timeline", timeline, "devices"),
)
