"""Updates over links as they are far out: cut again and again on either side, slow, far, lossy, gone for an hour. In virtual time."""

from __future__ import annotations

from unittest import mock

import pytest
from tests.sim.links import SimBody
from tests.sim.releases import release
from tests.sim.weather import FarLink
from tests.sim.world import DEVICE, World

from farshore.core.errors import FarshoreError, Unavailable
from farshore.store.blobs import CHUNK

SIZE = 8 << 20
CUTS = SIZE // CHUNK


class Killed(BaseException):
    """The agent's process is gone."""


class Cutter:
    """Cuts the coming responses after so many bytes of the object, one each; ``side`` tells whose fault it is."""

    def __init__(self, world: World, side: str, places: list[int]) -> None:
        self.world, self.side, self.places = world, side, places
        self.reached: list[int] = []
        self._read = SimBody.read

    def __call__(self, body: SimBody, limit: int) -> bytes:
        if body.total != SIZE or not self.places:
            return self._read(body, limit)
        at = body.start + body._at
        if at >= self.places[0]:
            self.places.pop(0)
            self.reached.append(at)
            return self.cut()
        return self._read(body, min(limit, self.places[0] - at))

    def cut(self) -> bytes:
        if self.side == "agent":
            raise Killed
        if self.side == "server":  # it was started anew and knows nothing of its tickets
            self.world.hub._tickets.clear()
            return b""
        raise Unavailable("the connection was cut")


def settle(world):
    """Let the device come to rest; a killed agent is started again."""
    while True:
        try:
            return world.settle()
        except Killed:
            world.start_agent()


@pytest.mark.parametrize("beyond", [0, 1, CHUNK // 2, CHUNK - 1])
@pytest.mark.parametrize("side", ["server", "link", "agent"])
def test_a_cut_at_every_64_kib_costs_no_more_than_one_buffer(tmp_path, side, beyond):
    world = World(tmp_path / "device")
    update = world.hub.publish(release(size=SIZE))
    world.hub.desire(DEVICE, update)
    cutter = Cutter(world, side, [min(number * CHUNK + beyond, SIZE - 1) for number in range(CUTS)])

    def read(body, limit):
        return cutter(body, limit)

    with mock.patch.object(SimBody, "read", read):
        settle(world)
    assert world.serving() == update.digest
    model = update.manifest.content.variants[0].model.digest
    asked = [text for what, text in world.hub.log if what == "object" and text.startswith(model)]
    starts = [int(text.rpartition(" ")[2]) for text in asked]
    assert len(cutter.reached) == CUTS
    wasted = [at - start for at, start in zip(cutter.reached, starts[1:], strict=True)]
    assert min(wasted) >= 0 and max(wasted) <= CHUNK, wasted
    assert world.link.moved <= update.size + CUTS * CHUNK


@pytest.mark.parametrize("kbit", [16, 64, 256])
@pytest.mark.parametrize("weather", ["calm", "far", "lossy", "outage", "all"])
def test_every_update_completes(tmp_path, kbit, weather):
    size = SIZE if weather == "calm" else SIZE // 4
    world = World(tmp_path / "device")
    one, two = (world.hub.publish(release(version=number, size=1000 if number == 1 else size)) for number in (1, 2))
    world.hub.desire(DEVICE, one)
    world.settle()
    more = {"round_trip": 2.0} if weather in ("far", "all") else {}
    more |= {"loss": 0.2} if weather in ("lossy", "all") else {}
    begin = world.clock.monotonic() + 60
    more |= {"outages": [(begin, begin + 3600)]} if weather in ("outage", "all") else {}
    world.link = FarLink(world.hub, world.clock, world.link.credential, rate=kbit * 125, **more)
    world.start_agent()
    world.hub.desire(DEVICE, two)
    came = world.clock.monotonic()
    settle_far(world, two)
    hours = (world.clock.monotonic() - came) / 3600
    print(
        f"{kbit} kbit/s, {weather}: {size} bytes in {hours:.1f} h, {world.link.broken} connections lost, {world.link.moved} bytes moved"
    )
    assert world.current() == world.serving() == two.digest
    assert world.link.moved <= two.size + (world.link.broken + 2) * CHUNK
    assert weather not in ("outage", "all") or hours > 1


def settle_far(world, goal):
    """Turn until the hub has been told that the version stands."""
    for _ in range(100_000):
        try:
            world.agent.turn()
        except FarshoreError:
            world.agent.stumble()
        if (
            world.current() == goal.digest
            and world.journal().trial is None
            and world.reported().get("current", {}).get("digest") == goal.digest
        ):
            return
    raise AssertionError("it does not come to rest")
