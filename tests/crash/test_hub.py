"""Power cuts at the hub: what an operator was told to be stored is stored. The database's own rows are SQLite's business."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import text
from tests.crash.recorder import File, Folder, Recording
from tests.crash.replay import states
from tests.sim.releases import noise, release

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError
from farshore.hub.hub import Hub
from farshore.hub.registry import About
from farshore.hub.settings import Settings
from farshore.store.objects import Objects

SECRETS = (
    "tickets.key", "admin.token", "keys/director.key", "keys/snapshot.key", "keys/timestamp.key",
    "keys/development/root.key", "keys/development/targets.key", "keys/development/publisher.key",
)  # fmt: skip


@pytest.fixture
def recording(scratch):
    """A hub's first start, uploads, a version, and the collection of what no version needs; its database lies elsewhere."""
    box, data = [], scratch / "hub"
    data.mkdir()

    def told():
        """Digests of the blobs that have rows, and the secrets of a hub that has opened its door."""
        if not box:
            return frozenset(), {}
        with box[0].database.engine.connect() as tx:
            known = frozenset(tx.execute(text("SELECT digest FROM blobs")).scalars())
        return known, {name: (data / name).read_bytes() for name in SECRETS}

    recording = Recording(data, told)
    with recording.running():
        box.append(Hub(Settings(data, database=f"sqlite:///{scratch}/hub.sqlite", builders=0)))
        work(box[0])
    box[0].close()
    return recording


def work(hub):
    for one in (release(size=100_000), release(version=2, size=5000)):
        for data in (*one.blobs.values(), b"not needed on devices"):
            hub.registry.add_bytes(data)
        hub.registry.add_version("detector", one.manifest.content, About(), "")
    hub.registry.add_bytes(noise(3000, "nobody's"))
    hub.clock = hub.registry._clock = lambda: 4e9
    assert hub.registry.collect() == 1
    hub.registry.remove("detector", "1")


def check(root, known):
    digests_known, secrets = known
    for name, secret in secrets.items():
        assert (root / name).read_bytes() == secret
    for name in SECRETS:
        if (root / name).exists():
            assert (root / name).stat().st_mode & 0o077 == 0
            assert len((root / name).read_bytes()) >= 32
    store = Objects.open(str(root / "objects"))
    there = {digest for digest, _ in store.stored()}
    assert digests_known <= there, f"acknowledged and lost: {digests_known - there}"
    for digest in there:
        assert digests.of(b"".join(store.chunks(digest))) == digest
    spool = root / "spool"
    spool.mkdir(exist_ok=True)
    for data in (noise(3000, "nobody's"), noise(10, "new")):  # sent again, or for the first time
        (spool / "again").write_bytes(data)
        store.put(digests.of(data), spool / "again")
        assert b"".join(store.chunks(Digest(digests.of(data)))) == data


def bad_states(recording, scratch, most=10_000, **more):
    bad, count = [], 0
    found = list(states(recording, at_each=200, **more))
    for state in random.Random(1).sample(found, min(most, len(found))):
        root = state.lay(scratch / f"root-{count}")
        try:
            check(root, state.known)
        except (AssertionError, FarshoreError, OSError, ValueError) as error:
            bad.append(f"after {state.at}: {error!r}")
        count += 1
    print(f"hub: {count} states, {len(bad)} bad")
    return count, bad


def test_what_the_hub_acknowledged_is_there(recording, scratch):
    count, bad = bad_states(recording, scratch)
    assert not bad, "\n".join(bad[:5])
    assert count >= 100


@pytest.mark.parametrize("kind", [File, Folder])
def test_an_fsync_left_out_would_be_noticed(kind, recording, scratch):
    assert bad_states(recording, scratch, most=100, without=kind)[1]
