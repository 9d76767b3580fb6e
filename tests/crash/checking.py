"""What must be true of a device after a power cut: at once, and after it has been left alone for a while."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash import calls
from tests.crash.replay import State
from tests.crash.stories import Plot, start
from tests.sim.world import DEVICE, World

from farshore.core import twin
from farshore.core.errors import FarshoreError
from farshore.store import blobs as blob_store
from farshore.store.slots import Slots


@dataclass(frozen=True)
class Bad:
    """A state that must not be."""

    state: State
    why: str


def check_all(plot: Plot, some: Iterable[State], folder: Path) -> tuple[int, list[Bad]]:
    """How many states there were, and those that are bad. ``folder`` is for scratch."""
    count, bad = 0, []
    for state in some:
        count += 1
        root = state.lay(folder / "root")
        try:
            check(plot, root, state.known)
        except (AssertionError, FarshoreError, OSError, ValueError) as error:
            bad.append(Bad(state, f"after {state.at}: {type(error).__name__}: {error}"))
        shutil.rmtree(root)
    return count, bad


def check(plot: Plot, root: Path, known: Any) -> None:
    """The whole check of one device's folder."""
    at_once(plot, root, known)
    world = plot.revive(root, known)
    with calls.as_ordinary_user(), plot.limits():
        start(world)
        world.settle()
    in_the_end(plot, world)
    refused = _refused(known, plot)
    assert not [call for call in world.server.calls if call[2] in refused and call[0] != "drop"], "tried again"


def at_once(plot: Plot, root: Path, known: Any) -> None:
    """Nothing visible is half-made; what answers is one of the versions that did; what the hub was told is still so."""
    everything_whole(root)
    slots = Slots(root)
    for model, way in plot.ways.items():
        current = slots.current(model)
        digest = None if current is None else current.digest
        allowed = way[_told(known, model, way) :] + (way[:1] if plot.again else ())
        assert digest in allowed, f"{model}: current is {digest}"


def everything_whole(root: Path) -> None:
    """Every version, blob and note that has its name is what its name says."""
    if (root / "models").is_dir():
        slots = Slots(root)
        for model in slots.models():
            for entry in slots.installed(model):
                slots.verify(entry)
        for folder in root.glob("models/[a-z]*/versions/[0-9a-f]*"):
            slots.find(folder.parent.parent.name, f"sha256:{folder.name}")
    for blob in root.glob("blobs/[0-9a-f]*"):
        blob_store.verify(blob, f"sha256:{blob.name}")
    for note in [
        *root.glob("agent/[a-z]*.json"),
        *root.glob("agent/manifests/[0-9a-f]*.json"),
        *root.glob("agent/trust/[a-z]*.json"),
    ]:
        json.loads(note.read_bytes())


def in_the_end(plot: Plot, world: World) -> None:
    """The device has come to what is desired, the hub knows it, and nothing is left lying about."""
    root = world.settings.root
    everything_whole(root)
    for model, way in plot.ways.items():
        note = world.journal(model)
        given_up = plot.again and note.failed is not None and "machine restarted" in note.failed.message
        goal = way[0] if given_up else way[-1]
        assert world.current(model) == goal, f"{model} came to {world.current(model)}"
        if world.settings.serve != "none":
            assert world.serving(model) == goal, f"{model} is answered by {world.serving(model)}"
        assert note.trial is None and note.attempt is None, f"{model}: {note}"
        told = world.hub.twins[DEVICE].reported.values["models"].get(twin.key_of(model), {})
        assert told.get("current", {}).get("digest") == goal, f"the hub was told of {told}"
        assert told.get("target", {}).get("state", "failed") == "failed", f"the hub was told of {told}"
    leftovers = [*list(root.rglob(".tmp-*")), *root.glob("blobs/partial/*")]
    assert not leftovers, f"left lying about: {leftovers}"


def _told(known: Any, model: str, way: tuple[Any, ...]) -> int:
    """How far along its way the hub was told that the model is."""
    told = _section(known).get(twin.key_of(model), {}).get("current", {}).get("digest")
    return way.index(told) if told in way else 0


def _refused(known: Any, plot: Plot) -> set[Any]:
    """Versions that the hub was told to be given up."""
    targets = [_section(known).get(twin.key_of(model), {}).get("target", {}) for model in plot.ways]
    return {target["digest"] for target in targets if target.get("state") == "failed"}


def _section(known: Any) -> dict[str, Any]:
    return {} if known is None else known.values.get("models", {})
