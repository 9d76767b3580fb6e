"""``farshore agent``: keep this device on the versions it should run."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import click

from farshore.cli.logs import log_lines


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
    root: Path, hub: str | None, enrol: str | None, print_key: bool, device: str | None, once: bool, verbose: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Keep this device on the versions it should run.

    Reads what the hub wants, fetches only the bytes it lacks, checks them, tries the version beside the running one, switches,
    and goes back by itself if it is worse. Settings may also stand in ROOT/agent/agent.toml or in FARSHORE_… variables.

    \b
    farshore agent --root /var/lib/farshore --hub https://hub.example --enrol TOKEN --device turbine-7
    farshore agent --root /var/lib/farshore                      from then on
    farshore agent --root /var/lib/farshore --print-key          for `farshore device announce`
    farshore agent --root /var/lib/farshore --window 22:00-06:00 --rate 64kB
    """
    from farshore.agent import device as machine
    from farshore.agent import identity, loop
    from farshore.agent.settings import Settings

    log_lines(verbose=verbose)
    given["windows"] = given["windows"] or None
    settings = Settings.load(root, {"hub": hub, **given})
    if print_key:
        click.echo(identity.settle_key(settings).public)
        return
    if enrol or (hub and device):
        identity.enrol(settings, enrol or "", device or _host(), boot=machine.boot())
    loop.run(settings, once=once)


def _host() -> str:
    """This machine's name as a device id."""
    return re.sub(r"[^a-z0-9._-]", "-", socket.gethostname().lower()).lstrip("-._")[:63] or "device"
