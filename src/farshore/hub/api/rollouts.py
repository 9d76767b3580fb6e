"""The operator API's rollouts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs, to_builtins
from starlette.requests import Request
from starlette.responses import Response

from farshore.core import wire
from farshore.core.manifest import Name, Short
from farshore.core.wire import Windows
from farshore.hub import moments, rollout
from farshore.hub.api import access, door, words
from farshore.hub.api.door import Endpoint
from farshore.hub.api.fleet import FEED, MAX_SERIAL
from farshore.hub.forecast import Forecast
from farshore.hub.gate import Gate, Tally
from farshore.hub.hub import Hub
from farshore.hub.plans import Asked
from farshore.hub.records.ledger import SUMS, Link, Moved
from farshore.hub.records.rollouts import Entry
from farshore.hub.rollout import Budget, Terms, Wave
from farshore.hub.savings import Saved
from farshore.hub.telemetry import Behaviour
from farshore.hub.why import Reason

NEWEST = 100
MEMBERS = 1000
PLAN_SECONDS = 120.0
"""How long a plan waits for patches that have to be built."""


class NewRollout(Struct, frozen=True, forbid_unknown_fields=True):
    """A rollout to start.

    Attributes:
        model: ``name@3``, ``name@alias`` or ``name``, resolved now.
        deployment: whose version changes; made if there is none of this name; the model's name if left away.
        selector: devices of a new deployment; all if left away.
        waves: how far it opens, step by step, also as text (``1,10%,100%``); at once if left away.
        gate: closes each wave.
        id: its name; one is made if left away.
        priority: of a new deployment.
        strategy: ``waves``; or ``blue-green``: waves have the version installed and tried out beside the one before, and advancing
            after the last one switches all devices at once.
        activate: times of day in which devices may switch to the version; left as the deployment has it if left away.
        budget: what it may move and cost; it stops within that.

    """

    model: Short
    deployment: Name | None = None
    selector: Annotated[str, Meta(max_length=4096)] = ""
    waves: Annotated[tuple[Wave, ...], Meta(max_length=rollout.MAX_WAVES)] | Annotated[str, Meta(max_length=8192)] = (
        Wave(percent=100),
    )
    gate: Gate = Gate()
    id: Name | None = None
    priority: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    strategy: Literal["waves", "blue-green"] = "waves"
    activate: Windows | None = None
    budget: Budget | None = None

    @property
    def chosen(self) -> str:
        """The deployment."""
        return self.deployment or self.model.partition("@")[0]


class NewLink(Struct, frozen=True, forbid_unknown_fields=True):
    """A link.

    Attributes:
        price: of 1 000 000 bytes in ``currency``.
        rate: bytes a second that devices may use; 0 if not known.
        windows: times of day in which devices may move bytes; none for always.
        day, month: bytes that a device may move in a day and in a month; 0 for any.

    """

    price: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    currency: Annotated[str, Meta(max_length=16)] = ""
    rate: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    windows: Windows = ()
    day: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    month: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class Given(Struct, frozen=True, forbid_unknown_fields=True):
    """Attributes: ``reason`` why, for the books; ``budget`` another one to go on with, when resuming."""

    reason: Annotated[str, Meta(max_length=1000)] = ""
    budget: Budget | None = None


class WaveStatus(Struct, frozen=True, omit_defaults=True):
    """A wave: what it is, whether it is open, what its devices have said, and whether an operator overruled its gate."""

    wave: str
    open: bool
    tally: Tally
    overruled: bool = False


class Status(Struct, frozen=True, omit_defaults=True):
    """A rollout as it stands.

    Attributes:
        state: ``running``, ``paused``, ``done``, ``aborted`` or ``rolled back``; ``reason`` in one sentence why.
        waiting: what the newest wave's gate waits for; empty when for nothing but time.
        version, before: number brought, and the one that it replaces; ``ref`` as it was asked for.
        selector: of the deployment when it was started.
        held: blue/green, before the switch.
        bytes, money: moved, and foreseen for devices that are under way; ``budget`` is of these.
        devices: in sum over waves.

    """

    id: str
    deployment: str
    model: str
    version: int
    state: str
    wave: int
    waves: list[WaveStatus]
    gate: Gate
    created: str
    changed: str
    opened: str
    before: int | None = None
    reason: str = ""
    waiting: str = ""
    ref: str = ""
    selector: str = ""
    held: bool = False
    budget: Budget | None = None
    bytes: int = 0
    money: float = 0.0


class Member(Struct, frozen=True, omit_defaults=True):
    """A device in a rollout; ``state`` is ``admitted``, ``ready``, ``confirmed`` or ``failed``."""

    device: str
    wave: int
    state: str
    at: str
    evidence: dict[str, float] = {}


class Planned(Struct, frozen=True, omit_defaults=True):
    """What a rollout would do: ``exact`` when every patch that may be used is built; ``others`` counts devices that stay with what
    somebody else says of the model, by who that is.
    """

    model: str
    version: int
    selector: str
    exact: bool
    devices: list[Forecast]
    others: dict[str, int] = {}


class WhyReply(Struct, frozen=True):
    """A short chain of reasons, the first cause last."""

    device: str
    model: str
    chain: list[Reason]


def _waves(asked: NewRollout) -> tuple[Wave, ...]:
    return rollout.parse_waves(asked.waves) if isinstance(asked.waves, str) else rollout.check_waves(asked.waves)


async def plan(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, NewRollout, what="rollout")
    wanted = Asked(
        asked.chosen, asked.selector, asked.model, asked.priority, _waves(asked), asked.budget, asked.id or ""
    )
    await hub.threads(access.check_deployment, hub, access.caller(request), asked.chosen, asked.selector, asked.model)
    found = await hub.long_work(hub.plans.plan, wanted, PLAN_SECONDS)
    version = found.version
    return door.reply(
        request,
        Planned(version.model, version.number, found.selector, found.exact, found.forecasts, found.others),
    )


async def why(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, model = door.segment(request, "device"), door.segment(request, "model")
    found = await hub.threads(hub.fleet.why, device, model, wire.MAX_WAIT + hub.settings.sync_seconds)
    return door.reply(request, WhyReply(device, model, found))


async def list_links(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return door.reply(request, await hub.threads(hub.ledger.links))


async def put_link(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, NewLink, what="link")
    made = Link(door.segment(request, "link"), **structs.asdict(asked))
    await hub.threads(hub.ledger.put_link, made)
    hub.bells.ring_all()
    return door.reply(request, made)


async def delete_link(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    await hub.threads(hub.ledger.remove_link, door.segment(request, "link"))
    hub.bells.ring_all()
    return Response(status_code=204)


async def show_ledger(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    given = request.query_params
    by = tuple(name for name in given.get("by", "model,version").split(",") if name)
    where = {name: given[name] for name in SUMS if given.get(name)}
    limit = door.number(request, "limit", 1000, 1, 10_000)
    found = await hub.threads(hub.ledger.sums, by, where, given.get("since", ""), given.get("until", ""), limit)
    rows = [{key: value for key, value in to_builtins(one).items() if value is not None} for one in found]
    if given.get("as") == "csv":
        headers = {"Content-Disposition": 'attachment; filename="ledger.csv"'}
        return door.content(
            request, _csv((*by, "bytes", "money", "currency"), rows), "text/csv; charset=utf-8", headers=headers
        )
    return door.reply(request, rows)


def _csv(columns: Sequence[str], rows: list[dict[str, Any]]) -> bytes:
    """Lines as RFC 4180 has them; a text that a spreadsheet would compute is quoted for it, as nobody's formula is to run there."""
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(name, "") for name in columns]
        writer.writerow(f"'{one}" if isinstance(one, str) and one[:1] in {*"=+-@\t\r"} else one for one in cells)
    return made.getvalue().encode()


