"""Farshore as modules of Azure IoT Edge: a Dockerfile, and deployment manifests of schema 1.1.

One image, two modules: the agent, and the inference server beside it; they share a folder of the device. What is written here is plain
values; ``farshore package iotedge`` makes files of them. https://learn.microsoft.com/azure/iot-edge/module-composition
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farshore.core.errors import Invalid

Json = dict[str, Any]

SCHEMA = "1.1"
RUNTIME = "1.5"
ROOT = "/var/lib/farshore"
SEED = "/opt/farshore/blobs"
BASE = "python:3.12-slim-bookworm"
BASE_BYTES = 125_000_000
"""Bytes of the base image on a device, unpacked; about the same for amd64 and arm64."""

USER = 10001
MAX_OPTIONS = 512
"""Characters of one ``createOptions``; longer ones are cut into numbered members."""

_MODULE = re.compile(r"[a-zA-Z0-9_-]{1,60}\Z")
_IMAGE = re.compile(r"[a-zA-Z0-9][\w.:/@-]{0,250}\Z", re.ASCII)
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is packaged.

    Attributes:
        image: its name in a registry, with tag.
        token: enrolment token that pins the trust root; "" believes the first one heard.
        module: id of the agent's module.
        runtimes: extras of Farshore that go in: ``onnx``, ``litert``.
        folder: of the device, where all of it is kept over restarts and new images.
        port: of the device, where pictures are taken; 0 for none.
        serve: with the inference server, not the agent alone.

    """

    image: str
    token: str = ""
    module: str = "farshore"
    runtimes: tuple[str, ...] = ("onnx",)
    folder: str = ROOT
    port: int = 8000
    serve: bool = True
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _IMAGE.match(self.image):
            raise Invalid(f"image {self.image[:80]!r}: a name as REGISTRY/NAME:TAG is needed")
        if not _MODULE.match(self.module):
            raise Invalid(f"module {self.module[:80]!r}: letters, digits, - and _ are taken")
        if not re.match(r"/[^\s:]{1,200}\Z", self.folder):
            raise Invalid(
                f"folder {self.folder[:80]!r}: an absolute path on the device, without : and spaces, is needed"
            )

    @property
    def requirement(self) -> str:
        """Farshore with its extras, as pip takes it."""
        extras = ",".join(["azure", *(self.runtimes if self.serve else ())])
        return f"farshore[{extras}]"


def dockerfile(plan: Plan, version: str, *, wheel: str = "", seeded: bool = False) -> str:
    """The recipe of the image.

    Args:
        plan: what goes in.
        version: of Farshore.
        wheel: file name of Farshore's own wheel beside the Dockerfile; "" takes it from the registry of packages.
        seeded: ``blobs/`` beside the Dockerfile goes in.

    """
    extras = plan.requirement.removeprefix("farshore")
    install = f'"/tmp/{wheel}{extras}"' if wheel else f'"{plan.requirement}=={version}"'
    lines = [
        "# Built for several machines at once:",
        f"#   docker buildx build --platform linux/amd64,linux/arm64 -t {plan.image} --push .",
        "# All packages have wheels for x86-64 and for 64-bit Arm; 32-bit Arm has none for the runtimes.",
        f"FROM {BASE}",
        *([f"COPY {wheel} /tmp/{wheel}"] if wheel else []),
        f"RUN pip install --no-cache-dir --no-compile {install}" + (f" && rm /tmp/{wheel}" if wheel else ""),
        f"RUN useradd --uid {USER} --no-create-home farshore && mkdir -p {ROOT} && chown {USER}:{USER} {ROOT}",
        *([f"COPY --chmod=0444 blobs/ {SEED}/", f"ENV FARSHORE_SEED={SEED}"] if seeded else []),
        f"ENV FARSHORE_ROOT={ROOT} PYTHONUNBUFFERED=1",
        f"USER {USER}",
        f"VOLUME {ROOT}",
        'ENTRYPOINT ["farshore"]',
        f'CMD ["agent", "--root", "{ROOT}", "--link", "azure"]',
    ]
    return "\n".join(lines) + "\n"


