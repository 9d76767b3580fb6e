"""``farshore demo``: the whole main job on this machine, and proof that it went well."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from farshore.agent.patches import usable
from farshore.cli import world as worlds
from farshore.cli.load import Load, drawn, score
from farshore.cli.output import megabytes, print_table
from farshore.cli.world import Device, World, wait_for
from farshore.core import documents, wire
from farshore.core.errors import FarshoreError, Unavailable
from farshore.core.manifest import Content, Manifest
from farshore.store.blobs import CHUNK

MODEL = "harbour-detector"
FAIR, PAIR = "fair-weather-detector", "detector-pair"
"""Another model, and one that was made from it and from :data:`MODEL`."""

RATE = 60_000
OVERHEAD = 24_000
"""Bytes on the wire of all that is not model files: headers, syncs, manifests, tickets, over half a minute."""


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Where the annotated picture goes.",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep hub, devices and logs in this folder.")
def demo(out: Path, keep: Path | None) -> None:
    """Show the main job on this machine: push, deliver, check, switch, refuse.

    Starts a hub and two devices behind thin links, delivers a detector, improves it under load while an agent and the hub are
    killed, offers a broken one, which must be refused, and delivers a model made from two that the device holds. Exit status 0 only if all that it shows is true.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        folder = worlds.fresh(keep) if keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = stack.enter_context(World(folder, rate=RATE))
        try:
            facts = Story(world, out).tell()
        except FarshoreError as error:
            click.echo(f"\nNot as it should be: {error.message}", err=True)
            for device in world.devices:
                click.echo(
                    f"\n{device.name} agent:\n{device.agent.tail()}\n{device.name} server:\n{device.server.tail()}",
                    err=True,
                )
            raise
    click.echo("")
    print_table(["what", *(name for name, _ in facts), "must be"], _table(facts))
    untrue = [f"{name}: {row[0]}" for name, rows in facts for row in rows if not row[3]]
    click.echo(f"\n{time.monotonic() - began:.0f} s; annotated pictures are in {out}/")
    if untrue:
        raise Unavailable("not all of it is true: " + "; ".join(untrue))


Row = tuple[str, str, str, bool]
"""What, figure, what it must be, whether it is."""