async def show_savings(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    given = request.query_params
    found = await hub.threads(hub.savings.saved, given.get("since", ""), given.get("until", ""))
    return door.reply(request, found)


async def behaviour(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    model, limit = door.segment(request, "name"), door.number(request, "limit", 20, 1, NEWEST)
    return door.reply(request, await hub.threads(hub.telemetry.of_model, model, limit))


async def create(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, NewRollout, what="rollout")
    await hub.threads(access.check_deployment, hub, access.caller(request), asked.chosen, asked.selector, asked.model)
    made = await hub.threads(
        hub.rollouts.start,
        asked.id or "",
        asked.chosen,
        asked.selector,
        asked.model,
        _waves(asked),
        asked.gate,
        asked.priority,
        Terms(switch=asked.strategy == "blue-green", budget=asked.budget),
        asked.activate,
    )
    hub.bells.ring_all()
    await hub.threads(hub.builds.foresee, made[0].digest)
    return door.reply(request, status(*made), 201)


async def every(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    found = await hub.threads(hub.rollouts.newest, door.number(request, "limit", NEWEST, 1, NEWEST))
    mine = [one for one in found if access.may_see(access.caller(request), one)]
    return door.reply(request, [status(one, [Tally()] * len(one.now.waves)) for one in mine])


async def show(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return door.reply(request, status(*await hub.threads(hub.rollouts.one, door.segment(request, "rollout"))))


async def devices(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    wanted = request.query_params.get("state", "")
    states = (wanted,) if wanted else ("admitted", "ready", "confirmed", "failed")
    found = await hub.threads(hub.rollouts.members, door.segment(request, "rollout"), states, MEMBERS)
    return door.reply(
        request, [Member(one.device, one.wave, one.state, moments.text(one.at), one.evidence) for one in found]
    )


async def rollout_timeline(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    key, before = door.segment(request, "rollout"), door.number(request, "before", MAX_SERIAL, 1, MAX_SERIAL)
    found = await hub.threads(hub.rollouts.timeline, key, before, door.number(request, "limit", 100, 1, FEED))
    return door.reply(request, [words.change(row) for row in found])


async def pause(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return await _steer(request, hub.rollouts.pause, "paused by an operator")


async def resume(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, Given, what="reason")
    found = await hub.threads(hub.rollouts.resume, door.segment(request, "rollout"), asked.budget)
    hub.bells.ring_all()
    return door.reply(request, status(*found))


async def advance(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return await _steer(request, hub.rollouts.advance)


async def abort(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return await _steer(request, hub.rollouts.abort, "aborted by an operator")


async def roll_back(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    return await _steer(request, hub.rollouts.roll_back, "rolled back by an operator")


async def _steer(request: Request, steer: Any, why: str | None = None) -> Response:
    hub: Hub = request.app.state.hub
    asked = await door.read(request, Given, what="reason")
    given = () if why is None else (asked.reason or why,)
    found = await hub.threads(steer, door.segment(request, "rollout"), *given)
    hub.bells.ring_all()
    return door.reply(request, status(*found))


def status(found: Entry, tallies: list[Tally]) -> Status:
    """The rollout in the API's words."""
    now = found.now
    waiting = rollout.waiting(now, tallies[now.wave]) if now.state == "running" else None
    return Status(
        id=now.id,
        deployment=found.deployment,
        model=found.model,
        version=found.version,
        state=now.state,
        wave=now.wave,
        waves=[
            WaveStatus(str(one), at <= now.wave, tallies[at], at in now.terms.overruled)
            for at, one in enumerate(now.waves)
        ],
        gate=now.gate,
        created=moments.text(found.created),
        changed=moments.text(found.changed),
        opened=moments.text(now.opened),
        before=found.before,
        reason=now.reason,
        waiting=waiting or "",
        ref=found.ref,
        selector=found.selector or "",
        held=now.held,
        budget=now.terms.budget,
        bytes=sum(one.bytes for one in tallies),
        money=sum(one.money for one in tallies),
    )


_ONE = "/v1/rollouts/{rollout}"
_LINK = "/v1/links/{link}"


def _verb(name: str, handler: Any, words: str) -> Endpoint:
    return Endpoint("POST", f"{_ONE}/{name}", handler, words, takes=Given, gives=Status)


ENDPOINTS = (
    Endpoint("POST", "/v1/rollouts", create, "Start a rollout", takes=NewRollout, gives=Status, status=201),
    Endpoint(
        "GET", "/v1/rollouts", every, "Rollouts, newest first, without tallies", gives=list[Status],
        query=(("limit", "most items, 1 to 100"),),
    ),
    Endpoint("GET", _ONE, show, "A rollout, and what its devices have said", gives=Status),
    Endpoint(
        "GET", f"{_ONE}/devices", devices, "Devices that it gave its version to", gives=list[Member],
        query=(("state", "admitted, ready, confirmed or failed"),),
    ),
    Endpoint(
        "GET", f"{_ONE}/timeline", rollout_timeline, "What happened to a rollout, newest first", gives=list[words.Change],
        query=(("before", "serial to begin before"), ("limit", "most lines, 1 to 1000")),
    ),
    Endpoint("POST", "/v1/rollouts/plan", plan, "What a rollout would move and cost", takes=NewRollout, gives=Planned),
    Endpoint("GET", "/v1/devices/{device}/why/{model}", why, "Why a device runs what it runs", gives=WhyReply),
    Endpoint("GET", "/v1/links", list_links, "Links and their prices", gives=list[Link]),
    Endpoint("PUT", _LINK, put_link, "Set a link's price and rate", takes=NewLink, gives=Link),
    Endpoint("DELETE", _LINK, delete_link, "Forget a link", status=204),
    Endpoint(
        "GET", "/v1/ledger", show_ledger, "What was moved", gives=list[Moved],
        query=(
            ("by", f"columns to sum by: {', '.join(SUMS)}"), *((name, "only this one") for name in SUMS),
            ("since", "first day"), ("until", "last day"), ("limit", "most sums, 1 to 10 000"), ("as", "csv for comma-separated values"),
        ),
    ),
    Endpoint(
        "GET", "/v1/savings", show_savings, "What was moved, against whole files", gives=list[Saved],
        query=(("since", "first day"), ("until", "last day")),
    ),
    Endpoint(
        "GET", "/v1/models/{name}/behaviour", behaviour, "How a model's versions did on devices, newest first",
        gives=list[Behaviour], query=(("limit", "most rollouts, 1 to 100"),),
    ),
    _verb("pause", pause, "Take nobody in any more for now"),
    _verb("resume", resume, "Go on"),
    _verb("advance", advance, "Open the next wave, whatever the gate says; after the last one switch (blue/green), or be done"),
    _verb("abort", abort, "End it: who has the version keeps it"),
    _verb("rollback", roll_back, "End it: everybody goes back"),
)  # fmt: skip
