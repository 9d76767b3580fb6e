"""A version that works and answers worse is caught in the shadow: real hub, agent and inference server, under load."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys

import pytest
from tests.e2e.conftest import reported, wait_for
from tests.e2e.test_agent_serve import Load, Server

pytest.importorskip("onnxruntime")

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200), (220, 220, 220)]
GATE = {"soak": 0.0, "agreement": 0.9, "compared": 20, "shadow": 1.0, "shadow_answers": 40, "shadow_seconds": 3600.0}


class Cameras(Load):
    """Asks about one scene after another."""

    def __init__(self, server: Server, scenes: list[bytes]) -> None:
        super().__init__(server, scenes[0])
        self._scenes = itertools.cycle(scenes)

    def run(self) -> None:
        while not self._ended.is_set():
            status, body = self._server.ask(next(self._scenes))
            self.answers.append((status, body.get("version")))


@pytest.fixture
def scenes():
    from PIL import Image

    found = []
    for colour in COLOURS:
        data = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(data, "PNG")
        found.append(data.getvalue())
    return found


@pytest.fixture
def server(tmp_path):
    process = Server(tmp_path / "turbine-7").start()
    yield process
    process.kill()


def said(hub, *command: str) -> str:
    """What a command prints."""
    token = (hub.data / "admin.token").read_text().strip()
    where = {"FARSHORE_HUB": f"http://127.0.0.1:{hub.port}", "FARSHORE_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-m", "farshore.cli", *command], env={**os.environ, **where}, capture_output=True, check=True
    )
    print(done.stdout.decode())
    return done.stdout.decode()


def test_a_worse_version_is_caught_in_the_shadow_and_nobody_notices(hub, server, make_agent, push, scenes):
    agent = make_agent(f"http://127.0.0.1:{hub.port}", "--trial", "0.5", serve="socket")
    client = hub.client()

    def start(version):
        body = {"model": f"detector@{version['version']}", "deployment": "prod", "gate": GATE}
        return client.start_rollout(body)["id"]

    def ended(rollout):
        return client.rollout(rollout)["state"] not in {"running", "paused"}

    push(1)
    client.put_deployment("prod", model="detector@1", selector="*")
    wait_for(lambda: reported(hub, agent.name).get("current", {}).get("version") == 1, "version 1", agent, server)
    wait_for(lambda: server.ask(scenes[0])[0] == 200, "the first answer", agent, server)
    with Cameras(server, scenes) as load:
        same = start(push(2, like=1))
        wait_for(lambda: ended(same), "the end of the first rollout", agent, server)
        found = client.rollout(same)
        assert (found["state"], found["reason"]) == ("done", "") if "reason" in found else found["state"] == "done"
        tally = found["waves"][0]["tally"]
        assert tally["agreed"] == tally["compared"] >= 40
        worse = start(push(3))
        wait_for(lambda: ended(worse), "the end of the second rollout", agent, server)
        found = client.rollout(worse)
        wait_for(lambda: "target" not in reported(hub, agent.name), "peace", agent, server)
    assert found["state"] == "rolled back"
    assert "of answers agree with the previous version's" in found["reason"]
    assert {status for status, _ in load.answers} == {200}, "nobody's request failed"
    assert {version for _, version in load.answers} == {1, 2}, "and nobody was answered by version 3"
    told = reported(hub, agent.name)
    assert told["current"]["version"] == 2
    trial = told["trial"]
    assert trial["unseen"] is True and trial["agreed"] < 0.9 * trial["compared"]
    assert sum(before for _, before, _ in trial["sketch"]["classes"]) == trial["compared"]
    status = said(hub, "rollout", "status", worse)
    assert found["reason"] in status and "class shift" in status and "score shift" in status
    why = said(hub, "device", "why", agent.name, "detector")
    assert f"rollout {worse} to detector@3 was rolled back: {found['reason']}" in why
    agent.stop()
