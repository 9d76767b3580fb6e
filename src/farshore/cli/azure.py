"""``farshore azure``: devices on somebody else's IoT Hub, with a storage account between them and us."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farshore.cli.connection import with_hub
from farshore.cli.logs import log_lines
from farshore.cli.output import json_option, megabytes, print_json, print_table
from farshore.core.errors import FarshoreError, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from farshore.client import Hub
    from farshore.client.iothub import IotHub
    from farshore.core.dispatch import Dispatch

MODULE = "farshore"
_STORE = click.option(
    "--store",
    required=True,
    envvar="FARSHORE_AZURE_STORE",
    help="Container that devices fetch from, az://CONTAINER[/PREFIX]; its account and key from AZURE_STORAGE_….",
)
_MODULE = click.option("--module", default=MODULE, show_default=True, help="Module identity that the agent runs as.")


def with_iothub(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``--iothub`` and ``--iothub-ca``, and as ``iothub`` the client they make, or None."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--iothub",
            "connection",
            envvar="FARSHORE_IOTHUB",
            help="Connection string of a service policy of the IoT Hub, or @FILE.  [env: FARSHORE_IOTHUB]",
        )
        @click.option(
            "--iothub-ca",
            "iothub_ca",
            type=click.Path(path_type=Path),
            help="PEM file with the only authorities to believe at the IoT Hub.",
        )
        @wraps(command)
        def wrapped(*given: Any, connection: str | None, iothub_ca: Path | None, **more: Any) -> Any:
            from farshore.client.iothub import IotHub

            if not connection and required:
                raise Invalid(
                    "which IoT Hub? give --iothub or FARSHORE_IOTHUB, a connection string of its service policy"
                )
            made = IotHub(_read(connection), iothub_ca) if connection else None
            try:
                return command(*given, iothub=made, **more)
            finally:
                if made is not None:
                    made.close()

        return wrapped

    return decorate


@click.group()
def azure() -> None:
    """Devices on an Azure IoT Hub, with their models in Blob Storage.

    \b
    farshore azure publish --where "tags.site = 'oslo'" --store az://models
    farshore azure answer --store az://models
    farshore agent --root /var/lib/farshore --link azure --connection module.txt
    """


@azure.command()
@click.argument("devices", nargs=-1)
@click.option("--where", default="", help='Selector of more devices, e.g. "tags.site = \'oslo\'"; "*" for all.')
@_STORE
@_MODULE
@click.option("--create", is_flag=True, help="Make the module's identity where it is missing.")
@click.option("--configuration", metavar="NAME", help="Write one configuration for all of them, not each one's twin.")
@click.option(
    "--target", default="", help="Condition on the twins that the configuration is for.  [default: all of the module's]"
)
@click.option("--priority", default=10, show_default=True, help="Of the configuration.")
@json_option
@with_hub
@with_iothub(required=False)
def publish(
    hub: Hub, devices: tuple[str, ...], where: str, store: str, module: str, create: bool, configuration: str | None,
    target: str, priority: int, as_json: bool, iothub: IotHub | None,
) -> None:  # fmt: skip
    """Bring to a container what the hub wants of devices: signed orders, metadata, manifests, files and patches; and say in their twins
    that there is something new. What devices report there is passed on to the hub. Run it after each change, and at least once a day, as
    signatures live for a week; what still holds is left as it is.

    \b
    farshore azure publish turbine-7 --store az://models
    farshore azure publish --where "*" --store az://models --configuration fleet --target "tags.site = 'oslo'"
    """
    from farshore.client.dispatches import HubSource, Publisher, pass_on
    from farshore.store.objects import Objects

    names = list(dict.fromkeys([*devices, *(one["id"] for one in (hub.devices(where) if where else ()))]))
    if not names:
        raise Invalid("which devices? name them, or give --where")
    heard = 0 if iothub is None else sum(pass_on(iothub, hub, name, module) for name in names)
    with tempfile.TemporaryDirectory() as scratch:
        publisher = Publisher(HubSource(hub), Objects.open(store), Path(scratch))
        made = publisher.publish(names, time.time(), together=configuration is not None)
    told = made if configuration is None or publisher.news else []
    if iothub is not None:
        _tell(iothub, told, module, create=create, configuration=configuration, target=target, priority=priority)
    root = _token(publisher.root)
    if as_json:
        found = [{"device": one.device, "dispatch": one.number, "models": _models(one)} for one in made]
        print_json(
            {"devices": found, "reports": heard, "sent": publisher.sent, "patches_left": publisher.left, "token": root}
        )
        return
    print_table(("device", "dispatch", "models"), [(one.device, str(one.number), _shown(one)) for one in made])
    click.echo(f"{megabytes(publisher.sent)} sent to {store}; all else was there")
    if heard:
        click.echo(f"{heard} devices had something to report: the hub knows it now")
    if publisher.left:
        click.echo(f"{publisher.left} patches left out: reading them takes a viewer of all fleets", err=True)
    if iothub is None:
        click.echo("no twin was told of it: give --iothub", err=True)
    click.echo(f"a device's first start: farshore agent --link azure --root … --connection … --enrol {root}", err=True)


@azure.command()
@_STORE
@click.option("--seconds", default=600, show_default=True, type=click.IntRange(10, 86400), help="Life of an address.")
@click.option(
    "--every", default=5.0, show_default=True, type=click.FloatRange(0.2, 3600), help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Look once, answer, and end.")
@with_iothub(required=True)
def answer(iothub: IotHub, store: str, seconds: int, every: float, once: bool) -> None:
    """Give devices the short-lived addresses (SAS) that they ask for: of what was published for them, and nothing else.

    It asks the IoT Hub every few seconds, needs no way in from outside and no hub of ours, and keeps nothing: run one or several.

    \b
    farshore azure answer --store az://models
    """
    from farshore.client.answers import Answerer
    from farshore.store.objects import Objects

    log_lines()
    objects = Objects.open(store)
    if not objects.signs:
        raise Invalid(f"{store} cannot sign addresses: use az://, s3:// or gs://")
    answerer = Answerer(iothub, objects, seconds)
    while True:
        try:
            found = answerer.round()
        except FarshoreError as error:
            if once or not isinstance(error, Unavailable):
                raise
            click.echo(f"{error.message}; again in {every:g} s", err=True)
            found = 0
        if found:
            click.echo(f"{found} answered")
        if once:
            return
        time.sleep(every)


@azure.command()
@_MODULE
@json_option
@with_iothub(required=True)
def status(iothub: IotHub, module: str, as_json: bool) -> None:
    """What the IoT Hub's twins say: which dispatch a device was told of, and what it runs.

    \b
    farshore azure status
    """
    from farshore.client.iothub import quoted

    rows = []
    for row in iothub.query(f"SELECT * FROM devices.modules WHERE moduleId = {quoted(module)}"):  # noqa: S608 - quoted
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            told = row["properties"]["desired"].get("farshore", {}).get("dispatch")
            models = row["properties"]["reported"].get("models", {})
            running = {name: (entry.get("current") or {}).get("version") for name, entry in models.items()}
            states = {name: (entry.get("target") or {}).get("state") for name, entry in models.items()}
            rows.append({"device": row["deviceId"], "dispatch": told, "running": running, "states": states})
    if as_json:
        print_json(rows)
        return
    print_table(
        ("device", "dispatch", "runs", "does"),
        [
            (
                row["device"],
                "" if row["dispatch"] is None else str(row["dispatch"]),
                ", ".join(f"{name}@{number}" for name, number in row["running"].items() if number),
                ", ".join(f"{name}: {state}" for name, state in row["states"].items() if state),
            )
            for row in rows
        ],
    )


def _tell(
    iothub: IotHub, made: Iterable[Dispatch], module: str, *, create: bool, configuration: str | None, target: str, priority: int,
) -> None:  # fmt: skip
    from farshore.client.dispatches import pointer
    from farshore.client.iothub import configure
    from farshore.core.dispatch import SECTION

    every = list(made)
    if not every:
        return
    for one in every if create else ():
        iothub.put_module(one.device, module)
    if configuration is not None:
        configure(iothub, configuration, module, target, priority, every[0].number)
        return
    for one in every:
        try:
            known = iothub.twin(one.device, module)["properties"]["desired"]
            if known.get(SECTION) != pointer(one)[SECTION]:
                iothub.patch_twin(one.device, module, {"properties": {"desired": pointer(one)}})
        except NotFound as error:
            raise NotFound(f"the IoT Hub has no module {module!r} on {one.device}: --create makes it") from error


def _models(one: Dispatch) -> dict[str, int]:
    from farshore.core import wire

    return {name: want.version for name, want in sorted(wire.desired_models(one.desired).items())}


def _shown(one: Dispatch) -> str:
    return ", ".join(f"{name}@{number}" for name, number in _models(one).items()) or "none"


def _token(root: str) -> str:
    """What a device pins the trust root by; it holds no secret."""
    from farshore.core.invitation import Invitation

    return str(Invitation("pinned-root-only", root=root))


def _read(given: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{given[1:]}: no connection string can be read from it ({error})") from error
