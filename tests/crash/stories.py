"""What a device goes through, recorded: each story is a world after its end, and all that was done to the disk on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

Way = tuple[Digest | None, ...]
"""What is current, one after the other; the last is what the device must come to."""


@dataclass(frozen=True)
class Story:
    """One of them.

    Attributes:
        world: at its end.
        recording: of the device's folder.
        ways: by model.
        linkless: the file system has no hard links.
        again: it began with a power cut. Two starts of the machine within a trial may end it.

    """

    world: World
    recording: Recording
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
            twins={DEVICE: Twin(mine.desired, mine.reported if known is None else known)},
        )  # fmt: skip
        new.link = SimLink(new.hub, new.clock, rate=old.link.rate)
        new.settings = type(old.settings).load(root, _chosen(old.settings), {})
        new.boot, new._apply = old.boot + "+", old._apply
        new.slots, new.blobs = type(old.slots)(root), old.blobs
        server = old.server
        new.server = SimServer(new.slots, new.clock, set(server.unfit), set(server.crashing), set(server.failing))
        return new


def start(world: World) -> None:
    """Power is back: the inference server reads its links, the agent starts."""
    world.server.restart()
    world.start_agent()
    world.blobs = world.agent._site.blobs


def _chosen(settings: Any) -> dict[str, Any]:
    names = ("keep_free", "trial", "slice", "serve", "quota", "runtimes")
    return {name: getattr(settings, name) for name in names}


@contextmanager
def recorded(world: World) -> Iterator[Recording]:
    recording = Recording(world.settings.root, lambda: world.hub.twins[DEVICE].reported)
    with recording.running():
        yield recording


def first_install(root: Path) -> Story:
    """A device that has just been enrolled comes to its first version."""
    root.mkdir()
    box: list[World] = []
    recording = Recording(root, lambda: box[0].hub.twins[DEVICE].reported if box else None)
    with recording.running():
        world = World(root, slice=0.5)
        box.append(world)
        one = world.hub.publish(release(size=150_000))
        world.hub.desire(DEVICE, one)
        world.settle()
    return Story(world, recording, {"detector": (None, one.digest)})


def update(root: Path) -> Story:
    """Download, install, probe, activate, confirm the next version."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=200_000))
    world.hub.desire(DEVICE, two)
    with recorded(world) as recording:
        world.settle()
    return Story(world, recording, {"detector": (one.digest, two.digest)})


def update_without_links(root: Path) -> Story:
    """The same where files must be copied."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=100_000))
    world.hub.desire(DEVICE, two)
    with no_links(), recorded(world) as recording:
        world.settle()
    return Story(world, recording, {"detector": (one.digest, two.digest)}, linkless=True)


def update_without_server(root: Path) -> Story:
    """The same on a device that only keeps the files."""
    world, one = running(root, serve="none")
    two = world.hub.publish(release(version=2, size=100_000))
    world.hub.desire(DEVICE, two)
    with recorded(world) as recording:
        world.settle()
    return Story(world, recording, {"detector": (one.digest, two.digest)})


def interrupted_download(root: Path) -> Story:
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
    with recorded(world) as recording:
        world.settle()
    return Story(world, recording, {"detector": (one.digest, two.digest)})


def patched(root: Path) -> Story:
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
    with recorded(world) as recording:
        world.settle()
    assert world.link.moved < 3 * CHUNK + 10_000 + len(patch)
    return Story(world, recording, {"detector": (one.digest, two.digest)})


def roll_back(root: Path) -> Story:
    """The next version crashes in its trial."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=10_000))
    world.server.crashing.add(two.digest)
    world.hub.desire(DEVICE, two)
    with recorded(world) as recording:
        world.settle()
    assert world.reported()["target"]["state"] == "failed"
    return Story(world, recording, {"detector": (one.digest, two.digest, one.digest)})


def roll_back_to_nothing(root: Path) -> Story:
    """The first version fails in its trial."""
    world = World(root)
    one = world.hub.publish(release(size=10_000))
    world.server.failing.add(one.digest)
    world.hub.desire(DEVICE, one)
    with recorded(world) as recording:
        world.settle()
    return Story(world, recording, {"detector": (None, one.digest, None)})


def change_of_mind(root: Path) -> Story:
    """Desired goes to the next version and back, so that both are installed and only links turn."""
    world, one = running(root)
    two = world.hub.publish(release(version=2, size=10_000))
    world.hub.desire(DEVICE, two)
    world.settle()
    world.hub.desire(DEVICE, one)
    with recorded(world) as recording:
        world.settle()
    return Story(world, recording, {"detector": (two.digest, one.digest)})


def collecting_and_dropping(root: Path) -> Story:
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
    with recorded(world) as recording:
        world.settle()
    ways: dict[str, Way] = {"detector": (versions[1].digest, versions[2].digest), "pose": (other.digest, None)}
    return Story(world, recording, ways)


ALL: tuple[Callable[[Path], Story], ...] = (
    first_install, update, update_without_links, update_without_server, interrupted_download, patched, roll_back,
    roll_back_to_nothing, change_of_mind, collecting_and_dropping,
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
