"""Power cuts while a device enrols: what the hub took as its credential it still has, and asking again comes to the same end."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.crash.recorder import File, Folder, Recording
from tests.crash.replay import states
from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub
from tests.sim.links import SimLink
from tests.sim.world import DEVICE

from farshore.agent import identity
from farshore.agent.settings import Settings
from farshore.core import possession
from farshore.core.errors import FarshoreError
from farshore.core.trust import SigningKey

TOKEN = "token-token-token-token"


def enrol(root, hub):
    """Enrol, renew, and renew once more."""
    settings, link = Settings.load(root, {"hub": "http://hub"}, {}), SimLink(hub, VirtualClock())
    who = identity.enrol(settings, TOKEN, DEVICE, link)
    while who.turn < 2:
        who = identity.renew(settings, who, link, "")
    return who


@pytest.fixture
def recording(scratch):
    hub, root = SimHub(), scratch / "device"
    root.mkdir()
    recording = Recording(root, lambda: hub_as_it_is(hub))
    with recording.running():
        enrol(root, hub)
    return recording


def hub_as_it_is(hub):
    return {
        "tokens": set(hub.tokens), "credentials": dict(hub.credentials), "keys": dict(hub.keys), "turns": dict(hub.turns),
        "twins": dict(hub.twins),
    }  # fmt: skip


def check(root, known):
    folder = root / "agent"
    if known["keys"]:
        assert known["keys"] == {DEVICE: str(SigningKey((folder / "device.key").read_bytes()).public)}
        held = json.loads((folder / "identity.json").read_bytes())
        assert {possession.hashed(held["credential"]), possession.hashed(held.get("coming", ""))} & set(
            known["credentials"]
        )
    for file in (*root.rglob("agent/*.json"), *root.rglob("agent/*.key")):
        assert file.stat().st_mode & 0o077 == 0
    hub = SimHub(**{name: value.copy() for name, value in known.items()})
    made = enrol(root, hub)
    assert hub.credentials == {possession.hashed(made.credential): DEVICE}
    assert identity.load(Settings.load(root, {}, {})) == made
    assert (hub.tokens, hub.copied) == (set(), set())


def bad_states(recording, scratch, **more):
    bad, count = [], 0
    for state in states(recording, at_each=1000, **more):
        root = state.lay(scratch / "root")
        try:
            check(root, state.known)
        except (AssertionError, FarshoreError, OSError, ValueError) as error:
            bad.append(f"after {state.at}: {error!r}")
        shutil.rmtree(root)
        count += 1
    print(f"enrolment: {count} states, {len(bad)} bad")
    return count, bad


def test_an_enrolment_is_never_lost_in_part(recording, scratch):
    count, bad = bad_states(recording, scratch)
    assert not bad, "\n".join(bad[:5])
    assert count >= 10


@pytest.mark.parametrize("kind", [File, Folder])
def test_an_fsync_left_out_would_be_noticed(kind, recording, scratch):
    assert bad_states(recording, scratch, without=kind)[1]
