"""What a device goes through. A plot is a world in which much is about to happen; a story is a plot that was told, with all
that was done to the disk on the way.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.crash.recorder import Recording
from tests.sim.hub import SimHub, Twin
from tests.sim.links import SimLink
from tests.sim.releases import Release, noise, release
from tests.sim.server import SimServer
from tests.sim.world import DEVICE, World

from farshore import delta
from farshore.agent import patches
from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.wire import Route
from farshore.store.blobs import CHUNK

SHADOW = {"agreement": 0.9, "shadow": {"share": 0.5, "answers": 40, "seconds": 600}}

Way = tuple[Digest | None, ...]
"""What is current, one after the other; the last is what the device must come to."""


@dataclass(frozen=True)
class Plot:
    """What is about to happen.

    Attributes:
        world: a start of its agent away from it.
        ways: by model.
        linkless: the file system has no hard links.
        again: it begins after a power cut. Two starts of the machine within a trial may end it.

    """

    world: World
    ways: dict[str, Way]
    linkless: bool = False
    again: bool = False

    def revive(self, root: Path, known: Any) -> World:
        """The world after a power cut that left ``root``: the machine is to be started, the hub knows ``known``."""
        old, new = self.world, World.__new__(World)
        hub, mine = old.hub, old.hub.twins[DEVICE]
        new.clock = type(old.clock)(old.clock.now())
        new.hub = SimHub(
            releases=hub.releases, objects=hub.objects, credentials=dict(hub.credentials), patches=hub.patches,
            twins={DEVICE: Twin(mine.desired, mine.reported if known is None else known)}, repo=hub.repo, clock=new.clock,
        )  # fmt: skip
        new.link = SimLink(new.hub, new.clock, rate=old.link.rate, cuts=list(old.link.cuts))
        new.settings = type(old.settings).load(root, _chosen(old.settings), {})
        new.boot, new._apply = old.boot + "+", old._apply
        new.slots, new.blobs = type(old.slots)(root), old.blobs
        server = old.server
        new.server = SimServer(
            new.slots, new.clock, set(server.unfit), set(server.crashing), set(server.failing), worse=set(server.worse)
        )
        return new

    def limits(self) -> AbstractContextManager[None]:
        """What the device's file system cannot do."""
        return no_links() if self.linkless else nullcontext()


def tell(plot: Plot, happen: Callable[[World], None] | None = None) -> Recording:
    """Let it happen, and write down what is done below the device's folder."""
    world = plot.world
    recording = Recording(world.settings.root, lambda: world.hub.twins[DEVICE].reported)
    with plot.limits(), recording.running():
        (happen or go)(world)
    return recording


def go(world: World) -> None:
    """The agent starts and works until nothing is left to do."""
    world.start_agent()
    world.settle()


def start(world: World) -> None:
    """Power is back: the inference server reads its links, the agent starts."""
    world.server.restart()
    world.start_agent()
    world.blobs = world.agent._site.blobs


def _chosen(settings: Any) -> dict[str, Any]:
    names = ("keep_free", "trial", "slice", "serve", "quota", "runtimes")
    return {name: getattr(settings, name) for name in names}


def first_install(root: Path) -> Plot:
    """A device that has just been enrolled comes to its first version."""
    world = World(root, slice=0.5)
    for folder in root.iterdir():
        shutil.rmtree(folder)
    one = world.hub.publish(release(size=150_000))
    world.hub.desire(DEVICE, one)
    return Plot(world, {"detector": (None, one.digest)})


def update(root: Path) -> Plot:
    """Download, install, probe, activate, confirm the next version."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=200_000))
    world.hub.desire(DEVICE, two)
    return Plot(world, {"detector": (one.digest, two.digest)})


def update_without_links(root: Path) -> Plot:
    """The same where files must be copied."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=100_000))
    world.hub.desire(DEVICE, two)
    return Plot(world, {"detector": (one.digest, two.digest)}, linkless=True)


def update_without_server(root: Path) -> Plot:
    """The same on a device that only keeps the files."""
    world, one = running(root, serve="none")
    two = world.hub.publish(release(version=2, size=100_000))
    world.hub.desire(DEVICE, two)
    return Plot(world, {"detector": (one.digest, two.digest)})