def manifest(plan: Plan, registry: Json | None = None) -> Json:
    """A whole deployment: the runtime's own modules, ours, and their routes.

    Args:
        plan: what is packaged.
        registry: ``registryCredentials`` by name, or None.

    """
    settings: Json = {"minDockerVersion": "v1.25", **({"registryCredentials": registry} if registry else {})}
    agent = {
        "schemaVersion": SCHEMA,
        "runtime": {"type": "docker", "settings": settings},
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": f"mcr.microsoft.com/azureiotedge-agent:{RUNTIME}", "createOptions": "{}"}},
            "edgeHub": {
                "type": "docker",
                "status": "running",
                "restartPolicy": "always",
                "startupOrder": 0,
                "settings": {
                    "image": f"mcr.microsoft.com/azureiotedge-hub:{RUNTIME}",
                    "createOptions": _options({"HostConfig": {"PortBindings": {f"{port}/tcp": [{"HostPort": port}] for port in ("5671", "8883", "443")}}}),
                },
            },
        },
        "modules": modules(plan),
    }  # fmt: skip
    hub = {"schemaVersion": SCHEMA, "routes": routes(plan), "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}
    return {"modulesContent": {"$edgeAgent": {"properties.desired": agent}, "$edgeHub": {"properties.desired": hub}}}


def layer(plan: Plan) -> Json:
    """A layered deployment: ours alone, over whatever base a device has; the highest priority wins."""
    agent = {f"properties.desired.modules.{name}": one for name, one in modules(plan).items()}
    hub = {f"properties.desired.routes.{name}": one for name, one in routes(plan).items()}
    return {"modulesContent": {"$edgeAgent": agent, "$edgeHub": hub}}


def modules(plan: Plan) -> Json:
    """Our modules, as ``$edgeAgent`` takes them."""
    bind = {"HostConfig": {"Binds": [f"{plan.folder}:{ROOT}"]}}
    command = ["agent", "--root", ROOT, "--link", "azure", *([] if plan.serve else ["--serve", "none"])]
    command += ["--enrol", plan.token] if plan.token else []
    found = {plan.module: _module(plan, {**bind, "Cmd": command}, order=1)}
    if plan.serve:
        ports = {f"{8000}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(plan.port)}]} if plan.port else {}
        host = {**bind["HostConfig"], **({"PortBindings": ports} if ports else {})}
        options = {"HostConfig": host, "Cmd": ["serve", "--root", ROOT, "--host", "0.0.0.0", "--port", "8000"]}  # noqa: S104 - in its container
        found[f"{plan.module}-serve"] = _module(plan, options, order=2)
    return found


def routes(plan: Plan) -> Json:
    """What our modules say to the cloud."""
    return {f"{plan.module}ToCloud": {"route": f"FROM /messages/modules/{plan.module}/outputs/* INTO $upstream", "priority": 5, "timeToLiveSecs": 86400}}  # fmt: skip


def wheels(requirement: str) -> tuple[int, list[str]]:
    """Bytes that a package and all it needs take once installed, as they are installed here.

    Args:
        requirement: e.g. ``farshore[azure,onnx]``.

    Returns:
        the bytes; names of packages that are not installed here, so are not counted.

    """
    name, extras = _split(requirement)
    total, missing = 0, list[str]()
    seen: set[tuple[str, frozenset[str]]] = set()
    ahead: list[tuple[str, frozenset[str]]] = [(name, extras)]
    while ahead:
        name, extras = ahead.pop()
        if (name, extras) in seen:
            continue
        counted = any(known == name for known, _ in seen)
        seen.add((name, extras))
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if not counted:
            total += sum(_size(Path(str(path.locate()))) for path in found.files or ())
        ahead += list(_needed(found.requires or (), extras))
    return total, sorted(set(missing))


def _needed(requires: Iterable[str], extras: frozenset[str]) -> Iterable[tuple[str, frozenset[str]]]:
    for line in requires:
        what, _, marker = line.partition(";")
        asked = _EXTRA.search(marker)
        if (asked is None or asked[1] in extras) and not re.search(
            r"win32|Windows|Darwin|emscripten|python_version\s*<", marker
        ):
            yield _split(what)


def _split(requirement: str) -> tuple[str, frozenset[str]]:
    name = _NAME.match(requirement.strip())
    inside = re.search(r"\[([^\]]*)\]", requirement)
    extras = frozenset(part.strip() for part in inside[1].split(",")) if inside else frozenset()
    return (name[0].lower().replace("_", "-") if name else requirement), extras


def _size(path: Path) -> int:
    try:
        return 0 if path.suffix == ".pyc" else int(path.stat().st_size)
    except OSError:
        return 0


def _module(plan: Plan, options: Json, order: int) -> Json:
    environment = {name: {"value": value} for name, value in sorted(plan.environment.items())}
    return {
        "version": "1.0",
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "startupOrder": order,
        **({"env": environment} if environment else {}),
        "settings": {"image": plan.image, **_settings(options)},
    }


def _settings(options: Json) -> Json:
    """Create options as IoT Edge reads them: one text, cut where it is longer than a member may be."""
    text = _options(options)
    parts = [text[at : at + MAX_OPTIONS] for at in range(0, len(text), MAX_OPTIONS)]
    if len(parts) > 8:
        raise Invalid(
            f"create options of {len(text)} characters: at most {8 * MAX_OPTIONS} are taken; shorten the folder's name"
        )
    return {"createOptions" if at == 0 else f"createOptions{at:02}": part for at, part in enumerate(parts)}


def _options(options: Json) -> str:
    return json.dumps(options, separators=(",", ":"), sort_keys=True)
