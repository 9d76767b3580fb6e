"""What was found out about a version on this machine: how many threads answer soonest, and the runtime's own optimised form of it.

:mod:`farshore.serve.measure` writes it beside the versions (``models/<model>/tuned/``), and workers look for it when they load. It holds
for one machine and one version of the runtime: elsewhere it is passed over.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.manifest import Runtime
from farshore.store.slots import Installed

FORM = 1
_PACKAGES: dict[Runtime, str] = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}


class Tuned(Struct, frozen=True, kw_only=True):
    """What was found out.

    Attributes:
        machine: where it holds.
        lone: threads for a request that is alone.
        width: requests at once.
        milliseconds: a lone request takes with that many threads.
        rates: requests a second with that many at once.
        optimised: digest of the optimised model; None if there is none.
        form: of this record.

    """

    machine: str
    lone: int
    width: int
    milliseconds: dict[int, float]
    rates: dict[int, float]
    optimised: Digest | None = None
    form: int = FORM


def machine(runtime: Runtime) -> str:
    """This processor, its cores for this process, and the runtime's version: all that a measurement depends on."""
    from importlib import metadata  # noqa: PLC0415 - megabytes, and most devices have nothing measured

    package = _PACKAGES[runtime]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    # Flags decide which kernels a runtime chooses; the name alone does not tell what a hypervisor hides.
    what = "|".join(told.get(key, "") for key in ("model name", "CPU implementer", "CPU part", "flags", "Features"))
    return (
        f"{os.uname().machine} {digests.of(what.encode())[7:23]} {cores()} cores, {package} {metadata.version(package)}"
    )


def read(installed: Installed, runtime: Runtime) -> tuple[Tuned, Path | None] | None:
    """What is known of a version on this machine, and its optimised model where there is one; None if nothing."""
    record, model = paths(installed)
    try:
        tuned = msgspec.json.decode(record.read_bytes(), type=Tuned)
        if tuned.form != FORM or tuned.machine != machine(runtime) or not min(tuned.lone, tuned.width) >= 1:
            return None
        if tuned.optimised is None:
            return tuned, None
        return tuned, model if digests.of(model.read_bytes()) == tuned.optimised else None
    except (OSError, msgspec.MsgspecError):
        return None


def paths(installed: Installed) -> tuple[Path, Path]:
    """Where the record of a version lies, and its optimised model."""
    folder, name = installed.path.parent.parent / "tuned", digests.hex_of(installed.digest)
    return folder / f"{name}.json", folder / f"{name}.onnx"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
