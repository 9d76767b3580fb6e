"""Watching: in place on a terminal, lines where output is piped, and over a restart of the hub; as real processes."""

from __future__ import annotations

import itertools
import os
import pty
import re
import select
import subprocess
import sys

import pytest
from tests.e2e.conftest import HubProcess, wait_for

pytest.importorskip("onnx")
HOME = re.compile(rb"\x1b\[\d*A")
"""The cursor goes up: what is drawn next replaces what stood there."""


def environment(hub: HubProcess) -> dict[str, str]:
    token = (hub.data / "admin.token").read_text().strip()
    url = f"http://127.0.0.1:{hub.port}"
    return {**os.environ, "FARSHORE_HUB": url, "FARSHORE_TOKEN": token, "COLUMNS": "120", "TERM": "xterm"}


class Piped:
    """A command whose output goes into a pipe."""

    def __init__(self, hub: HubProcess, *command: str) -> None:
        self._reading, writing = os.pipe()
        self._start(hub, command, writing)

    def _start(self, hub: HubProcess, command: tuple[str, ...], output: int) -> None:
        self.said = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "farshore.cli", *command],
            env=environment(hub),
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
        os.close(output)

    def poll(self) -> int | None:
        """Read what has come; whether it has ended."""
        while select.select([self._reading], [], [], 0)[0]:
            try:
                data = os.read(self._reading, 1 << 16)
            except OSError:  # the other end of a terminal is closed
                break
            if not data:
                break
            self.said += data
        return self._process.poll()

    def tail(self) -> str:
        self.poll()
        return self.said.decode()

    def says(self, text: str):
        return lambda: text in self.tail()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._reading)


class Shown(Piped):
    """A command on a terminal."""

    def __init__(self, hub: HubProcess, *command: str) -> None:
        self._reading, terminal = pty.openpty()
        self._start(hub, command, terminal)


@pytest.fixture
def watching(hub):
    made = []

    def watch(kind, *command):
        made.append(kind(hub, *command))
        return made[-1]

    yield watch
    for one in made:
        one.end()


@pytest.fixture
def rollout(hub, push):
    push(1)
    push(2)
    hub.client().put_deployment("prod", model="detector@1", selector="*")
    return hub.client().start_rollout({"model": "detector@2", "deployment": "prod"})["id"]


@pytest.mark.parametrize("kind", [Piped, Shown])
def test_a_rollout_is_watched_over_a_restart_of_the_hub(hub, watching, rollout, kind):
    watch = watching(kind, "rollout", "watch", rollout)
    wait_for(watch.says(f"{rollout}"), "the first look", watch)
    hub.kill()
    wait_for(watch.says("no hub answers"), "that the hub is away", watch)
    hub.start()
    hub.client().steer_rollout(rollout, "abort", "seen enough")
    wait_for(lambda: watch.poll() is not None, "the end")
    assert watch.poll() == 0, watch.tail()
    assert "seen enough" in watch.tail()
    if kind is Piped:
        lines = watch.tail().splitlines()
        assert all(one != next_ for one, next_ in itertools.pairwise(lines)), "a line for each change"
        assert b"\x1b" not in watch.said
    else:
        assert HOME.search(watch.said), "drawn in place"


@pytest.mark.parametrize("kind", [Piped, Shown])
def test_a_device_is_watched_over_a_restart_of_the_hub(hub, watching, push, make_agent, kind):
    agent = make_agent(f"http://127.0.0.1:{hub.port}")
    wait_for(lambda: any(one["id"] == agent.name for one in hub.client().devices()), "the device", agent)
    watch = watching(kind, "device", "watch", agent.name)
    wait_for(watch.says("no models" if kind is Piped else agent.name), "the first look", watch)
    push(1)
    hub.client().put_deployment("prod", model="detector@1", selector="*")
    wait_for(watch.says("detector@1" if kind is Piped else "1 (onnx"), "version 1", watch)
    hub.kill()
    wait_for(watch.says("no hub answers"), "that the hub is away", watch)
    hub.start()
    push(2)
    hub.client().put_deployment("prod", model="detector@2", selector="*")
    wait_for(watch.says("detector@2" if kind is Piped else "2 (onnx"), "version 2", watch)
    assert bool(HOME.search(watch.said)) == (kind is Shown)
    settled = watching(Piped, "device", "watch", agent.name, "--until-settled")
    wait_for(lambda: settled.poll() is not None, "the end")
    assert settled.poll() == 0 and "detector@2" in settled.tail()
