"""Pages of rollouts: the list, one as it goes, and how one is planned and started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farshore.hub.studio.page import Page, Shown, Visit

MEMBERS = 25
LINES = 50
CHOICES = 200
ENDED = ("done", "aborted", "rolled back")


async def rollouts(visit: Visit) -> Shown:
    return Shown("rollouts.html", {"rollouts": await visit.get("rollouts")})


async def rollout(visit: Visit) -> Shown:
    name = visit.segment("rollout")
    one, lines, failed, under_way, moved = await visit.get_all(
        visit.get("rollouts", name),
        visit.get("rollouts", name, "timeline", limit=LINES),
        visit.get("rollouts", name, "devices", state="failed"),
        visit.get("rollouts", name, "devices", state="admitted"),
        visit.get_if_allowed("ledger", by="model", rollout=name),
    )
    sums = {key: sum(wave["tally"].get(key, 0) for wave in one["waves"]) for key in ("admitted", "confirmed", "failed")}
    values = {
        "one": one,
        "sums": sums,
        "waves": [figures(wave) for wave in one["waves"]],
        "asked": gate(one["gate"]),
        "lines": lines,
        "failed": failed[:MEMBERS],
        "under_way": under_way[:MEMBERS],
        "hidden": max(len(failed) - MEMBERS, 0) + max(len(under_way) - MEMBERS, 0),
        "moved": moved,
        "ended": one["state"] in ENDED,
    }
    return Shown("rollout.html", values)


async def new(visit: Visit) -> Shown:
    models, deployments = await visit.get_all(visit.get("models", limit=CHOICES), visit.get_if_allowed("deployments"))
    versions = [f"{one['name']}@{one['newest']}" for one in models["items"] if one.get("newest")]
    return Shown(
        "new_rollout.html", {"versions": versions, "deployments": deployments or [], "model": visit.asked("model")}
    )


def figures(wave: Mapping[str, Any]) -> dict[str, Any]:
    """A wave with what its devices have said, as averages and shares; None for what nothing is known of."""
    told = wave["tally"]

    def mean(total: str, count: str) -> float | None:
        return told[total] / told[count] if told.get(count) else None

    return {
        "name": wave["wave"],
        "open": wave.get("open", False),
        "admitted": told["admitted"],
        "confirmed": told["confirmed"],
        "failed": told["failed"],
        "ready": told.get("ready", 0),
        "under_way": max(told["admitted"] - told["confirmed"] - told["failed"], 0),
        "agreement": mean("agreed", "compared"),
        "compared": told["compared"],
        "errors": mean("errors", "requests"),
        "latency": mean("latency", "timed"),
        "memory": mean("memory", "weighed"),
        "gap": mean("gap", "switched"),
    }


def gate(asked: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a gate asks, those of its members that say something, in the order in which people ask."""
    given = {"quorum": 1, "seen": 0.9, "success": 0.95, "failure": 0.05, "soak": 300.0, **asked}
    names = ("quorum", "seen", "success", "failure", "soak", "deadline", "agreement", "class_shift", "score_shift", "latency",
             "memory", "errors", "gap", "on_failure", "approval")  # fmt: skip
    return [(name, given[name]) for name in names if given.get(name) not in (None, False, 0, 0.0)]


PAGES = (
    Page("/studio/rollouts", rollouts, "rollouts"),
    Page("/studio/rollouts/new", new, "rollouts"),
    Page("/studio/rollouts/{rollout}", rollout, "rollouts"),
)
