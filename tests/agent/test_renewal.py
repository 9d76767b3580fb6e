"""Bearers expire, and nobody above the link notices; copies of a device are found out."""

from __future__ import annotations

import shutil

import pytest
from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub
from tests.sim.links import SimLink
from tests.sim.releases import release

from farshore.agent import identity
from farshore.agent.renewal import RenewingLink
from farshore.agent.settings import Settings
from farshore.core.errors import Denied, Unauthenticated, Unavailable
from farshore.core.wire import SyncRequest, TicketRequest

TOKEN = "token-token-token-token"


class Machine:
    """A device's disk and what it runs as after each start."""

    def __init__(self, root, hub):
        self.settings = Settings.load(root, {"hub": "http://hub"}, {})
        self.inner = SimLink(hub, VirtualClock())

    def enrol(self, boot):
        identity.enrol(self.settings, TOKEN, "d", self.inner, boot=boot)
        return self.start(boot)

    def start(self, boot):
        return RenewingLink(self.inner, self.settings, identity.load(self.settings), boot)


@pytest.fixture
def hub():
    return SimHub()


@pytest.fixture
def machine(tmp_path, hub):
    return Machine(tmp_path / "one", hub)


def asked(hub):
    found = [what for what, _ in hub.log]
    hub.log.clear()
    return found


def test_while_the_bearer_is_good_nothing_is_added(machine, hub):
    link = machine.enrol("boot-1")
    asked(hub)
    for _ in range(3):
        link.sync(SyncRequest())
    assert asked(hub) == ["sync"] * 3


def test_an_expired_bearer_is_renewed_and_the_question_asked_again(machine, hub):
    link = machine.enrol("boot-1")
    version = hub.publish(release())
    digest = next(iter(version.blobs))
    for ask in (
        lambda: link.sync(SyncRequest()).retry,
        lambda: link.manifest(version.digest),
        lambda: link.tickets(TicketRequest(digest)),
    ):
        hub.expire("d")
        asked(hub)
        assert ask()
        assert asked(hub)[-3:-1] == ["challenge", "renew"]
    assert hub.turns == {"d": 3}
    assert machine.start("boot-1").sync(SyncRequest()).retry  # what was renewed is on disk


def test_a_start_of_the_machine_renews(machine, hub):
    machine.enrol("boot-1")
    asked(hub)
    link = machine.start("boot-2")
    link.sync(SyncRequest())
    link.sync(SyncRequest())
    assert asked(hub) == ["challenge", "renew", "sync", "sync"]
    machine.start("boot-2").sync(SyncRequest())
    machine.start("").sync(SyncRequest())  # a machine that does not say when it started
    assert asked(hub) == ["sync", "sync"]


def test_without_a_hub_at_the_start_it_is_made_up_for(machine, hub):
    machine.enrol("boot-1")
    link = machine.start("boot-2")
    machine.inner.up = False
    with pytest.raises(Unavailable):
        link.sync(SyncRequest())
    machine.inner.up = True
    link.sync(SyncRequest())
    assert hub.turns == {"d": 1}


def test_a_hub_that_takes_no_bearer_at_all_is_not_asked_for_ever(machine, hub, monkeypatch):
    link = machine.enrol("boot-1")
    asked(hub)
    monkeypatch.setattr(hub, "sync", lambda *_: (_ for _ in ()).throw(Unauthenticated("never")))
    with pytest.raises(Unauthenticated):
        link.sync(SyncRequest())
    assert asked(hub) == ["challenge", "renew"]


@pytest.mark.parametrize("first", ["copy", "original"])
def test_a_copied_disk_is_found_out_when_the_second_of_the_two_renews(tmp_path, machine, hub, first):
    original = machine.enrol("boot-1")
    original.sync(SyncRequest())
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy = Machine(tmp_path / "two", hub).start("boot-of-another-machine")
    if first == "original":
        original = machine.start("boot-2")
        original.sync(SyncRequest())
        with pytest.raises(Denied, match="quarantined"):
            copy.sync(SyncRequest())
    else:
        copy.sync(SyncRequest())
        with pytest.raises(Denied, match="quarantined"):
            original.sync(SyncRequest())
    for each in (original, copy):
        with pytest.raises(Denied):
            each.sync(SyncRequest())
    assert hub.copied == {"d"}


def test_a_disk_put_back_to_an_older_state_is_found_out(tmp_path, machine, hub):
    machine.enrol("boot-1")
    shutil.copytree(tmp_path / "one", tmp_path / "backup")
    for boot in ("boot-2", "boot-3"):
        machine.start(boot).sync(SyncRequest())
    with pytest.raises(Denied, match="quarantined"):
        Machine(tmp_path / "backup", hub).start("boot-4").sync(SyncRequest())
