"""``farshore package``: the device's side as an image, for whoever runs devices by images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farshore import __version__
from farshore.cli.connection import pairs, with_hub
from farshore.cli.output import json_option, megabytes, print_facts, print_json
from farshore.core.errors import Conflict, Invalid

if TYPE_CHECKING:
    from farshore.client import Hub

_RUNTIMES = {"onnx": "onnxruntime", "litert": "litert"}


@click.group()
def package() -> None:
    """The device's side as an image."""


@package.command()
@click.argument("models", nargs=-1)
@click.option("--image", required=True, help="What the image will be called, as REGISTRY/NAME:TAG.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("iotedge"),
    show_default=True,
    help="Folder to write.",
)
@click.option("--module", default="farshore", show_default=True, help="Id of the agent's module.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(["onnx", "litert"]),
    help="Runtimes that go in.  [default: onnx]",
)
@click.option(
    "--folder", default="/var/lib/farshore", show_default=True, help="Folder of the device that the modules share."
)
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the device that takes pictures; 0 for none.",
)
@click.option("--agent-only", is_flag=True, help="Without the inference server.")
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="K=V",
    help="Setting of the modules, e.g. FARSHORE_RATE=64kB; repeatable.",
)
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Farshore's own wheel, to build without a package registry.",
)
@json_option
@with_hub
def iotedge(
    hub: Hub, models: tuple[str, ...], image: str, out: Path, module: str, runtimes: tuple[str, ...], folder: str, port: int,
    agent_only: bool, environment: tuple[str, ...], wheel: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write what makes Farshore a module of Azure IoT Edge: Dockerfile, deployment.json, and layer.json for devices that have a base
    deployment.

    Files of MODELs go into the image, and are not fetched when a device is told to run them; which it runs is decided as always.

    \b
    farshore package iotedge --image registry.example/farshore:1
    farshore package iotedge detector@2 labels@champion --image registry.example/farshore:2 --runtime litert --out ./edge
    """
    from farshore.client import iotedge as edge
    from farshore.core.invitation import Invitation

    plan = edge.Plan(
        image=image,
        token=str(Invitation("pinned-root-only", root=hub.info()["root"])),
        module=module,
        runtimes=tuple(dict.fromkeys(runtimes)) or ("onnx",),
        folder=folder,
        port=port,
        serve=not agent_only,
        environment=pairs(environment, "--env"),
    )
    if out.exists() and any(out.iterdir()):
        raise Conflict(f"{out} is not empty: choose another folder with --out, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    seeded = sum(_seed(hub, ref, plan.runtimes, out / "blobs") for ref in models)
    if wheel is not None:
        if wheel.suffix != ".whl":
            raise Invalid(f"{wheel}: a wheel ends in .whl")
        shutil.copyfile(wheel, out / wheel.name)
    recipe = edge.dockerfile(plan, __version__, wheel=wheel.name if wheel else "", seeded=bool(seeded))
    (out / "Dockerfile").write_text(recipe)
    for name, content in (("deployment.json", edge.manifest(plan)), ("layer.json", edge.layer(plan))):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    packages, missing = edge.wheels(plan.requirement)
    total = edge.BASE_BYTES + packages + seeded
    if as_json:
        parts = {"base": edge.BASE_BYTES, "packages": packages, "models": seeded}
        print_json({"folder": str(out), "estimate": {**parts, "total": total}, "not_counted": missing})
        return
    print_facts([
        ("written", f"{out}/Dockerfile, deployment.json, layer.json" + (", blobs/" if seeded else "")),
        ("image, estimate", f"{megabytes(total)}: base {megabytes(edge.BASE_BYTES)}, packages as installed here {megabytes(packages)}, models {megabytes(seeded)}"),
        ("not counted", ", ".join(missing)),
        ("build", f"docker buildx build --platform linux/amd64,linux/arm64 -t {image} --push {out}"),
        ("on each device", f"sudo install -d -o {edge.USER} -g {edge.USER} {folder}"),
        ("deploy", f'az iot edge deployment create --layered -d farshore -n HUB --content {out}/layer.json --target-condition "…" --priority 10'),
    ])  # fmt: skip


def _seed(hub: Hub, ref: str, runtimes: tuple[str, ...], folder: Path) -> int:
    """Bring the files that a device needs of a version here, named by their digests; bytes that were not there yet."""
    from farshore.core import digest as digests
    from farshore.core import manifest as manifests

    folder.mkdir(exist_ok=True)
    found, added = manifests.decode(hub.manifest(ref)), 0
    chosen = [one for one in found.content.variants if one.runtime in {_RUNTIMES[name] for name in runtimes}]
    if not chosen:
        raise Invalid(f"{ref} runs on none of {', '.join(runtimes)}: add a --runtime, or leave it out")
    for digest, file in sorted({pair for one in chosen for pair in found.needed(one).items()}):
        path = folder / digests.hex_of(digest)
        if not path.exists():
            with path.open("xb") as sink:
                hub.pull(f"{found.model}@{found.version}", file.path, digest, sink, lambda _count: None)
            added += file.size
    return added
