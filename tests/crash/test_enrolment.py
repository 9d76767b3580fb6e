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
from farshore.core.errors import FarshoreError

TOKEN = "token-token-token-token"


def enrol(root, hub):
    settings = Settings.load(root, {"hub": "http://hub"}, {})
    return identity.enrol(settings, TOKEN, DEVICE, SimLink(hub, VirtualClock()))


@pytest.fixture
def recording(scratch):
    hub, root = SimHub(), scratch / "device"
    root.mkdir()
    recording = Recording(root, lambda: (frozenset(hub.tokens), dict(hub.credentials)))
    with recording.running():
        enrol(root, hub)
    return recording


def check(root, known):
    tokens, credentials = known
    path = root / "agent" / "identity.json"
    if credentials:
        assert json.loads(path.read_bytes())["credential"] in credentials
    for file in root.rglob("agent/*.json"):
        assert file.stat().st_mode & 0o077 == 0
    hub = SimHub(tokens=set(tokens), credentials=dict(credentials))
    made = enrol(root, hub)
    assert hub.credentials == {made.credential: DEVICE}
    assert identity.load(Settings.load(root, {}, {})) == made
    assert hub.tokens == set()


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
