"""Blue/green on whole devices: agents and inference servers as processes, under load; one switch, and one switch back."""

from __future__ import annotations

import io

import pytest
from tests.e2e.conftest import reported, wait_for
from tests.e2e.test_agent_serve import Load, Server

pytest.importorskip("onnxruntime")
NAMES = ("turbine-7", "turbine-8")


@pytest.fixture
def picture():
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def servers(tmp_path):
    made = [Server(tmp_path / name).start() for name in NAMES]
    yield made
    for one in made:
        one.kill()


def test_the_switch_and_the_switch_back_cost_no_request_and_no_byte(hub, servers, make_agent, push, picture):
    client = hub.client()
    push(1)
    client.put_deployment("prod", model="detector@1", selector="*")
    agents = [make_agent(f"http://127.0.0.1:{hub.port}", "--trial", "0.5", name=name, serve="socket") for name in NAMES]

    def said(truth):
        return lambda: all(truth(reported(hub, name)) for name in NAMES)

    def runs(number):
        return said(lambda one: one.get("current", {}).get("version") == number and "target" not in one)

    def fetched():
        return [reported(hub, name)["fetched"] for name in NAMES]

    wait_for(runs(1), "version 1", *agents, *servers)
    push(2)
    with Load(servers[0], picture) as first, Load(servers[1], picture) as second:
        started = client.start_rollout(
            {"model": "detector@2", "deployment": "prod", "strategy": "blue-green", "gate": {"soak": 0}}
        )
        assert started["held"]
        ready = said(lambda one: one.get("target", {}).get("state") == "ready")
        wait_for(ready, "version 2 beside version 1", *agents, *servers)
        assert runs_still(hub) == {1}
        found = client.rollout("prod-2")
        assert (found["state"], found["waves"][0]["tally"]["ready"]) == ("running", 2)
        assert "farshore rollout advance prod-2 switches all" in found["waiting"]
        why = client.why(NAMES[0], "detector")["chain"]
        assert why[-1]["code"] == "switch"
        before = fetched()

        client.steer_rollout("prod-2", "advance")
        wait_for(runs(2), "the switch", *agents, *servers)
        wait_for(lambda: client.rollout("prod-2")["state"] == "done", "the end of the trial", *agents, *servers)
        client.steer_rollout("prod-2", "rollback")
        wait_for(runs(1), "the switch back", *agents, *servers)
        assert fetched() == before
    for load in (first, second):
        assert {status for status, _ in load.answers} == {200}
        versions = [version for _, version in load.answers]
        turns = [number for at, number in enumerate(versions) if at == 0 or versions[at - 1] != number]
        assert turns == [1, 2, 1]
    moved = {row["version"]: row["bytes"] for row in client.ledger("version", rollout="prod-2")}
    assert moved == {2: sum(fetched()) - sum(row["bytes"] for row in client.ledger("version") if row["version"] == 1)}
    for one in agents:
        one.stop()


def runs_still(hub):
    return {reported(hub, name)["current"]["version"] for name in NAMES}