def interrupted_download(root: Path) -> Plot:
    """A download that is cut again and again, over what an earlier power cut scrambled."""
    world, one = running(root, slice=0.5)
    two = world.hub.publish(release(version=2, size=6 * CHUNK + 1000))
    world.hub.desire(DEVICE, two)
    world.link.rate = 200_000
    world.link.cuts = [3 * CHUNK, CHUNK // 2, CHUNK + 7, 2 * CHUNK]
    model = two.manifest.content.variants[0].model.digest
    part = world.blobs.partial(Digest(model), 6 * CHUNK + 1000)
    part.append(two.blobs[Digest(model)][:CHUNK] + noise(CHUNK, "scrambled"))
    part.close()
    return Plot(world, {"detector": (one.digest, two.digest)})


def patched(root: Path) -> Plot:
    """A version that comes as a patch."""
    world, one = running(root, apply=patches.apply, size=3 * CHUNK)
    base = Digest(one.manifest.content.variants[0].model.digest)
    old = one.blobs[base]
    two = world.hub.publish(release(version=2, weights=old[:100_000] + noise(700, "fresh") + old[100_000:]))
    target = Digest(two.manifest.content.variants[0].model.digest)
    patch = b"".join(delta.encode(two.blobs[target], [old]))
    world.hub.objects[digests.of(patch)] = patch
    world.hub.patches[target] = [Route("", digests.of(patch), len(patch), "patch", (base,))]
    world.hub.desire(DEVICE, two)
    return Plot(world, {"detector": (one.digest, two.digest)})


def shadow(root: Path) -> Plot:
    """The next version is compared in the shadow, and takes over."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=10_000))
    world.hub.desire(DEVICE, two, trial=SHADOW)
    return Plot(world, {"detector": (one.digest, two.digest)})


def worse_in_the_shadow(root: Path) -> Plot:
    """The next version answers otherwise in the shadow, and is given up before it answered anybody."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=10_000))
    world.server.worse.add(two.digest)
    world.hub.desire(DEVICE, two, trial=SHADOW)
    return Plot(world, {"detector": (one.digest, one.digest)})


def roll_back(root: Path) -> Plot:
    """The next version crashes in its trial."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=10_000))
    world.server.crashing.add(two.digest)
    world.hub.desire(DEVICE, two)
    return Plot(world, {"detector": (one.digest, two.digest, one.digest)})


def roll_back_to_nothing(root: Path) -> Plot:
    """The first version fails in its trial."""
    world = World(root)
    one = world.hub.publish(release(size=10_000))
    world.server.failing.add(one.digest)
    world.hub.desire(DEVICE, one)
    return Plot(world, {"detector": (None, one.digest, None)})


def change_of_mind(root: Path) -> Plot:
    """Desired goes to the next version and back, so that both are installed and only links turn."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=10_000))
    world.hub.desire(DEVICE, two)
    world.settle()
    world.hub.desire(DEVICE, one)
    return Plot(world, {"detector": (two.digest, one.digest)})


def collecting_and_dropping(root: Path) -> Plot:
    """A third version makes the first one garbage while another model is no longer wanted."""
    world = World(root)
    versions = [world.hub.publish(release(version=number, size=1000 * number)) for number in (1, 2, 3)]
    for one in versions[:2]:
        world.hub.desire(DEVICE, one)
        world.settle()
    other = world.hub.publish(release("pose", size=5000))
    world.hub.desire(DEVICE, versions[1], other)
    world.settle()
    world.hub.desire(DEVICE, versions[2])
    ways: dict[str, Way] = {"detector": (versions[1].digest, versions[2].digest), "pose": (other.digest, None)}
    return Plot(world, ways)


ALL: tuple[Callable[[Path], Plot], ...] = (
    first_install, update, update_without_links, update_without_server, interrupted_download, patched, shadow, worse_in_the_shadow,
    roll_back, roll_back_to_nothing, change_of_mind, collecting_and_dropping,
)  # fmt: skip


def running(root: Path, *, size: int = 1000, **settings: Any) -> tuple[World, Release]:
    """A device that has run its first version for a while."""
    world = World(root, **settings)
    one = world.hub.publish(release(version=1, size=size))
    world.hub.desire(DEVICE, one)
    world.settle()
    assert world.current() == one.digest
    return world, one


@contextmanager
def no_links() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with mock.patch.object(os, "link", refuse):
        yield
