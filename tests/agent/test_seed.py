from __future__ import annotations

import pytest
from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub
from tests.sim.links import SimLink
from tests.sim.releases import release

from farshore.agent.download import Transfer
from farshore.agent.pace import Pace
from farshore.agent.seed import SeededLink
from farshore.core import digest as digests
from farshore.core.errors import Conflict
from farshore.core.wire import TicketRequest
from farshore.store.blobs import Blobs


@pytest.fixture
def seeded(tmp_path):
    hub, clock = SimHub(), VirtualClock()
    hub.add_device("d", "credential-credential")
    version = hub.publish(release())
    digest, data = max(version.blobs.items(), key=lambda item: len(item[1]))
    folder = tmp_path / "seed"
    folder.mkdir()
    (folder / digests.hex_of(digest)).write_bytes(data)
    inner = SimLink(hub, clock)
    blobs = Blobs(tmp_path / "blobs")
    link = SeededLink(inner, folder)

    def transfer():
        return Transfer(digest, len(data), blobs=blobs, link=link, pace=Pace(None, clock), clock=clock)

    return inner, folder / digests.hex_of(digest), transfer, blobs, digest, link


def test_what_lies_there_is_not_fetched(seeded):
    inner, _, transfer, blobs, digest, _ = seeded
    assert transfer().run(1e9)
    assert blobs.has(digest)
    assert inner.moved == 0


def test_what_is_damaged_there_is_fetched(seeded):
    inner, path, transfer, blobs, digest, _ = seeded
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert transfer().run(1e9)
    assert blobs.has(digest)
    assert inner.moved == path.stat().st_size


def test_what_is_not_there_is_fetched(seeded):
    inner, path, transfer, *_ = seeded
    size = path.stat().st_size
    path.unlink()
    assert transfer().run(1e9)
    assert inner.moved == size


def test_from_any_byte(seeded):
    _, path, _, _, digest, link = seeded
    route = link.tickets(TicketRequest(digest)).routes[-1]
    body = link.fetch(route.url, 1000)
    assert (body.start, body.total) == (1000, route.size)
    assert body.read(route.size) == path.read_bytes()[1000:]
    body.close()
    with pytest.raises(Conflict):
        link.fetch(route.url, route.size)
