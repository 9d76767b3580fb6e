"""``farshore iothub``: devices and modules that speak Azure IoT Hub's dialect, at this hub."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import pairs, with_hub
from farshore.cli.output import json_option, print_facts, print_json, print_table
from farshore.cli.workload import workload
from farshore.core.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from farshore.client import Hub

CA = "farshore-ca.pem"
MAX_TEXT = 64 << 10
_MODULE = click.option("--module", default="", help="A module of the device.  [default: the device itself]")


@click.group()
def iothub() -> None:
    """Devices and services that speak Azure IoT Hub's dialect: connection strings, methods, messages."""


iothub.add_command(workload)


@iothub.command("connection-string")
@click.argument("name", metavar="DEVICE")
@_MODULE
@click.option("--create", is_flag=True, help="Make the device, if there is none of that name.")
@click.option("--host", default="", help="Name of the hub that the client is to use.  [default: its first]")
@click.option("--gateway", default="", help="Where the client is to connect, when that is another name.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(CA),
    show_default=True,
    help="Where the authority to trust is written.",
)
@json_option
@with_hub
def connection_string(
    hub: Hub, name: str, module: str, create: bool, host: str, gateway: str, ca_file: Path, as_json: bool
) -> None:
    """Print what an Azure IoT SDK needs to connect as a device or module.

    A device that has no IoT Hub identity gets one. The connection string goes to standard output alone, so that a script can
    take it; the authority's certificate is written beside.

    \b
    farshore iothub connection-string turbine-7 --create
    farshore iothub connection-string turbine-7 --module farshore --ca-file /etc/farshore/ca.pem
    """
    found = hub.connection(name, module, host, gateway, create=create)
    _write(ca_file, found["ca"])
    if as_json:
        print_json({**found, "ca_file": str(ca_file.absolute())})
        return
    click.echo(found["connection_string"])
    click.echo(f"authority to trust: {ca_file.absolute()}", err=True)
    if found["port"] != 8883:
        click.echo(f"MQTT is at port {found['port']}; most SDKs know 8883 alone", err=True)


@iothub.command()
@click.argument("name", metavar="DEVICE")
@click.argument("method")
@click.argument("payload", required=False, metavar="[JSON]")
@_MODULE
@click.option(
    "--seconds", type=click.FloatRange(1, 300), default=30.0, show_default=True, help="To wait for the answer."
)
@click.option(
    "--connect-seconds",
    type=click.FloatRange(0, 300),
    default=0.0,
    show_default=True,
    help="To wait for it to connect.",
)
@json_option
@with_hub
def call(
    hub: Hub,
    name: str,
    method: str,
    payload: str | None,
    module: str,
    seconds: float,
    connect_seconds: float,
    as_json: bool,
) -> None:
    """Call a direct method of a device or module, and print what it answers.

    \b
    farshore iothub call turbine-7 reboot
    farshore iothub call turbine-7 setInterval '{"seconds": 5}' --module sensor
    """
    found = hub.call_method(
        name, method, _json(payload), module=module, seconds=seconds, connect_seconds=connect_seconds
    )
    if as_json:
        print_json(found)
        return
    click.echo(f"status {found['status']}")
    if found.get("payload") is not None:
        print_json(found["payload"])


@iothub.command()
@click.argument("name", metavar="DEVICE")
@click.argument("text", required=False)
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Send this file's bytes instead.")
@click.option("--property", "properties", multiple=True, metavar="K=V", help="Of the message; repeatable.")
@click.option("--module", default="", help="A module of the device; with --input.")
@click.option("--input", "input_", default="", help="Input of the module.")
@click.option(
    "--hours", type=click.FloatRange(0.01, 168), default=168.0, show_default=True, help="How long it may wait."
)
@json_option
@with_hub
def send(
    hub: Hub, name: str, text: str | None, path: Path | None, properties: tuple[str, ...], module: str, input_: str,
    hours: float, as_json: bool,
) -> None:  # fmt: skip
    """Send a message to a device, or to an input of a module. It waits at the hub until it is taken.

    \b
    farshore iothub send turbine-7 'stop at once' --property urgency=high
    farshore iothub send turbine-7 --module filter --input frames --file frame.jpg
    """
    if (text is None) == (path is None):
        raise Invalid("give the message as TEXT, or with --file")
    body: dict[str, Any] = {"properties": pairs(properties, "--property"), "module": module, "input": input_}
    body["seconds"] = max(int(hours * 3600), 1)
    if path is not None:
        body["base64"] = base64.b64encode(_read(path)).decode()
    else:
        body["text"] = text
    found = hub.send_message(name, body)
    if as_json:
        print_json(found)
        return
    click.echo(f"message {found['serial']} waits for {name} until {_when(found['expires'])} UTC")


