"""``farshore device``, its first half: who comes in, who is kept out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import pairs, with_hub
from farshore.cli.output import json_option, print_json, print_table
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from farshore.client import Hub

MAX_HOURS = 366 * 24


@click.command()
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


@click.command()
@click.option("--delete", "gone", metavar="ID", help="Make this one useless.")
@json_option
@with_hub
def tokens(hub: Hub, gone: str | None, as_json: bool) -> None:
    """List enrolment tokens, used and unused; the tokens themselves are told only when they are made.

    \b
    farshore device tokens
    farshore device tokens --delete e-4f1c2e9
    """
    if gone is not None:
        hub.delete_enrolment(gone)
        click.echo(f"{gone} is useless")
        return
    found = hub.enrolments()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["id"],
            one.get("device", ""),
            tags_of(one.get("tags", {})),
            one["expires"][:16].replace("T", " "),
            one.get("used_by", ""),
        )
        for one in found
    ]
    print_table(["token", "device", "tags", "good until", "used by"], rows, empty="no tokens: farshore device token")


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


def tags_of(tags: dict[str, Any]) -> str:
    """Tags in one line."""
    return ", ".join(f"{key}={value}" for key, value in tags.items() if not key.startswith("$"))


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


COMMANDS = (token, tokens, announce, approve, quarantine, revoke)
