"""The agent as it is run: wired, alone in its folder, and hard to stop except on purpose."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest
from tests.sim.http_face import HttpFace
from tests.sim.hub import SimHub
from tests.sim.releases import release

from farshore.agent import identity, loop
from farshore.agent.settings import Settings
from farshore.core.errors import Conflict, NotFound, Unavailable
from farshore.store.slots import Slots


@pytest.fixture
def face():
    with HttpFace(SimHub()) as face:
        yield face


@pytest.fixture
def settings(tmp_path, face):
    settings = Settings.load(tmp_path, {"hub": face.url, "serve": "none", "keep_free": 0}, {})
    identity.enrol(settings, "token-token-token-token", "d")
    return settings


def test_once(face, settings):
    version = face.hub.publish(release())
    face.hub.desire("d", version)
    loop.run(settings, once=True)
    assert Slots(settings.root).current("detector").digest == version.digest
    assert face.hub.reported("d", "detector")["current"]["version"] == 1
    assert "target" not in face.hub.reported("d", "detector")
    face.hub.log.clear()
    loop.run(settings, once=True)
    assert [what for what, _ in face.hub.log] == ["sync"]


def test_once_without_a_hub_does_what_it_can(face, settings):
    face.spoil = lambda _path, _answer: (503, {}, b"")
    loop.run(settings, once=True)


def test_not_enrolled(tmp_path):
    with pytest.raises(NotFound, match="enrol"):
        loop.run(Settings.load(tmp_path, {}, {}), once=True)


def test_only_one_agent_in_a_folder(settings):
    with loop._alone(settings), pytest.raises(Conflict, match="another agent"):
        loop.run(settings, once=True)
    loop.run(settings, once=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told(settings, number):
    handler = signal.getsignal(signal.SIGTERM)
    threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
    loop.run(settings)
    assert signal.getsignal(signal.SIGTERM) == handler
    loop.run(settings, once=True)  # the folder is free again


class Stubborn:
    """An agent that fails in every way before it is stopped."""

    def __init__(self):
        self.errors = [Unavailable("disk"), OSError("odd"), ValueError("a mistake of ours"), KeyboardInterrupt()]
        self.stumbles = self.starts = 0

    def start(self, boot):
        self.starts += 1
        if self.starts == 1:
            raise Unavailable("disk full")

    def turn(self, *, hold):
        raise self.errors.pop(0)

    def stumble(self):
        self.stumbles += 1


def test_no_error_ends_the_loop(caplog):
    agent = Stubborn()
    with pytest.raises(KeyboardInterrupt):
        loop._go(agent, once=False)
    assert (agent.starts, agent.stumbles, agent.errors) == (2, 4, [])
    assert "a mistake of ours" in caplog.text


def test_the_agent_is_light():
    """Nothing that a small device should not have to load."""
    import subprocess

    code = "import sys, farshore.agent.loop; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "onnxruntime", "ai_edge_litert", "starlette", "granian", "sqlalchemy", "obstore", "asyncio"}
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path, settings, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unavailable, match="permissions"), loop._alone(settings):
        pass
