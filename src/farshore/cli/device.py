"""``farshore device``: enrol, look, tag, keep out, remove."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import pairs, with_hub
from farshore.cli.following import follow
from farshore.cli.output import json_option, megabytes, print_facts, print_json, print_table, print_timeline, table
from farshore.core import wire
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from rich.console import RenderableType

    from farshore.client import Hub

MAX_HOURS = 366 * 24


@click.group()
def device() -> None:
    """Devices: enrol them, see what they run, tag them."""


@device.command()
@click.option("--device", "name", help="The only id it may enrol under.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Tag of the new device; repeatable.")
@click.option("--hours", type=float, help="Life of the token.  [default: 24]")
@click.option("--approval", is_flag=True, help="Who uses it waits until `farshore device approve`.")
@click.option("--qr", is_flag=True, help="Show the command as a QR code, too.")
@json_option
@with_hub
def token(
    hub: Hub, name: str | None, tags: tuple[str, ...], hours: float | None, approval: bool, qr: bool, as_json: bool
) -> None:
    """Make a one-time enrolment token, good for one device.

    \b
    farshore device token --device turbine-7 --tag site=oslo
    farshore device token --qr
    """
    if hours is not None and not 0 < hours <= MAX_HOURS:
        raise Invalid(f"--hours {hours:g}: a token lives more than 0 and at most {MAX_HOURS} hours")
    seconds = None if hours is None else math.ceil(hours * 3600)
    found = hub.create_enrolment(name, pairs(tags, "--tag"), seconds, approval=approval, qr=qr)
    if as_json:
        print_json(found)
        return
    click.echo(found["token"])
    click.echo(
        f"\nOn the device, until {found['expires'][:16].replace('T', ' ')} UTC:\n  {found['command']}",
        err=True,
    )
    for line in _drawn(found.get("qr", ())):
        click.echo(line, err=True)


@device.command()
@click.argument("name")
@click.option("--key", required=True, help="Its public key, from `farshore agent --root … --print-key`.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Tag of the new device; repeatable.")
@with_hub
def announce(hub: Hub, name: str, key: str, tags: tuple[str, ...]) -> None:
    """Let the device that holds a key enrol without a token.

    \b
    farshore device announce turbine-7 --key ed25519:… --tag site=oslo
    """
    hub.announce_device(name, key, pairs(tags, "--tag"))
    click.echo(f"{name} may enrol: farshore agent --root /var/lib/farshore --hub {hub.url} --device {name}")


@device.command()
@click.argument("name")
@with_hub
def approve(hub: Hub, name: str) -> None:
    """Let a device in that waits, is quarantined or revoked.

    A device is quarantined when its key was found in use at two places, or its disk was put back to an older state. Of two
    copies the first to come back stays; the other is found out again.

    \b
    farshore device approve turbine-7
    """
    hub.approve_device(name)
    click.echo(f"{name} is accepted")


@device.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; kept and told to the device.")
@with_hub
def quarantine(hub: Hub, name: str, reason: str) -> None:
    """Keep a device out until it is approved again; what runs there goes on running.

    \b
    farshore device quarantine turbine-7 --reason "looks tampered with"
    """
    hub.quarantine_device(name, reason)
    click.echo(f"{name} is quarantined")


@device.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; kept and told to the device.")
@with_hub
def revoke(hub: Hub, name: str, reason: str) -> None:
    """Keep a device out at once; its twin stays, and what runs there goes on running.

    \b
    farshore device revoke turbine-7 --reason stolen
    """
    hub.revoke_device(name, reason)
    click.echo(f"{name} is revoked")


@device.command("list")
@click.option("--where", default="", help="Selector, e.g. \"tags.site = 'oslo'\".")
@click.option("--state", type=click.Choice(["accepted", "pending", "quarantined", "revoked"]), help="Only these.")
@click.option("--running", default="", metavar="MODEL[@N]", help="Only those that run this model, in this version.")
@json_option
@with_hub
def list_(hub: Hub, where: str, state: str | None, running: str, as_json: bool) -> None:
    """List devices with what they run.

    \b
    farshore device list
    farshore device list --where "tags.site = 'oslo' AND NOT tags.gpu = 'none'"
    farshore device list --running detector@2 --state accepted
    """
    model, _, version = running.partition("@")
    items = list(hub.devices(where, state=state or "", model=model, version=version))
    if as_json:
        print_json(items)
        return
    rows = [
        (d["id"], _standing(d), _seen(d), _tags(d.get("tags", {})), "; ".join(_state(*m) for m in _models(d)))
        for d in items
    ]
    print_table(
        ["device", "state", "seen", "tags", "models"],
        rows,
        empty="no devices" + (" match" if where or state or running else " yet: farshore device token"),
    )


@device.command()
@click.option("--where", default="", help="Selector, e.g. \"tags.site = 'oslo'\".")
@json_option
@with_hub
def summary(hub: Hub, where: str, as_json: bool) -> None:
    """Tell how the fleet stands: in figures, what runs, and what wants an operator's eye with the reason.

    \b
    farshore device summary
    farshore device summary --where "tags.site = 'oslo'"
    """
    found = hub.summary(where)
    if as_json:
        print_json(found)
        return
    states = ", ".join(f"{many} {state}" for state, many in sorted(found["states"].items()))
    print_facts(
        [
            ("devices", f"{found['devices']}" + (f" ({states})" if states else "")),
            ("heard of", f"{found['heard']}; {found['silent']} silent, {found['never']} never yet"),
            ("in motion", ", ".join(found["moving"])),
        ]
    )
    rows = [
        (share["model"], one["version"], one["devices"], one["due"] or "")
        for share in found["models"]
        for one in share["versions"]
    ]
    click.echo()
    print_table(["model", ">version", ">run it", ">should and do not"], rows, empty="nothing runs yet")
    for one in found["attention"]:
        whom = one.get("rollout") or one.get("device", "")
        more = f" and {one['devices'] - 1} more" if one.get("devices", 0) > 1 else ""
        click.echo(f"{one['kind']}: {whom}{more}: {one['text']}")


@device.command()
@click.argument("name")
@json_option
@with_hub
def show(hub: Hub, name: str, as_json: bool) -> None:
    """Show a device: tags, and for each model what it should run, runs, and works on.

    \b
    farshore device show turbine-7
    """
    found = hub.device(name)
    if as_json:
        print_json(found)
        return
    print_facts(
        [
            ("device", found["id"]),
            ("state", _standing(found)),
            ("seen", _seen(found)),
            ("enrolled", found["created"][:19].replace("T", " ")),
            ("tags", _tags(found.get("tags", {}))),
        ]
    )
    print_table(_COLUMNS, _rows(found), empty="\nno models")
    if "modules" in found:
        click.echo()
        rows = [(name, held.get("desired", "–"), held.get("current", "–")) for name, held in found["modules"].items()]
        print_table(["module", "desired", "runs"], rows, empty="")


_COLUMNS = ["model", ">desired", "current", "previous", "working on", ">fetched"]


def _rows(found: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for model, want, have in _models(found):
        target = have.target
        rows.append((
            model, want.version if want else "–", _running(have.current), _running(have.previous),
            "" if target is None else _target(target), megabytes(have.fetched),
        ))  # fmt: skip
    return rows


def _picture(found: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(f"{found['id']}, seen {_seen(found)}"), table(_COLUMNS, _rows(found)))


def _now(found: dict[str, Any]) -> str:
    said = [_state(*entry) for entry in _models(found)]
    return f"{found['id']}: {', '.join(said) or 'no models'}"


def _settled(found: dict[str, Any]) -> bool:
    """Whether a device runs what it should, or has given it up."""
    return all(
        have.target.state == "failed" if have.target is not None else _is(have.current, want)
        for _, want, have in _models(found)
    )


def _is(current: wire.Running | None, want: wire.DesiredModel | None) -> bool:
    return (None if current is None else current.digest) == (None if want is None else want.digest)


@device.command()
@click.argument("name")
@click.argument("model", required=False)
@json_option
@with_hub
def why(hub: Hub, name: str, model: str | None, as_json: bool) -> None:
    """Say why a device is on the version of a model that it is on: a short chain of reasons, the first cause last.

    \b
    farshore device why turbine-7
    farshore device why turbine-7 detector
    """
    names = [model] if model else sorted({found for found, *_ in _models(hub.device(name))})
    found = [hub.why(name, one) for one in names]
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one['model']}:")
        for depth, reason in enumerate(one["chain"]):
            click.echo(f"{'  ' * depth}  {'because ' if depth else ''}{reason['text']}")
    if not found:
        click.echo(f"{name} has no models and is told of none: farshore device why {name} MODEL")


@device.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most lines.")
@click.option("--before", type=int, help="Only what came before this serial: the next page.")
@json_option
@with_hub
def timeline(hub: Hub, name: str, limit: int, before: int | None, as_json: bool) -> None:
    """Tell what happened to a device, the newest first.

    \b
    farshore device timeline turbine-7
    """
    print_timeline(hub.device_timeline(name, before, limit), as_json=as_json)


@device.command()
@click.argument("name")
@with_hub
def twin(hub: Hub, name: str) -> None:
    """Print a device's twin as JSON: tags, desired, reported, with versions and metadata.

    \b
    farshore device twin turbine-7
    """
    print_json(hub.twin(name))


@device.command()
@click.argument("name")
@click.option("--until-settled", is_flag=True, help="End when all its models run as they should, or are given up.")
@with_hub
def watch(hub: Hub, name: str, until_settled: bool) -> None:
    """Watch what a device does: in place on a terminal, a line for each change otherwise.

    It goes on over a restart of the hub; Ctrl-C leaves it.

    \b
    farshore device watch turbine-7
    """
    follow(lambda: hub.device(name), lambda found: until_settled and _settled(found), _now, _picture)


@device.command()
@click.argument("name")
@click.argument("tags", nargs=-1, required=True, metavar="K=V…")
@with_hub
def tag(hub: Hub, name: str, tags: tuple[str, ...]) -> None:
    """Set tags of a device; ``K=`` removes one. Deployments follow at its next sync.

    \b
    farshore device tag turbine-7 site=bergen gpu=
    """
    change = {key: value or None for key, value in pairs(tags, "tag").items()}
    found = hub.patch_twin(name, {"tags": change})
    click.echo(f"{name}: {_tags(found['tags']) or 'no tags'}")


@device.command()
@click.argument("name")
@click.argument("model")
@with_hub
def retry(hub: Hub, name: str, model: str) -> None:
    """Let a device try a version again that it gave up.

    \b
    farshore device retry turbine-7 detector
    """
    from farshore.core import twin as twins

    desired = hub.twin(name)["properties"]["desired"]
    key = twins.key_of(model)
    entry = desired.get("models", {}).get(key)
    if entry is None:
        raise Invalid(f"nothing is desired of {model!r} on {name}")
    hub.patch_twin(name, {"properties": {"desired": {"models": {key: {"retry": entry.get("retry", 0) + 1}}}}})
    click.echo(f"{name} tries {model}@{entry['version']} again at its next sync")


@device.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_hub
def delete(hub: Hub, name: str, yes: bool) -> None:
    """Delete a device: its credential ends, its twin is gone. What runs there goes on running.

    \b
    farshore device delete turbine-7
    """
    hub.device(name)
    if not yes:
        click.confirm(f"Delete device {name}?", abort=True)
    hub.delete_device(name)
    click.echo(f"{name} is deleted")


def _drawn(rows: Sequence[str]) -> list[str]:
    """A QR code for a terminal, dark on light whatever its colours, two rows to a line, with the quiet zone that scanners need."""
    if not rows:
        return []
    wide = len(rows[0]) + 8
    every = ["0" * wide] * 4 + [f"0000{row}0000" for row in rows] + ["0" * wide] * 5
    pairs_ = zip(every[::2], every[1::2], strict=False)
    signs = {"00": "█", "01": "▀", "10": "▄", "11": " "}
    return [
        "\x1b[97;40m" + "".join(signs[one + two] for one, two in zip(*pair, strict=True)) + "\x1b[0m" for pair in pairs_
    ]


Entry = tuple[str, wire.DesiredModel | None, wire.ReportedModel]


def _models(found: dict[str, Any]) -> list[Entry]:
    desired = wire.desired_models({"models": found.get("desired", {})})
    reported = wire.reported_models({"models": found.get("reported", {})})
    return [
        (name, desired.get(name), reported.get(name, wire.ReportedModel())) for name in sorted({*desired, *reported})
    ]


def _state(name: str, want: wire.DesiredModel | None, have: wire.ReportedModel) -> str:
    """One model on one device in a few words: ``detector@1 → 2 (downloading 43 %)``."""
    text = f"{name}@{have.current.version}" if have.current else f"{name} –"
    if want and (have.current is None or have.current.digest != want.digest):
        text += f" → {want.version}"
        if have.target is not None:
            text += f" ({_target(have.target, brief=True)})"
    elif have.target is not None:
        text += f" ({have.target.state})"
    return text


def _target(target: wire.Target, *, brief: bool = False) -> str:
    text: str = target.state
    if target.state == "downloading" and target.size:
        text += f" {100 * target.done // target.size} %"
    if target.fault is not None and not brief:
        text += f": {target.fault.message}"
    return text if brief else f"{target.version or '?'} {text}"


def _running(running: wire.Running | None) -> str:
    return "–" if running is None else f"{running.version} ({running.variant})"


def _standing(found: dict[str, Any]) -> str:
    return f"{found['state']}: {found['reason']}" if found.get("reason") else str(found["state"])


def _seen(found: dict[str, Any]) -> str:
    return found["seen"][:19].replace("T", " ") if found.get("seen") else "never"


def _tags(tags: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in tags.items() if not key.startswith("$"))
