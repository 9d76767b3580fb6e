"""A hub whose objects are in Blob Storage, and a device that fetches them there itself."""

from __future__ import annotations

import pytest
from tests.azurite import Azurite
from tests.e2e.conftest import HubProcess, desire, wait_for
from tests.e2e.test_agent_hub import arrives


@pytest.fixture
def hub(tmp_path):
    with Azurite(tmp_path / "azurite") as azurite:
        environment = {
            **azurite.environment,
            "FARSHORE_HUB_STORE": azurite.container("models"),
            "FARSHORE_HUB_DIRECT": "1",
            "FARSHORE_HUB_TICKET_SECONDS": "2",
        }
        process = HubProcess(tmp_path / "hub", **environment).start()
        yield process
        process.kill()


def test_a_device_fetches_from_the_container_while_its_tickets_run_out(hub, make_agent, push):
    first, second = push(1), push(2)
    agent = make_agent(f"http://127.0.0.1:{hub.port}", "--rate", "200kB")
    wait_for(lambda: list(hub.client().devices()), "enrolment", agent)
    desire(hub, agent.name, first)
    arrives(agent, hub, first)
    desire(hub, agent.name, second)
    arrives(agent, hub, second)
    assert not (hub.data / "objects").exists()
