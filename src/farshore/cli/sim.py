"""``farshore sim``: a rollout over a fleet on virtual time, on this machine."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import click

from farshore.cli.output import json_option, megabytes, print_json, print_table
from farshore.cli.rollout import Span
from farshore.core.errors import Invalid

KINDS = ("good", "worse", "slow", "crashing", "unfit", "shifted")
STEP = 60.0
FAST = Path("/dev/shm")  # noqa: S108 - memory, where there is some; the folder in it is private
SETTLE = 600.0


@click.command()
@click.option("--devices", type=click.IntRange(1, 200_000), default=100, show_default=True, help="Size of the fleet.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed tells the same story.")
@click.option(
    "--version", "kind", type=click.Choice(KINDS), default="good", show_default=True, help="How the new version does."
)
@click.option("--waves", default="5,25%,100%", show_default=True, help="As for farshore rollout start.")
@click.option("--soak", type=Span(), default="1m", show_default=True, help="How long a wave must stay good.")
@click.option(
    "--offline", type=click.FloatRange(0, 1), default=0.0, help="Share of devices that are away all the time."
)
@click.option(
    "--weather", type=click.FloatRange(0, 1), default=0.0, help="Share of requests, and of replies, that are lost."
)
@click.option("--rate", default="16kB", show_default=True, help="Bytes a second of a device's link.")
@click.option("--size", default="200kB", show_default=True, help="Bytes that a device has to fetch.")
@click.option(
    "--for", "most", type=Span(), default="1h", show_default=True, help="Virtual time after the rollout's start."
)
@json_option
def sim(
    devices: int, seed: int, kind: str, waves: str, soak: float, offline: float, weather: float, rate: str, size: str,
    most: float, as_json: bool,
) -> None:  # fmt: skip
    """Try a rollout on a simulated fleet before a real one.

    The hub with its database and the devices' deciders are the real ones; links, disks and inference servers are simulated, and time
    passes as fast as this machine can.

    \b
    farshore sim --version worse
    farshore sim --devices 2000 --waves 1,10%,100% --offline 0.3 --weather 0.1
    """
    from farshore.agent.settings import parse_size
    from farshore.hub.gate import Gate
    from farshore.hub.rollout import ENDED, parse_waves
    from farshore.sim.device import Behaviour
    from farshore.sim.world import MODEL, START, Faults, World

    behaviours = {
        "good": Behaviour(), "worse": Behaviour(agreement=0.5), "slow": Behaviour(latency=3.0),
        "crashing": Behaviour(crashes=20.0), "unfit": Behaviour(fit=False),
        "shifted": Behaviour(seen=0.6),
    }  # fmt: skip
    chosen, bytes_ = parse_waves(waves), parse_size(size)
    if bytes_ > 1 << 30:
        raise Invalid(f"--size {size}: the bytes are really made; use 1GB at most")
    begun, chance = time.perf_counter(), random.Random(seed)  # noqa: S311 - a story, no secret
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None, prefix="farshore-sim-") as folder:
        world = World(
            Path(folder), seed, devices, Faults(weather, weather, offline=offline), (float(parse_size(rate)),)
        )
        try:
            first = world.release({"net.onnx": chance.randbytes(bytes_)}, Behaviour())
            world.hub.deployments.put("prod", "*", first, 0)
            world.run(SETTLE)
            second = world.release({"net.onnx": chance.randbytes(bytes_)}, behaviours[kind])
            started = world.now
            gate = Gate(
                soak=soak, agreement=0.9, latency=1.5, errors=0.1, class_shift=0.2, shadow=0.5, shadow_answers=40
            )
            world.hub.rollouts.start("rollout", "prod", "", second, chosen, gate, 0)
            while world.now - started < most and world.hub.rollouts.one("rollout")[0].now.state not in ENDED:
                world.run(STEP)
            world.run(SETTLE)
            found, tallies = world.hub.rollouts.one("rollout")
            running: dict[str, int] = {}
            for one in world.devices.values():
                version = one.running(MODEL)
                name = "none" if version is None else f"{MODEL}@{version.number}"
                running[name] = running.get(name, 0) + 1
            moved = sum(one.notes.note(MODEL).fetched for one in world.devices.values())
            story = [(at - START, text) for at, text in world.story]
            passed = world.now - START
        finally:
            world.close()
    took = time.perf_counter() - begun
    if as_json:
        print_json({
            "state": found.now.state, "reason": found.now.reason, "running": running, "bytes": moved, "seconds": passed, "took": took,
            "waves": [{"wave": str(wave), "admitted": one.admitted, "confirmed": one.confirmed, "failed": one.failed}
                      for wave, one in zip(chosen, tallies, strict=True)],
            "story": [{"at": at, "text": text} for at, text in story],
        })  # fmt: skip
        return
    for at, text in story:
        click.echo(f"{_clock(at)}  {text}")
    click.echo(f"\n{found.now.state}" + (f": {found.now.reason}" if found.now.reason else "") + "\n")
    rows = [
        (number, str(wave), one.admitted, one.confirmed, one.failed)
        for number, (wave, one) in enumerate(zip(chosen, tallies, strict=True), 1)
    ]
    print_table([">", "wave", ">given", ">confirmed", ">failed"], rows)
    click.echo("\n" + ", ".join(f"{count} devices run {name}" for name, count in sorted(running.items())))
    click.echo(f"{megabytes(moved)} moved; {_clock(passed)} of virtual time in {took:.0f} s")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
