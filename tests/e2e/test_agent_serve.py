"""A whole device: agent and inference server as real processes beside a real hub, killed while requests go on."""

from __future__ import annotations

import http.client
import io
import json
import random
import socket
import threading
import time

import pytest
from tests.e2e.conftest import Command, desire, reported, wait_for
from tests.sim.proxy import Proxy

from farshore.store.slots import Slots

pytest.importorskip("onnxruntime")


class Server(Command):
    """The inference server of a device."""

    def __init__(self, root) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        root.mkdir()
        super().__init__(root.with_suffix(".serve.log"), "serve", "--root", str(root), "--port", str(self.port))

    def ask(self, picture: bytes) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/score", picture)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


class Load(threading.Thread):
    """Asks again and again, and keeps what it got."""

    def __init__(self, server: Server, picture: bytes) -> None:
        super().__init__(daemon=True)
        self._server, self._picture, self._ended = server, picture, threading.Event()
        self.answers: list[tuple[int, int | None]] = []

    def run(self) -> None:
        while not self._ended.is_set():
            status, body = self._server.ask(self._picture)
            self.answers.append((status, body.get("version")))
            time.sleep(0.01)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join()


@pytest.fixture
def picture():
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def server(tmp_path):
    process = Server(tmp_path / "turbine-7").start()
    yield process
    process.kill()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.deep)])
def test_an_agent_killed_at_random_never_costs_an_answer(hub, server, make_agent, push, picture, kills):
    chance = random.Random(kills)
    with Proxy(hub.port, rate=1_500_000) as wire:
        agent = make_agent(wire.url, "--trial", "0.5", serve="socket")
        wait_for((agent.root / "agent" / "journal.json").exists, "journal", agent)

        def arrives(version):
            wait_for(
                lambda: (told := reported(hub, agent.name)).get("current", {}).get("digest") == version["digest"]
                and "target" not in told,
                f"version {version['version']}", agent, server,
            )  # fmt: skip

        number, version = 1, push(1)
        desire(hub, agent.name, version)
        arrives(version)
        with Load(server, picture) as load:
            done = 0
            while done < kills:
                number += 1
                version = push(number)
                desire(hub, agent.name, version)
                for _ in range(min(3, kills - done)):
                    time.sleep(chance.uniform(0.05, 1.2))
                    agent.kill()
                    done += 1
                    agent.start()
                arrives(version)
                status, body = server.ask(picture)
                assert (status, body["version"]) == (200, number)
                assert Slots(agent.root).current("detector").version == number
        assert {status for status, _ in load.answers} == {200}
        versions = [version for _, version in load.answers]
        assert versions == sorted(versions)
        agent.stop()