@iothub.command()
@click.argument("name", metavar="DEVICE")
@_MODULE
@json_option
@with_hub
def waiting(hub: Hub, name: str, module: str, as_json: bool) -> None:
    """List messages that wait for a device.

    \b
    farshore iothub waiting turbine-7
    """
    _print(hub.waiting(name, module), as_json, empty="nothing waits")


@iothub.command()
@click.argument("name", metavar="[DEVICE]", required=False, default="")
@click.option("--after", type=int, default=0, help="Serial to begin after.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Most messages.")
@json_option
@with_hub
def messages(hub: Hub, name: str, after: int, limit: int, as_json: bool) -> None:
    """List messages that devices and modules sent, the oldest first. The hub keeps the newest 100 000.

    \b
    farshore iothub messages
    farshore iothub messages turbine-7 --after 1200 --json
    """
    _print(hub.messages(name, after, limit), as_json, empty="no messages")


@iothub.command()
@click.option("--registration", default="", metavar="ID", help="Print the key of this registration, too.")
@click.option("--ca-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the authority to trust here.")
@json_option
@with_hub
def provisioning(hub: Hub, registration: str, ca_file: Path | None, as_json: bool) -> None:
    """Show how devices provision themselves, as with Azure's DPS: id scope and key of this hub's one group.

    \b
    farshore iothub provisioning --registration turbine-8
    """
    found = hub.provisioning(registration)
    if ca_file is not None:
        _write(ca_file, found["ca"])
    if as_json:
        print_json(found)
        return
    print_facts(
        [
            ("id scope", found["scope"]),
            ("host", f"{found['host']}:{found['port']}"),
            ("group key", found["key"]),
            ("registration", found.get("registration")),
            ("its key", found.get("registration_key")),
        ]
    )


def _print(found: list[dict[str, Any]], as_json: bool, *, empty: str) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["serial"],
            _when(one["at"]),
            _who(one),
            one.get("output") or one.get("input") or "",
            _bag(one),
            _short(one),
        )
        for one in found
    ]
    print_table([">serial", "at", "device", "place", "properties", "body"], rows, empty=empty)


@iothub.group()
def policy() -> None:
    """Shared access policies: by their keys, services reach this hub as they would reach an Azure IoT Hub."""


@policy.command()
@click.argument("name", required=False, default="iothubowner")
@json_option
@with_hub
def show(hub: Hub, name: str, as_json: bool) -> None:
    """Print a policy's connection string, for the service SDKs and the az command.

    NAME is iothubowner unless it is given; the others are service, device, registryRead and registryReadWrite. It goes to
    standard output alone. The keys lie with the hub's other secrets: whoever holds one may do all that the policy may.

    \b
    farshore iothub policy show
    farshore iothub policy show service --json
    """
    policies = {one["name"]: one for one in hub.policies()}
    if name not in policies:
        raise Invalid(f"no policy {name!r}: there are {', '.join(policies)}")
    found = policies[name]
    if as_json:
        print_json(found)
        return
    click.echo(found["connection_string"])
    click.echo(f"may: {', '.join(found['rights'])}", err=True)
    if hub.url.startswith("http:"):
        click.echo("this hub speaks plain HTTP, and services' SDKs HTTPS alone: see `farshore hub --help`", err=True)


@policy.command()
@click.argument("name")
@click.option("--both", is_flag=True, help="Make the secondary key anew as well, as for a key that was stolen.")
@json_option
@with_hub
def renew(hub: Hub, name: str, both: bool, as_json: bool) -> None:
    """Make a policy's primary key anew, and print its connection string. The one before works on until the next time.

    \b
    farshore iothub policy renew service
    farshore iothub policy renew iothubowner --both
    """
    found = hub.renew_policy(name, both=both)
    if as_json:
        print_json(found)
    else:
        click.echo(found["connection_string"])


def _who(one: dict[str, Any]) -> str:
    return f"{one['device']}/{one['module']}" if one.get("module") else str(one["device"])


def _bag(one: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in one.get("properties", {}).items() if not key.startswith("$."))


def _short(one: dict[str, Any]) -> str:
    import json

    body = json.dumps(one["json"], ensure_ascii=False) if "json" in one else one.get("text")
    if body is None:
        return f"{len(base64.b64decode(one.get('base64', '')))} bytes"
    return body if len(body) <= 80 else f"{body[:79]}…"


def _when(text: str) -> str:
    return text[:19].replace("T", " ")


def _json(text: str | None) -> Any:
    import json

    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise Invalid(f"the payload is no JSON: {error}") from None


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_TEXT:
        raise Invalid(f"{path}: {len(data)} bytes; at most {MAX_TEXT} fit into a message")
    return data


def _write(path: Path, pem: str) -> None:
    from farshore.store import files

    try:
        if not path.exists() or path.read_text() != pem:
            files.write_atomic(path.absolute(), pem.encode(), mode=0o644)
    except OSError as error:
        raise Unavailable(f"{os.fspath(path)}: {error.strerror}") from error
