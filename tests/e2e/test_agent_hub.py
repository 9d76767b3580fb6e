"""Agent and hub as real processes, killed and cut off from each other at random."""

from __future__ import annotations

import random
import signal
import time

import pytest
from tests.e2e.conftest import desire, reported, wait_for
from tests.sim.proxy import Proxy

from farshore.core.errors import Corrupt
from farshore.store import blobs as blob_store
from farshore.store.blobs import CHUNK, Blobs
from farshore.store.slots import Slots

TALK = 32 * 1024
"""Bytes on the wire, for one connection or start, that are not the model's: headers, syncs, manifests, tickets."""


def current(agent):
    entry = Slots(agent.root).current("detector")
    return None if entry is None else entry.version


def check_whole(agent):
    """Every version and blob that can be seen is whole. The agent may live, and collect what it no longer needs meanwhile."""
    slots = Slots(agent.root)
    for entry in slots.installed("detector"):
        check_or_gone(entry.path, lambda entry=entry: slots.verify(entry))
    folder = agent.root / "blobs"
    for path in folder.iterdir() if folder.is_dir() else ():
        if len(path.name) == 64:
            check_or_gone(path, lambda path=path: blob_store.verify(path, f"sha256:{path.name}"))


def check_or_gone(path, verify):
    try:
        verify()
    except Corrupt:
        if path.exists():
            raise


def arrives(agent, hub, version):
    """Wait until the device runs ``version`` and the hub knows."""
    wait_for(
        lambda: reported(hub, agent.name).get("current", {}).get("digest") == version["digest"],
        f"version {version['version']}", agent,
    )  # fmt: skip
    assert current(agent) == version["version"]
    check_whole(agent)


def test_push_deliver_update_and_go_back(hub, make_agent, push):
    first, second = push(1), push(2)
    agent = make_agent(f"http://127.0.0.1:{hub.port}")
    wait_for(lambda: hub.client().devices(), "enrolment", agent)
    wait_for((agent.root / "agent" / "journal.json").exists, "journal", agent)
    desire(hub, agent.name, first)
    arrives(agent, hub, first)
    desire(hub, agent.name, second)
    arrives(agent, hub, second)
    assert reported(hub, agent.name)["previous"]["version"] == 1
    fetched = reported(hub, agent.name)["fetched"]
    desire(hub, agent.name, first)
    arrives(agent, hub, first)
    assert reported(hub, agent.name)["fetched"] == fetched  # it was still here
    agent.stop()


def test_a_second_agent_in_the_same_folder_says_so_and_ends(hub, make_agent):
    agent = make_agent(f"http://127.0.0.1:{hub.port}")
    wait_for((agent.root / "agent" / "lock").exists, "start", agent)
    wait_for((agent.root / "agent" / "journal.json").exists, "start", agent)
    other = make_agent(f"http://127.0.0.1:{hub.port}")
    assert other.wait() == 4
    assert "another agent runs" in other.tail()
    agent.stop()


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.deep)])
def test_the_agent_is_killed_at_random_instants(hub, make_agent, push, kills):
    chance = random.Random(kills)
    with Proxy(hub.port, rate=1_500_000) as wire:
        first = push(0)
        agent = make_agent(wire.url)
        wait_for((agent.root / "agent" / "journal.json").exists, "journal", agent)
        desire(hub, agent.name, first)
        arrives(agent, hub, first)
        done, number, whole = 0, 0, (agent.root / "blobs")
        while done < kills:
            number += 1
            version = push(number)
            before, killed = wire.down, 0
            desire(hub, agent.name, version)
            while current(agent) != version["version"] and done < kills:
                time.sleep(chance.uniform(0.05, 1.2))
                agent.kill()
                check_whole(agent)
                assert current(agent) in (number, number + 1)
                done, killed = done + 1, killed + 1
                agent.start()
            arrives(agent, hub, version)
            assert wire.down - before <= 1_010_000 + killed * CHUNK + (killed + 1) * TALK
        assert whole.is_dir()
        agent.stop()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.deep)])
def test_the_hub_is_killed_at_random_instants(hub, make_agent, push, kills):
    chance = random.Random(kills)
    with Proxy(hub.port, rate=1_500_000) as wire:
        agent = make_agent(wire.url)
        wait_for((agent.root / "agent" / "journal.json").exists, "journal", agent)
        for number in range(1, kills + 1):
            version = push(number)
            before = wire.down
            desire(hub, agent.name, version)
            time.sleep(chance.uniform(0.0, 1.0))
            hub.kill()
            check_whole(agent)
            hub.start()
            arrives(agent, hub, version)
            assert wire.down - before <= 1_010_000 + CHUNK + 4 * TALK
        agent.stop()


@pytest.mark.parametrize("cuts", [4, pytest.param(100, marks=pytest.mark.deep)])
def test_the_link_is_cut_at_random_bytes(hub, make_agent, push, cuts):
    chance = random.Random(cuts)
    with Proxy(hub.port) as wire:
        agent = make_agent(wire.url)
        wait_for((agent.root / "agent" / "journal.json").exists, "journal", agent)
        number = 0
        while cuts > 0:
            number += 1
            version = push(number)
            wire.cuts = [chance.randrange(1, 500_000) for _ in range(min(4, cuts))]
            given, before, made = len(wire.cuts), wire.down, wire.made
            wire.cut()  # what is open now has no budget
            desire(hub, agent.name, version)
            arrives(agent, hub, version)
            cuts -= given
            assert wire.down - before <= 1_010_000 + given * CHUNK + (wire.made - made + 1) * TALK
        agent.stop()


def test_what_was_not_desired_any_more_is_gone(hub, make_agent, push):
    first, pose = push(1, 5000), push(2, 5000, "pose")
    agent = make_agent(f"http://127.0.0.1:{hub.port}")
    wait_for((agent.root / "agent" / "journal.json").exists, "journal", agent)
    desire(hub, agent.name, first)
    desire(hub, agent.name, pose)
    wait_for(lambda: reported(hub, agent.name, "pose").get("current"), "pose", agent)
    hub.client().patch_twin(agent.name, {"properties": {"desired": {"models": {"pose": None}}}})
    wait_for(lambda: not reported(hub, agent.name, "pose"), "pose is dropped", agent)
    arrives(agent, hub, first)
    wait_for(lambda: len(Blobs(agent.root / "blobs").digests()) == 2, "garbage", agent)
    agent.send(signal.SIGINT)
    assert agent.wait() == 0
