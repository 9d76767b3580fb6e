"""``farshore deployment``: standing rules of what runs where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import with_hub
from farshore.cli.output import json_option, print_facts, print_json, print_table

if TYPE_CHECKING:
    from farshore.client import Hub

MODEL = click.option(
    "--model", "ref", required=True, metavar="REF", help="NAME@3, NAME@ALIAS or NAME; resolved now and recorded."
)
SELECTOR = click.option(
    "--to", "selector", default="*", show_default=True, help="Devices it applies to: a selector, or * for all."
)
PRIORITY = click.option("--priority", default=0, show_default=True, help="Of several that match, the highest wins.")


@click.group()
def deployment() -> None:
    """Standing rules: devices that match run that version of a model."""


@deployment.command()
@click.argument("name")
@MODEL
@SELECTOR
@PRIORITY
@click.option(
    "--activate-in",
    "activate",
    multiple=True,
    metavar="WINDOW",
    help="Devices download at any time and switch at this time of day: 02:00-04:00 (theirs), 02:00-04:00Z (UTC); `always` takes that back.",
)
@click.option(
    "--classic",
    default="",
    metavar="MODULE",
    help="Tell this module of the devices, in the contract of Microsoft's guide: FileName, DownloadUrl, ContentMD5 of a ZIP file.",
)
@json_option
@with_hub
def create(
    hub: Hub,
    name: str,
    ref: str,
    selector: str,
    priority: int,
    activate: tuple[str, ...],
    classic: str,
    as_json: bool,
) -> None:
    """Create a deployment, or change the one of that name.

    \b
    farshore deployment create prod --model detector@champion --to "tags.site = 'oslo'"
    farshore deployment create trial --model detector@3 --to "deviceId IN ['turbine-7']" --priority 10
    farshore deployment create prod --model detector@4 --activate-in 02:00-04:00
    farshore deployment create cameras --model detector@4 --classic downloader
    """
    found = hub.put_deployment(
        name, model=ref, selector=selector, priority=priority, activate=windows_of(activate), classic=classic
    )
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{found['id']}: {found['model']}@{found['version']} to {found['selector']}, priority {found['priority']}"
            + (f", told to module {classic}" if classic else "")
        )


@deployment.command("list")
@json_option
@with_hub
def list_(hub: Hub, as_json: bool) -> None:
    """List deployments, most urgent first."""
    items = hub.deployments()
    if as_json:
        print_json(items)
        return
    print_table(
        ["deployment", "model", "to", ">priority", "changed"],
        [(d["id"], _version(d), d["selector"], d["priority"], d["changed"][:19].replace("T", " ")) for d in items],
        empty="no deployments yet: farshore deployment create NAME --model REF --to SELECTOR",
    )


@deployment.command()
@click.argument("name")
@json_option
@with_hub
def show(hub: Hub, name: str, as_json: bool) -> None:
    """Show a deployment, and how many devices hold its version."""
    found = hub.deployment(name)
    if as_json:
        print_json(found)
        return
    print_facts([
        ("deployment", found["id"]), ("model", _version(found)), ("to", found["selector"]), ("told to module", found.get("classic", "")),
        ("labels", ", ".join(f"{key}={value}" for key, value in found.get("labels", {}).items())),
        ("priority", found["priority"]), ("activated in", ", ".join(found.get("activate", []))), ("changed", found["changed"][:19].replace("T", " ")),
        *((f"devices, {role}", count) for role, count in found.get("devices", {}).items()),
    ])  # fmt: skip


@deployment.command()
@click.argument("name")
@with_hub
def delete(hub: Hub, name: str) -> None:
    """Delete a deployment: the next one of lower priority holds then; with none, the model is removed from the device.

    \b
    farshore deployment delete trial
    """
    hub.delete_deployment(name)
    click.echo(f"{name} is deleted")


def windows_of(given: tuple[str, ...]) -> list[str] | None:
    """Windows as the API takes them: none at all for ``always``, None where nothing was said."""
    return [] if given == ("always",) else list(given) or None


def _version(found: dict[str, Any]) -> str:
    exact = f"{found['model']}@{found['version']}"
    return exact if found["ref"] == exact else f"{exact} (asked for as {found['ref']})"
