"""``farshore up``: the small world of the demonstration, left running to play with."""

from __future__ import annotations

import time
from pathlib import Path

import click

from farshore.cli import world as worlds
from farshore.cli.connection import environment_hint
from farshore.cli.demo import MODEL, RATE
from farshore.cli.world import World, wait_for
from farshore.core import wire
from farshore.core.errors import Unavailable


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("farshore-up"),
    show_default=True,
    help="Folder of hub and devices; kept, and emptied at the next start.",
)
@click.option("--port", type=int, default=8400, show_default=True, help="TCP port of the hub.")
@click.option("--seconds", type=float, help="End by itself after so long.")
def up(data: Path, port: int, seconds: float | None) -> None:
    """Start a hub and two devices on this machine and leave them running.

    Prints what to try next. Ctrl-C ends it all.
    """
    with World(worlds.fresh(data), rate=RATE * 10, port=port) as world:
        click.echo("starting a hub and two devices …")
        world.start_hub()
        devices = [
            world.add_device("turbine-7", {"site": "oslo"}, runtimes="onnxruntime"),
            world.add_device("buoy-12", {"site": "bergen"}, runtimes="litert"),
        ]
        world.hub.push(MODEL, [worlds.assets() / "v1"], alias="champion")
        world.hub.put_deployment("prod", model=f"{MODEL}@champion", selector="*")
        for device in devices:

            def running(name: str = device.name) -> bool:
                told = wire.reported_models(world.hub.twin(name)["properties"]["reported"]).get(MODEL)
                return told is not None and told.current is not None

            wait_for(running, 60, f"{device.name} runs {MODEL}", device.agent)
        picture = min((worlds.assets() / "pictures").glob("*.jpg"))
        token = (data / "hub" / "admin.token").absolute()
        click.echo(f"""
The hub is at {world.url}: open it in a browser, and log in with the token in {token}.
Its API is told at {world.url}/docs, its devices are {" and ".join(f"{d.name} at {d.url}" for d in devices)}.
Logs are in {data}/. Ctrl-C ends it all. In another terminal:

  {environment_hint(world.url, token)}
  farshore device list
  farshore model show {MODEL}
  curl --data-binary @{picture} {devices[0].url}/score

  farshore model push {MODEL} {worlds.assets() / "v2"}
  farshore model diff {MODEL}@1 {MODEL}@2
  farshore deployment create prod --model {MODEL}@2
  farshore device show {devices[0].name}

  farshore model push {MODEL} {worlds.assets() / "v3"}        # a broken one
  farshore deployment create prod --model {MODEL}@3
  farshore device list                                        # refused, version 2 goes on
""")
        _stay(world, seconds)


def _stay(world: World, seconds: float | None) -> None:
    until = time.monotonic() + (seconds if seconds is not None else float("inf"))
    try:
        while time.monotonic() < until:
            time.sleep(0.5)
            if world.hub_process.ended() is not None:
                raise Unavailable(f"the hub ended:\n{world.hub_process.tail()}")
    except KeyboardInterrupt:
        click.echo("\nending …")
