"""A fleet with something to see: real versions in a real hub, devices that report as real ones do."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

from farshore.core import twin

ASSETS = Path(__file__).parents[3] / "src" / "farshore" / "cli" / "demo_assets"
MODEL = "harbour-detector"
WHOLE = 276_000
"""Bytes of a version's smallest variant with its acceptance pictures, about."""


def push(operator, version, **more):
    folder = ASSETS / version
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return operator.push(MODEL, {path.name: path.read_bytes() for path in files}, **more)


class Unit:
    """A device that does as it is told."""

    def __init__(self, operator, name, **more) -> None:
        self.device, self.seen, self.desired, self.fetched = operator.enrolled(name, **more), 0, {}, 0

    def ask(self, **said):
        reported = {"models": {twin.key_of(MODEL): said}} if said else None
        answer = self.device.sync(seen=self.seen, **({"reported": reported} if reported else {}))
        if "desired" in answer:
            self.desired, self.seen = answer["desired"], answer["desired"]["$version"]
        told = self.desired.get("models", {}).get(twin.key_of(MODEL))
        return {"version": told["version"], "digest": told["digest"]} if told else None

    def take(self, count, latency=0.048):
        """Fetch what is told and run it."""
        told = self.ask()
        self.fetched += count
        trial = {"digest": told["digest"], "requests": 180, "latency": latency, "latency_before": 0.05}
        trial |= {"memory": 91_000_000, "memory_before": 90_000_000, "compared": 40, "agreed": 39}
        self.ask(current=told, target=None, fetched=self.fetched, trial=trial)

    def fail(self):
        told = self.ask()
        fault = {"code": "corrupt", "message": "acceptance case scene-1.jpg: no answer fits sailboat"}
        self.ask(target={**told, "state": "failed", "fault": fault}, fetched=self.fetched)


def settle(operator, devices=36):
    """Fill a new hub.

    Args:
        operator: of the hub.
        devices: how many to enrol.

    """
    chance = random.Random(7)
    for name, price, currency, rate in (("iridium", 6.0, "EUR", 2_000), ("lte", 0.004, "EUR", 250_000)):
        operator.ask("PUT", f"/v1/links/{name}", json={"price": price, "currency": currency, "rate": rate})
    push(
        operator,
        "v1",
        alias="champion",
        properties={"map50": 0.547},
        description="first sea trials",
        tags={"stage": "prod"},
    )
    for kind in ("turbine", "buoy"):
        rule = {"selector": f"tags.kind = '{kind}'", "model": f"{MODEL}@1"}
        operator.ask("PUT", f"/v1/deployments/{kind}s", json=rule)
    units = []
    for number in range(devices):
        kind = "turbine" if number % 3 else "buoy"
        tags = {
            "kind": kind,
            "site": chance.choice(["oslo", "bergen", "tromsø"]),
            "link": "iridium" if number % 6 == 0 else "lte",
        }
        units.append(Unit(operator, f"{kind}-{number:02}", tags=tags))
    for unit in units:
        unit.take(WHOLE if chance.random() < 0.3 else 196_000)
    more = {"parent": f"{MODEL}@1", "dataset": "scenes-7"}
    push(operator, "v2", alias="candidate", properties={"map50": 0.611, "epochs": 30}, operation="fine-tuned",
         description="fine-tuned on autumn light", tags={"stage": "test"}, **more)  # fmt: skip
    push(operator, "v3", properties={"map50": 0.602}, operation="pruned", description="half the channels", **more)
    gate = {"soak": 600.0, "success": 0.9, "failure": 0.2}
    for kind, version, waves in (("turbines", 2, (10, 50, 100)), ("buoys", 3, (30, 100))):
        asked = {
            "model": f"{MODEL}@{version}",
            "deployment": kind,
            "waves": [{"percent": one} for one in waves],
            "gate": gate,
        }
        operator.ask("POST", "/v1/rollouts", json=asked)
    for unit in units:
        told = unit.ask()
        if told["version"] == 2:
            unit.take(184_000, latency=0.044)
        elif told["version"] == 3:
            unit.fail()
    for unit in units:
        unit.ask()
    with contextlib.suppress(AssertionError):  # it waits for approval: its first sync is refused
        operator.enrolled("buoy-40", tags={"kind": "buoy", "site": "bergen"}, approval=True)
    operator.ask("POST", "/v1/devices/turbine-07/revoke", json={"reason": "stolen from the jetty"})
    operator.ask(
        "PUT",
        "/v1/operators/kari",
        json={"grants": [{"role": "operator", "fleet": "north"}, {"role": "viewer", "fleet": "*"}]},
    )
    operator.ask("POST", "/v1/tokens", json={"name": "nightly build", "grants": [{"role": "publisher", "fleet": "*"}]})
    return units
