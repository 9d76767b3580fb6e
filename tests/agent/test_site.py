"""The snapshot says what is there."""

from __future__ import annotations

import pytest
from tests.sim.releases import noise, release
from tests.sim.world import DEVICE

from farshore.agent.site import survey
from farshore.core import digest as digests
from farshore.store.blobs import CHUNK


def look(world):
    return survey(world.agent._site, None)


def test_a_fresh_device(world):
    local = look(world)
    assert (local.models, local.blobs, local.partials) == ({}, {}, {})
    assert local.free > 0
    assert local.runtimes == ("onnxruntime",)


def test_versions_wanted_and_held(world):
    first, second = (world.hub.publish(release(version=number)) for number in (1, 2))
    world.hub.desire(DEVICE, first)
    world.settle()
    world.hub.desire(DEVICE, second)
    while look(world).model("detector").wanted is None:
        world.agent.turn()
    state = look(world).model("detector")
    assert state.current == first.digest
    assert set(state.installed) == {first.digest}
    assert dict(state.installed[first.digest].files) == {digest: len(data) for digest, data in first.blobs.items()}
    assert (state.wanted.digest, state.wanted.number, state.wanted.variant) == (second.digest, 2, "main")
    assert look(world).here(state.wanted) == 1011


def test_partials_are_counted(world):
    data = noise(200_000, "x")
    with world.blobs.partial(digests.of(data), len(data)) as partial:
        partial.append(data[:150_000])
    assert look(world).partials == {digests.of(data): 2 * CHUNK}


def test_runtimes_are_remembered_while_the_server_is_away(world):
    look(world)
    world.server.up = False
    local = look(world)
    assert (local.server, local.runtimes) == ("away", ("onnxruntime",))


@pytest.mark.parametrize(
    ("runtime", "memory", "fits"), [("onnxruntime", 0, True), ("litert", 0, False), ("onnxruntime", 1 << 53, False)]
)
def test_a_variant_that_does_not_fit_is_none(world, runtime, memory, fits):
    one = world.hub.publish(release(runtime=runtime, memory=memory))
    world.hub.desire(DEVICE, one)
    while look(world).model("detector").wanted is None:
        world.agent.turn()
    assert (look(world).model("detector").wanted.variant is not None) == fits
