"""``farshore agent``: keep this device on the versions it should run."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.logs import log_lines
from farshore.core.errors import Invalid

if TYPE_CHECKING:
    from farshore.agent.settings import Settings


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    required=True,
    envvar="FARSHORE_ROOT",
    help="The device's folder; the inference server shares it.",
)
@click.option("--hub", help="URL of the hub; needed once, at enrolment.")
@click.option(
    "--enrol", metavar="TOKEN", help="One-time enrolment token. Ignored when this device is enrolled already."
)
@click.option("--print-key", is_flag=True, help="Print this device's public key, made if need be, and end.")
@click.option("--device", help="Id to enrol under.  [default: this host's name]")
@click.option(
    "--link",
    type=click.Choice(["hub", "azure"]),
    help="A Farshore hub, or an Azure IoT Hub with a store that `farshore azure publish` fills.  [default: hub]",
)
@click.option(
    "--connection",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File with this device's or module's connection string.  [default: IoT Edge's environment]",
)
@click.option(
    "--classic",
    metavar="MODEL",
    help="Believe the twin's FileName, DownloadUrl and ContentMD5, which nobody signs, for this one model.",
)
@click.option("--websockets", is_flag=True, default=None, help="Reach the IoT Hub through port 443.")
@click.option(
    "--serve", type=click.Choice(["socket", "none"]), help="Whether an inference server runs here.  [default: socket]"
)
@click.option("--ca", type=click.Path(path_type=Path), help="PEM file with the only authorities to believe.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="PEM file with this device's TLS certificate and its key, for a hub that asks for one.",
)
@click.option("--insecure-http", is_flag=True, default=None, help="Speak plain HTTP to a hub on another machine.")
@click.option("--rate", help="Most bytes a second that downloads may use, e.g. 64kB.")
@click.option(
    "--window", "windows", multiple=True, help="Time of day in which bytes may be moved, e.g. 22:00-06:00; repeatable."
)
@click.option("--quota", help="Most bytes that models may take on disk, e.g. 2GB.")
@click.option("--keep-free", help="Bytes of the disk that are never filled.  [default: 256MiB]")
@click.option("--trial", type=float, help="Seconds a new version must answer before it is confirmed.  [default: 60]")
@click.option("--wait", type=int, help="Seconds an idle sync may be held by the hub.  [default: 55]")
@click.option("--poll", type=float, help="Seconds between syncs while there is work.  [default: 30]")
@click.option("--once", is_flag=True, help="Sync, do what can be done now, report, and end.")
@click.option("--verbose", "-v", is_flag=True, help="Say more.")
def agent(
    root: Path, hub: str | None, enrol: str | None, print_key: bool, device: str | None, connection: Path | None,
    once: bool, verbose: bool, **given: Any,
) -> None:  # fmt: skip
    """Keep this device on the versions it should run.

    Reads what the hub wants, fetches only the bytes it lacks, checks them, tries the version beside the running one, switches,
    and goes back by itself if it is worse. Settings may also stand in ROOT/agent/agent.toml or in FARSHORE_… variables.

    \b
    farshore agent --root /var/lib/farshore --hub https://hub.example --enrol TOKEN --device turbine-7
    farshore agent --root /var/lib/farshore                      from then on
    farshore agent --root /var/lib/farshore --print-key          for `farshore device announce`
    farshore agent --root /var/lib/farshore --window 22:00-06:00 --rate 64kB
    farshore agent --root /var/lib/farshore --link azure --connection module.txt --enrol TOKEN
    """
    from farshore.agent import device as machine
    from farshore.agent import identity, loop
    from farshore.agent.settings import Settings

    log_lines(verbose=verbose)
    given["windows"] = given["windows"] or None
    given["connection"] = None if connection is None else _connection(connection)
    settings = Settings.load(root, {"hub": hub, **given})
    if print_key:
        click.echo(identity.settle_key(settings).public)
        return
    if settings.link == "azure":
        _enrol_at_azure(settings, enrol or "")
    elif enrol or (hub and device):
        identity.enrol(settings, enrol or "", device or _host(), boot=machine.boot())
    loop.run(settings, once=once)


def _enrol_at_azure(settings: Settings, token: str) -> None:
    """Pin the trust root at the first start. The IoT Hub knows the device already, and gives its name."""
    from msgspec.structs import replace

    from farshore.agent import azure_link, identity

    link = azure_link.open_link(settings)
    try:
        identity.enrol(replace(settings, hub=link.hub), "" if settings.classic else token, link.device, link)
    finally:
        link.close()


def _connection(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: no connection string can be read from it ({error})") from error


def _host() -> str:
    """This machine's name as a device id."""
    return re.sub(r"[^a-z0-9._-]", "-", socket.gethostname().lower()).lstrip("-._")[:63] or "device"
