"""``farshore rollout``: bring a new version to a fleet, wave by wave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farshore.agent.settings import parse_size
from farshore.cli.connection import with_hub
from farshore.cli.deployment import windows_of
from farshore.cli.following import follow
from farshore.cli.output import (
    json_option,
    megabytes,
    print_facts,
    print_json,
    print_table,
    print_timeline,
    table,
)
from farshore.cli.waves import columns, rows
from farshore.core import documents
from farshore.hub.rollout import parse_waves

if TYPE_CHECKING:
    from rich.console import RenderableType

    from farshore.client import Hub

ENDED = {"done", "aborted", "rolled back"}
UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Span(click.ParamType[float]):
    """A time: ``90``, ``90s``, ``10m``, ``2h``, ``1d``; in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        number = text.rstrip("smindh")
        try:
            seconds = float(number) * UNITS[text[len(number) :].strip() or "s"]
        except (ValueError, KeyError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            self.fail(f"{value!r} is no time: write 90s, 10m, 2h or 1d", param, ctx)
        return seconds


SHARE = click.FloatRange(0, 1)
DEPLOYMENT = click.option(
    "--deployment", help="Deployment whose version changes; made if there is none.  [default: the model's name]"
)
SELECTOR = click.option("--to", "selector", default="", help="Devices of a new deployment: a selector.  [default: all]")


WAVES = click.option(
    "--waves", default="100%", show_default=True, help="Counts, percentages, selectors; the last one must be 100%."
)
BUDGET = click.option("--budget", metavar="SIZE", help="Most bytes that it may move, as 50MB; it pauses within that.")
BUDGET_MONEY = click.option("--budget-money", type=click.FloatRange(0), help="Most that it may cost, by links' prices.")


@click.group()
def rollout() -> None:
    """Bring a new version to a fleet, wave by wave, and stop by itself when it is worse."""


@rollout.command()
@click.argument("model", metavar="REF")
@DEPLOYMENT
@SELECTOR
@WAVES
@BUDGET
@BUDGET_MONEY
@click.option("--all", "every", is_flag=True, help="A line for every device, not only for those that stand out.")
@json_option
@with_hub
def plan(
    hub: Hub, model: str, deployment: str | None, selector: str, waves: str, budget: str | None,
    budget_money: float | None, every: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say what a rollout would move and cost, device by device, before anything starts.

    Patches that devices would use are built meanwhile, so that the bytes are exact. Prices and rates are those of links
    (farshore link set) that devices name in their tag "link".

    \b
    farshore rollout plan detector@2 --deployment prod
    farshore rollout plan detector@2 --to "tags.site = 'oslo'" --all
    farshore rollout plan detector@2 --deployment prod --waves 5%,100% --budget 50MB --budget-money 300
    """
    body: dict[str, Any] = {"model": model, "selector": selector, "waves": documents.builtins(parse_waves(waves))}
    body |= {
        key: value for key, value in (("deployment", deployment), ("budget", _budget(budget, budget_money))) if value
    }
    found = hub.plan_rollout(body)
    if as_json:
        print_json(found)
        return
    devices = found["devices"]
    trouble = [one for one in devices if one.get("trouble")]
    going = [one for one in devices if not one.get("trouble")]
    moved, whole = sum(one["bytes"] for one in going), sum(one["whole"] for one in going)
    others = ", ".join(f"{count} held by {who}" for who, count in sorted(found.get("others", {}).items()))
    print_facts([
        ("brings", f"{found['model']}@{found['version']}"), ("to", f"{len(devices)} devices, {found['selector']}"),
        ("moves", f"{megabytes(moved)} in all" + ("" if found["exact"] else " at most: some patches are still being built")),
        ("instead of", f"{megabytes(whole)} without patches"), ("costs", _money(going)),
        ("takes", f"{_span(max(one.get('seconds', 0) for one in going))} on the slowest link" if going else ""),
        ("will not", f"{len(trouble)} devices, by the reasons below" if trouble else ""), ("not counted", others),
    ])  # fmt: skip
    shown = devices if every else trouble or sorted(devices, key=lambda one: -one["bytes"])[:10]
    rows = [
        (one["device"], one["route"], megabytes(one["bytes"]), one.get("link"), _span(one.get("seconds", 0)),
         _money([one]), one.get("trouble") or one.get("note"))
        for one in shown
    ]  # fmt: skip
    if rows:
        click.echo()
        print_table(["device", "route", ">bytes", "link", ">time", ">money", "note"], rows)


@rollout.command()
@click.argument("model", metavar="REF")
@DEPLOYMENT
@SELECTOR
@WAVES
@click.option(
    "--blue-green",
    is_flag=True,
    help="Install and try out beside the version before, wave by wave; `rollout advance` then switches all at once.",
)
@click.option(
    "--activate-in",
    "activate",
    multiple=True,
    metavar="WINDOW",
    help="Download at any time and switch at this time of day: 02:00-04:00 (theirs), 02:00-04:00Z (UTC); `always` takes that back.",
)
@BUDGET
@BUDGET_MONEY
@click.option("--name", help="Name of the rollout.  [default: DEPLOYMENT-VERSION]")
@click.option("--priority", type=click.IntRange(0), default=0, help="Of a new deployment.")
@click.option(
    "--quorum", type=click.IntRange(1), help="Devices of a wave that must have confirmed or failed.  [default: 1]"
)
@click.option("--seen", type=SHARE, help="Share of the wave's devices that must have.  [default: 0.9]")
@click.option("--success", type=SHARE, help="Share of these that must have confirmed.  [default: 0.95]")
@click.option("--failure", type=SHARE, help="Share of failures above which it stops at once.  [default: 0.05]")
@click.option("--soak", type=Span(), help="How long a wave must stay good before the next one opens.  [default: 5m]")
@click.option("--deadline", type=Span(), help="How long a wave may take to become good.  [default: for ever]")
@click.option("--gap", type=Span(), help="Longest time without an answer at the switch, on average.")
@click.option("--latency", type=float, help="Most times the previous version's latency on the same device.")
@click.option("--memory", type=float, help="Most times the previous version's memory on the same device.")
@click.option("--errors", type=SHARE, help="Largest share of requests that may fail in a trial.")
@click.option("--agreement", type=SHARE, help="Smallest share of answers that agree with the previous version's.")
@click.option("--class-shift", type=SHARE, help="Largest distance of the classes found from the previous version's.")
@click.option(
    "--score-shift", type=float, help="Largest stability index of confidences against the previous version's."
)
@click.option("--compared", type=click.IntRange(1), help="Answers that must have been compared first.  [default: 20]")
@click.option(
    "--shadow", type=SHARE, help="Share of requests answered unseen first.  [default: 0.1 if answers are compared]"
)
@click.option(
    "--shadow-answers", type=click.IntRange(1), help="Comparisons after which a trial begins.  [default: 200]"
)
@click.option("--shadow-time", "shadow_seconds", type=Span(), help="Time after which it begins anyway.  [default: 1h]")
@click.option("--on-failure", type=click.Choice(["rollback", "pause"]), help="When a gate fails.  [default: rollback]")
@click.option("--approval", is_flag=True, default=None, help="Wait for `rollout advance` before each next wave.")
@click.option("--watch", "watching", is_flag=True, help="Stay and watch it.")
@json_option
@with_hub
def start(
    hub: Hub, model: str, deployment: str | None, selector: str, waves: str, name: str | None, priority: int,
    watching: bool, as_json: bool, blue_green: bool, activate: tuple[str, ...], budget: str | None,
    budget_money: float | None, **gate: Any,
) -> None:  # fmt: skip
    """Start a rollout: bring version REF to the devices of a deployment.

    \b
    farshore rollout start detector@2 --deployment prod --waves 1,10%,100%
    farshore rollout start detector@candidate --waves "tags.ring = 'early',100%" --soak 1h --agreement 0.9
    farshore rollout start detector@3 --to "tags.site = 'oslo'" --approval
    farshore rollout start detector@3 --shadow 0.2 --agreement 0.9 --class-shift 0.1 --score-shift 0.25
    farshore rollout start detector@4 --deployment prod --blue-green
    farshore rollout start detector@4 --deployment prod --activate-in 02:00-04:00
    farshore rollout start detector@4 --deployment prod --waves 5%,100% --budget 50MB --budget-money 300
    """
    body: dict[str, Any] = {
        "model": model,
        "selector": selector,
        "waves": documents.builtins(parse_waves(waves)),
        "gate": {key: value for key, value in gate.items() if value is not None},
        "priority": priority,
    }
    optional = (("deployment", deployment), ("id", name), ("budget", _budget(budget, budget_money)))
    body |= {key: value for key, value in optional if value}
    body |= {"strategy": "blue-green"} if blue_green else {}
    body |= {} if (windows := windows_of(activate)) is None else {"activate": windows}
    found = hub.start_rollout(body)
    if as_json:
        print_json(found)
        return
    _print(found)
    if watching:
        _watch(hub, found["id"])


@rollout.command("list")
@json_option
@with_hub
def list_(hub: Hub, as_json: bool) -> None:
    """List rollouts, newest first.

    \b
    farshore rollout list
    """
    items = hub.rollouts()
    if as_json:
        print_json(items)
        return
    rows = [
        (one["id"], _change(one), _wave_now(one), one["state"], one.get("reason", ""), _moment(one["changed"]))
        for one in items
    ]
    print_table(
        ["rollout", "brings", "wave", "state", "why", "changed"],
        rows,
        empty="no rollouts yet: farshore rollout start MODEL@VERSION --waves 1,10%,100%",
    )


@rollout.command()
@click.argument("name")
@click.option(
    "--devices",
    "state",
    type=click.Choice(["all", "admitted", "ready", "confirmed", "failed"]),
    help="List devices, too.",
)
@json_option
@with_hub
def status(hub: Hub, name: str, state: str | None, as_json: bool) -> None:
    """Show a rollout: wave by wave what its devices have said, and what it waits for.

    \b
    farshore rollout status prod-2
    farshore rollout status prod-2 --devices failed
    """
    found = hub.rollout(name)
    members = [] if state is None else hub.rollout_devices(name, "" if state == "all" else state)
    if as_json:
        print_json({**found, "devices": members} if state else found)
        return
    _print(found)
    if state:
        rows = [(one["device"], one["wave"] + 1, one["state"], _moment(one["at"])) for one in members]
        click.echo()
        print_table(["device", ">wave", "state", "since"], rows, empty=f"no devices: {state}")


@rollout.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most lines.")
@json_option
@with_hub
def timeline(hub: Hub, name: str, limit: int, as_json: bool) -> None:
    """Tell what happened to a rollout and why, the newest first.

    \b
    farshore rollout timeline prod-2
    """
    print_timeline(hub.rollout_timeline(name, limit=limit), as_json=as_json)


@rollout.command()
@click.argument("name")
@with_hub
def watch(hub: Hub, name: str) -> None:
    """Watch a rollout until it ends: in place on a terminal, a line for each change otherwise.

    It goes on over a restart of the hub; Ctrl-C leaves it, and the rollout runs on.

    \b
    farshore rollout watch prod-2
    """
    _watch(hub, name)


def _verb(verb: str, said: str, text: str, *, why: bool = False) -> None:
    """A command that steers a rollout."""

    @rollout.command(verb, help=f"{text}\n\n\b\nfarshore rollout {verb} prod-2", short_help=text)
    @click.argument("name")
    @click.option("--reason", default="", hidden=not why, help="Why, for the books.")
    @json_option
    @with_hub
    def steer(hub: Hub, name: str, reason: str, as_json: bool) -> None:
        _said(hub.steer_rollout(name, verb, reason), said, as_json=as_json)


def _said(found: dict[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['id']}: {said.format(**found, number=found['wave'] + 1)}")


def _budget(size: str | None, money: float | None) -> dict[str, Any]:
    """A budget as the API takes it; empty for none."""
    values = {"bytes": None if size is None else parse_size(size), "money": money}
    return {key: value for key, value in values.items() if value is not None}


_verb(
    "pause",
    "paused; who has {model}@{version} keeps it, nobody else gets it",
    "Take no device in any more for now.",
    why=True,
)


@rollout.command()
@click.argument("name")
@BUDGET
@BUDGET_MONEY
@json_option
@with_hub
def resume(hub: Hub, name: str, budget: str | None, budget_money: float | None, as_json: bool) -> None:
    """Go on with a paused rollout, with another budget if one is named.

    \b
    farshore rollout resume prod-2
    farshore rollout resume prod-2 --budget 80MB
    """
    found = hub.steer_rollout(name, "resume", budget=_budget(budget, budget_money))
    _said(found, "running, wave {number} is open", as_json=as_json)


_verb(
    "advance",
    "{state}, wave {number} is open",
    "Open the next wave, whatever the gate says; after the last one switch all devices (blue/green), or be done.",
)
_verb(
    "abort",
    "aborted; who has {model}@{version} keeps it, nobody else gets it",
    "End a rollout where it stands.",
    why=True,
)
_verb(
    "rollback",
    "rolled back; devices return to what they ran before",
    "End a rollout, also one that is done: everybody goes back.",
    why=True,
)


def _watch(hub: Hub, name: str) -> None:
    follow(lambda: hub.rollout(name), lambda found: found["state"] in ENDED, _line, _picture)


def _picture(found: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(_headline(found)), table(columns(found), rows(found)))


def _print(found: dict[str, Any]) -> None:
    print_facts([
        ("rollout", found["id"]), ("brings", _change(found)), ("to", f"deployment {found['deployment']}"),
        ("asked for as", found.get("ref") if found.get("ref") != f"{found['model']}@{found['version']}" else ""),
        ("state", found["state"] + (", before the switch" if found.get("held") else "")),
        ("why", found.get("reason")), ("waits for", found.get("waiting")), ("budget", _taken(found)),
    ])  # fmt: skip
    click.echo()
    print_table(columns(found), rows(found))


def _headline(found: dict[str, Any]) -> str:
    why = found.get("reason") or found.get("waiting") or ""
    return f"{found['id']}: {_change(found)}, {found['state']}" + (f" ({why})" if why else "")


def _line(found: dict[str, Any]) -> str:
    said = found["waves"][found["wave"]]["tally"]
    ready = f"{said['ready']} ready, " if found.get("held") else ""
    figures = f"{said['admitted']} given, {ready}{said['confirmed']} confirmed, {said['failed']} failed"
    return f"{found['id']} {found['state']}: wave {_wave_now(found)}, {figures}" + (
        f"; {found['reason']}" if found.get("reason") else ""
    )


def _wave_now(found: dict[str, Any]) -> str:
    return f"{found['wave'] + 1} of {len(found['waves'])} ({found['waves'][found['wave']]['wave']})"


def _change(found: dict[str, Any]) -> str:
    before = f"@{found['before']} → " if found.get("before") else ""
    return f"{found['model']}{before}@{found['version']}" if before else f"{found['model']}@{found['version']}"


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _money(devices: list[dict[str, Any]]) -> str:
    """The sum of what forecasts cost, by currency; empty without prices."""
    sums: dict[str, float] = {}
    for one in devices:
        if one.get("money"):
            sums[one.get("currency", "")] = sums.get(one.get("currency", ""), 0.0) + one["money"]
    return " + ".join(f"{value:.2f} {currency}".strip() for currency, value in sorted(sums.items()))


def _taken(found: dict[str, Any]) -> str:
    """How much of its budget a rollout has taken; what it moved, where it has none."""
    budget, moved, money = found.get("budget") or {}, found.get("bytes", 0), found.get("money", 0.0)
    parts = [f"{megabytes(moved)} of {megabytes(budget['bytes'])}"] if "bytes" in budget else []
    parts += [f"{money:.2f} of {budget['money']:.2f}"] if "money" in budget else []
    return ", ".join(parts)


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds else ""