class Story:
    """The demonstration, scene by scene.

    Args:
        world: an empty one.
        out: folder for pictures.

    """

    def __init__(self, world: World, out: Path) -> None:
        self.world, self.out = world, out
        self.pictures = sorted((worlds.assets() / "pictures").glob("*.jpg"))
        self.manifests: dict[str, Manifest] = {}

    def tell(self) -> list[tuple[str, list[Row]]]:
        """Play it; a list of rows for each device."""
        self._say("a hub and two devices, each behind a link of " + megabytes(RATE) + "/s")
        self.world.start_hub()
        onnx = self.world.add_device("turbine-7", {"site": "oslo"}, runtimes="onnxruntime")
        litert = self.world.add_device("buoy-12", {"site": "oslo"}, runtimes="litert")
        devices = [onnx, litert]

        self._push(MODEL, 1)
        self.world.hub.put_deployment("prod", model=f"{MODEL}@1", selector="tags.site = 'oslo'")
        self._until_running(devices, 1)
        self._look(devices)
        down = {device.name: device.link.down for device in devices}

        with ExitStack() as stack:
            loads = {d.name: stack.enter_context(Load(d.port, self.pictures[0].read_bytes())) for d in devices}
            time.sleep(1)
            begun = time.monotonic()
            self._push(MODEL, 2)
            self.world.hub.put_deployment("prod", model=f"{MODEL}@2", selector="tags.site = 'oslo'")
            self._kill_agent_in_mid_download(onnx)
            self._kill_hub_in_mid_rollout(litert)
            self._until_running(devices, 2)
            time.sleep(1.5)
        fetched = {device.name: device.link.down - down[device.name] for device in devices}

        self._push(MODEL, 3)
        self.world.hub.put_deployment("prod", model=f"{MODEL}@3", selector="tags.site = 'oslo'")
        self._deploy_first(onnx, FAIR, "v1")
        faults = self._until_refused(devices, 3)
        self._until_running([onnx], 1, FAIR)
        facts = [
            (d.name, self._rows(d, loads[d.name], begun, fetched[d.name], faults[d.name], cuts=1)) for d in devices
        ]
        made = {onnx.name: self._make_from_two(onnx)}
        return [(name, [*rows, *made.get(name, _NOT_FOR_IT)]) for name, rows in facts]

    def _say(self, text: str) -> None:
        click.echo(f"· {text}")

    def _push(self, model: str, number: int, folder: str = "") -> None:
        pushed = self.world.hub.push(model, [worlds.assets() / (folder or f"v{number}")])
        if pushed["version"] != number:
            raise Unavailable(f"the registry numbered version {pushed['version']}, expected {number}")
        ref = f"{model}@{number}"
        content = documents.convert(self.world.hub.version(ref)["manifest"], Content, what="version")
        self.manifests[ref] = Manifest(model, number, content)
        self._say(
            f"pushed {model} version {number}: "
            + ", ".join(f"{variant.name} {megabytes(variant.model.size)}" for variant in content.variants)
        )

    def _make_from_two(self, device: Device) -> list[Row]:
        """Deliver a model whose weights stand in two others that the device holds; it has seen no version of it."""
        down = device.link.down
        self._deploy_first(device, PAIR, "pair")
        self._until_running([device], 1, PAIR)
        fetched = device.link.down - down
        whole, patch, bases = self._missing(f"{PAIR}@1", "onnx-fp32", [f"{MODEL}@2", f"{FAIR}@1"])
        allowed = patch + OVERHEAD
        return [
            ("a model made from two it holds", megabytes(whole), "", True),
            (
                (_AS_A_PATCH, f"{megabytes(patch)} (bases: {bases})", "< 5 %", patch < 0.05 * whole and bases == 2)
                if usable()
                else (_AS_A_PATCH, "none: installed without a C compiler", "", True)
            ),
            ("bytes moved for it", megabytes(fetched), f"≤ {megabytes(allowed)}", fetched <= allowed or not usable()),
        ]

    def _deploy_first(self, device: Device, model: str, folder: str) -> None:
        """Push the first version of a model and let one device run it."""
        self._push(model, 1, folder)
        self.world.hub.put_deployment(model, model=f"{model}@1", selector=f"deviceId = '{device.name}'")

    def _missing(self, ref: str, variant: str, held_refs: list[str]) -> tuple[int, int, int]:
        """What a version takes on a device that runs others: bytes as whole files, bytes as the hub's patches, most bases."""
        held = {digest for one in held_refs for digest in self._files(one, variant)}
        lacking = {digest: size for digest, size in self._files(ref, variant).items() if digest not in held}
        patches = [
            patch for patch in self.world.hub.patches(ref) if all(base["digest"] in held for base in patch["bases"])
        ]
        best = {
            digest: min(
                [(size, 0), *((patch["size"], len(patch["bases"])) for patch in patches if patch["target"] == digest)]
            )
            for digest, size in lacking.items()
        }
        return (
            sum(lacking.values()),
            sum(size for size, _ in best.values()),
            max((n for _, n in best.values()), default=0),
        )

    def _files(self, ref: str, variant: str) -> dict[str, int]:
        """Digest and size of what a device needs that runs this variant."""
        manifest = self.manifests[ref]
        return {
            digest: file.size
            for one in manifest.content.variants
            if one.name == variant
            for digest, file in manifest.needed(one).items()
        }

    def _reported(self, device: Device, model: str = MODEL) -> wire.ReportedModel:
        twin = self.world.hub.twin(device.name)
        return wire.reported_models(twin["properties"]["reported"]).get(model, wire.ReportedModel())

    def _until_running(self, devices: list[Device], version: int, model: str = MODEL) -> None:
        for device in devices:

            def running(device: Device = device) -> bool:
                told = self._reported(device, model)
                return told.current is not None and told.current.version == version and told.target is None

            wait_for(running, 60, f"{device.name} runs {model} version {version}")
        what = f"version {version}" if model == MODEL else model
        self._say(f"{what} runs on " + " and ".join(device.name for device in devices))

    def _until_refused(self, devices: list[Device], version: int) -> dict[str, str]:
        faults = {}
        for device in devices:

            def refused(device: Device = device) -> bool:
                target = self._reported(device).target
                return target is not None and target.version == version and target.state == "failed"

            wait_for(refused, 60, f"{device.name} refuses version {version}")
            target = self._reported(device).target
            assert target is not None
            faults[device.name] = target.fault.message if target.fault else "no reason given"
            self._say(f"{device.name} refused version {version}: {faults[device.name]}")
        return faults

    def _look(self, devices: list[Device]) -> None:
        """Post every picture and draw what was found in it."""
        self.out.mkdir(parents=True, exist_ok=True)
        for device in devices:
            for picture in self.pictures:
                status, answer = score(device.port, picture.read_bytes())
                if status != 200:
                    raise Unavailable(f"{device.name} answered {status} to {picture.name}: {answer}")
                (self.out / f"{device.name}-{picture.name}").write_bytes(drawn(device.port, picture.read_bytes()))
            found = ", ".join(f"{d['class']} {d['score']:.2f}" for d in answer["detections"]) or "nothing"
            self._say(f"{device.name} sees in {picture.name}: {found}")

    def _kill_agent_in_mid_download(self, device: Device) -> None:
        self._wait_for_bytes(device)
        device.agent.kill()
        self._say(f"killed the agent of {device.name} in mid-download")
        time.sleep(0.5)
        device.agent.start()

    def _kill_hub_in_mid_rollout(self, device: Device) -> None:
        self._wait_for_bytes(device)
        self.world.hub_process.kill()
        self._say(f"killed the hub in mid-rollout, while {device.name} downloads")
        time.sleep(1)
        self.world.start_hub()

    def _wait_for_bytes(self, device: Device) -> None:
        """Until a download has begun that a cut would interrupt."""
        wait_for(
            lambda: any(p.stat().st_size >= CHUNK for p in (device.root / "blobs" / "partial").glob("*.part")),
            30,
            f"{device.name} downloads",
        )

    def _rows(self, device: Device, load: Load, begun: float, fetched: int, fault: str, *, cuts: int) -> list[Row]:
        told = self._reported(device)
        running = told.current
        assert running is not None
        whole, patch, _ = self._missing(f"{MODEL}@2", running.variant, [f"{MODEL}@1"])
        allowed = patch + cuts * CHUNK + OVERHEAD
        switched = load.switched_at(2)
        assert switched is not None
        steady = load.longest_gap(begun - 1, switched - 1)
        gap = load.longest_gap(switched - 1, switched + 1)
        status, answer = score(device.port, self.pictures[0].read_bytes(), f"/score?model={MODEL}")
        wrong = sum(a.status == 200 and a.version not in (1, 2) for a in load.answers)
        return [
            ("version running", f"{running.version} ({running.variant})", "2", running.version == 2),
            ("requests sent", str(len(load.answers)), "", bool(load.answers)),
            ("requests failed", str(load.failed), "0", load.failed == 0),
            ("answers of a wrong version", str(wrong), "0", wrong == 0),
            ("longest gap at the switch", f"{gap * 1000:.0f} ms (steady {steady * 1000:.0f})", "", True),
            ("version 2, what version 1 lacks", megabytes(whole), "", True),
            (
                ("version 2, as a patch", megabytes(patch), f"< {megabytes(0.9 * whole)}", patch < 0.9 * whole)
                if usable()
                else ("version 2, as a patch", "none: installed without a C compiler", "", True)
            ),
            ("bytes moved for it", megabytes(fetched), f"≤ {megabytes(allowed)}", fetched <= allowed),
            ("version 3", "refused" if fault else "accepted", "refused", bool(fault)),
            (
                "answers after that",
                f"version {answer.get('version')}",
                "version 2",
                status == 200 and answer.get("version") == 2,
            ),
        ]


_AS_A_PATCH = "it, as a patch"
_NOT_FOR_IT: list[Row] = [("", "not for it", "", True)] * 3


def _table(facts: list[tuple[str, list[Row]]]) -> list[list[str]]:
    """Rows of ``what, figure for each device, must be``; what is not so is marked."""
    table: list[list[str]] = []
    for rows in zip(*(rows for _, rows in facts), strict=True):
        figures = [figure if good else f"{figure}  ✗" for _, figure, _, good in rows]
        table.append([rows[0][0], *figures, rows[0][2]])
    return table
