"""``farshore settings``: what devices heed, in layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farshore.agent.settings import parse_size
from farshore.cli.connection import with_hub
from farshore.cli.output import json_option, print_json, print_table
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from farshore.client import Hub

SIZES = ("rate", "day", "month")


@click.group()
def settings() -> None:
    """What devices heed, in layers: of several that match a device the highest priority wins, setting by setting.

    Lowest of all is the device's link (farshore link set), highest what an operator writes into its twin (desired.settings). Of these
    and the device's own agent.toml the stricter holds.
    """


@settings.command("set")
@click.argument("name")
@click.argument("values", nargs=-1, required=True, metavar="SETTING=VALUE...")
@click.option("--to", "selector", default="*", show_default=True, help="Devices that heed it: a selector.")
@click.option("--priority", type=click.IntRange(0), default=0, show_default=True, help="The highest wins.")
@json_option
@with_hub
def set_(hub: Hub, name: str, values: tuple[str, ...], selector: str, priority: int, as_json: bool) -> None:
    """Set what devices heed: rate (bytes a second), windows (times of day in which bytes may be moved), day and month (bytes).

    \b
    farshore settings set night windows=22:00-06:00
    farshore settings set oslo rate=64kB day=50MB --to "tags.site = 'oslo'" --priority 10
    """
    found = hub.put_settings(name, selector=selector, priority=priority, settings=dict(map(_setting, values)))
    if as_json:
        print_json(found)
    else:
        click.echo(f"{name}: {_text(found['settings'])} for {found['selector']}, priority {found['priority']}")


@settings.command("list")
@json_option
@with_hub
def list_(hub: Hub, as_json: bool) -> None:
    """List layers of settings, highest priority first.

    \b
    farshore settings list
    """
    found = hub.settings()
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["priority"], one["selector"], _text(one["settings"]))
        for one in sorted(found, key=lambda one: (-one["priority"], one["id"]))
    ]
    print_table(
        ["name", ">priority", "to", "settings"], rows, empty="none yet: farshore settings set night windows=22:00-06:00"
    )


@settings.command()
@click.argument("name")
@with_hub
def delete(hub: Hub, name: str) -> None:
    """Delete a layer of settings.

    \b
    farshore settings delete night
    """
    hub.delete_settings(name)
    click.echo(f"{name} is deleted")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"{text[:40]!r}: write SETTING=VALUE, as rate=64kB or windows=22:00-06:00")
    if name == "windows":
        return name, [part.strip() for part in value.split(",") if part.strip()]
    return name, parse_size(value) if name in SIZES else value


def _text(values: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in sorted(values.items())
    )
