"""The agent killed at every instant of an update: always a whole version, nothing half-made, and it gets there in the end."""

from __future__ import annotations

import shutil

import pytest
from tests.sim.instants import watched
from tests.sim.releases import release
from tests.sim.world import DEVICE, World

from farshore.store import blobs as blob_store
from farshore.store.blobs import CHUNK


def check_whole(world, acceptable):
    """What a kill may leave: every visible version and blob whole, current one of ``acceptable``."""
    assert world.current() in acceptable
    for entry in world.slots.installed("detector"):
        world.slots.verify(entry)
    for digest in world.blobs.digests():
        blob_store.verify(world.blobs.path(digest), digest)


def missing_bytes(world, digest, size):
    """Bytes of a file that are not here in whole chunks."""
    if world.blobs.has(digest):
        return 0
    return size - world.blobs.partial_sizes().get(digest, 0) // CHUNK * CHUNK


def every_instant(world, act, tmp_path, acceptable, goal, every):
    """Do ``act`` once; at each ``every``-th instant copy the world, check it, and let a new agent finish from there."""
    seen, copies = 0, []

    def observe(where):
        nonlocal seen
        seen += 1
        if seen % every == 0:
            copies.append((where, world.fork(tmp_path / f"at-{seen}")))

    with watched(observe):
        act()
    for where, at in copies:
        check_whole(at, acceptable)
        missing = sum(missing_bytes(at, digest, len(data)) for digest, data in at.hub.releases[goal].blobs.items())
        at.start_agent()
        at.settle()
        check_whole(at, {goal})
        assert at.serving() == goal, where
        assert at.journal().trial is None and at.journal().attempt is None, where
        assert not list(at.settings.root.rglob(".tmp-*")), where
        assert at.link.moved <= missing + CHUNK, where
        shutil.rmtree(at.settings.root)
    return copies


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_any_instant_of_an_update(tmp_path, every):
    world = World(tmp_path / "device", slice=0.5)
    world.link.rate = 100_000
    first, second = world.hub.publish(release(version=1)), world.hub.publish(release(version=2))
    world.hub.desire(DEVICE, first)
    world.settle()
    world.hub.desire(DEVICE, second)
    copies = every_instant(world, world.settle, tmp_path, {first.digest, second.digest}, second.digest, every)
    assert len(copies) > 100 / every


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_any_instant_of_a_roll_back(tmp_path, every):
    world = World(tmp_path / "device")
    first, second = world.hub.publish(release(version=1)), world.hub.publish(release(version=2, size=1000))
    world.hub.desire(DEVICE, first)
    world.settle()
    world.server.crashing.add(second.digest)
    world.hub.desire(DEVICE, second)
    every_instant(world, world.settle, tmp_path, {first.digest, second.digest}, first.digest, every)


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_any_instant_of_collecting_and_dropping(tmp_path, every):
    world = World(tmp_path / "device")
    versions = [world.hub.publish(release(version=number, size=1000)) for number in (1, 2, 3)]
    for one in versions[:2]:
        world.hub.desire(DEVICE, one)
        world.settle()
    other = world.hub.publish(release("pose", size=1000))
    world.hub.desire(DEVICE, versions[1], other)
    world.settle()

    def act():
        world.hub.desire(DEVICE, versions[2])
        world.settle()

    every_instant(world, act, tmp_path, {versions[1].digest, versions[2].digest}, versions[2].digest, every)
    assert world.slots.current("pose") is None
