"""``farshore device``: enrol, look, tag, keep out, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import click

from farshore.cli import admission
from farshore.cli.admission import tags_of
from farshore.cli.connection import pairs, with_hub
from farshore.cli.following import follow
from farshore.cli.output import json_option, megabytes, print_facts, print_json, print_table, print_timeline, table
from farshore.core import documents, wire
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from rich.console import RenderableType

    from farshore.client import Hub


@click.group()
def device() -> None:
    """Devices: enrol them, see what they run, tag them."""


for command in admission.COMMANDS:
    device.add_command(command)


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
        (d["id"], _standing(d), _seen(d), tags_of(d.get("tags", {})), "; ".join(_state(*m) for m in _models(d)))
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
            ("tags", tags_of(found.get("tags", {}))),
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
@click.option("--merge", type=click.File("rb"), metavar="FILE", help="Merge this JSON into it; null deletes.")
@click.option(
    "--replace", type=click.File("rb"), metavar="FILE", help="Replace tags and desired by those in this JSON."
)
@with_hub
def twin(hub: Hub, name: str, merge: BinaryIO | None, replace: BinaryIO | None) -> None:
    """Print a device's twin as JSON: tags, desired, reported, with versions and metadata. Or change its tags and desired.

    A twin that was printed, edited and given back replaces what it was read from: if somebody changed it meanwhile, it is refused.

    \b
    farshore device twin turbine-7
    farshore device twin turbine-7 > twin.json && $EDITOR twin.json && farshore device twin turbine-7 --replace twin.json
    echo '{"properties": {"desired": {"interval": 30}}}' | farshore device twin turbine-7 --merge -
    """
    if merge is not None and replace is not None:
        raise Invalid("--merge and --replace: one of them")
    given = merge or replace
    if given is None:
        print_json(hub.twin(name))
        return
    read = documents.decode(given.read(documents.MAX_DOCUMENT + 1), dict[str, Any], what=given.name)
    etag = read.get("etag") if isinstance(read.get("etag"), str) else None
    print_json((hub.put_twin if replace else hub.patch_twin)(name, read, etag))


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
    click.echo(f"{name}: {tags_of(found['tags']) or 'no tags'}")


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
