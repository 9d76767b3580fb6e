"""The agent's side of the control socket, against a server that speaks real HTTP over a real socket."""

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from tests.sim.releases import release

from farshore.agent import runtime
from farshore.agent.runtime import NoRuntime, SocketRuntime
from farshore.core import digest as digests
from farshore.core.control import SOCKET, ModelStatus, Probe, Serving, Status, Switch
from farshore.core.errors import Conflict, FarshoreError, Invalid, NotFound, Unavailable
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

V1 = digests.of(b"v1")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, body))
        status, value = self.server.says[self.path.rsplit("/", 1)[1]]
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self):
        return "agent"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def root():
    folder = Path(tempfile.mkdtemp(prefix="fs-"))  # a socket's path must be short
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(root):
    with Server(str(root / SOCKET), Handler) as server:
        server.seen, server.says = [], {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def agent(root):
    agent = SocketRuntime(root, patience=10.0)
    yield agent
    agent.close()


def test_looking(server, agent):
    status = Status(("litert",), {"m": ModelStatus(Serving(V1, 3, requests=7))})
    server.says = {"models": (200, status)}
    assert agent.look() == status


def test_orders(server, agent):
    server.says = {"probe": (200, Probe(ok=True, memory=5)), "switch": (200, Switch(V1)), "drop": (200, b"{}")}
    assert agent.probe("m", V1) == Probe(ok=True, memory=5)
    agent.switch("m", V1)
    agent.drop("m", V1)
    assert [(method, path) for method, path, _ in server.seen] == [
        ("POST", f"/control/models/m/{order}") for order in ("probe", "switch", "drop")
    ]
    assert all(json.loads(body) == {"digest": V1} for _, _, body in server.seen)


def test_refusals_come_by_their_name(server, agent):
    server.says = {"switch": (409, {"error": {"code": "conflict", "message": "not warm"}})}
    with pytest.raises(Conflict, match="not warm"):
        agent.switch("m", V1)


def test_a_switch_to_something_else_is_none(server, agent):
    server.says = {"switch": (200, Switch(digests.of(b"other")))}
    with pytest.raises(Unavailable):
        agent.switch("m", V1)


@pytest.mark.parametrize("answer", [(200, b"nonsense"), (500, b"oops"), (200, b"x" * (2 << 20))])
def test_answers_of_no_kind(server, agent, answer):
    server.says = {"models": answer, "probe": answer}
    assert agent.look() == "away"
    with pytest.raises(FarshoreError):
        agent.probe("m", V1)


def test_no_server(root, agent):
    assert agent.look() == "away"
    with pytest.raises(Unavailable, match="does not answer"):
        agent.probe("m", V1)


def test_a_server_that_hangs(root, monkeypatch):
    monkeypatch.setattr(runtime, "STATUS_SECONDS", 0.1)
    with Server(str(root / SOCKET), Handler):  # accepts into its backlog, answers nothing
        agent = SocketRuntime(root, patience=0.1)
        assert agent.look() == "away"
        with pytest.raises(Unavailable):
            agent.probe("m", V1)
        agent.close()


def test_a_device_without_server_reads_the_files(tmp_path):
    slots, blobs, version = Slots(tmp_path), Blobs(tmp_path / "blobs"), release()
    for data in version.blobs.values():
        blobs.add(data)
    installed = slots.install(version.payload, version.manifest.content.variants[0], blobs)
    none = NoRuntime(slots)
    assert none.look() == "none"
    assert none.probe("detector", version.digest).ok
    none.switch("detector", version.digest)
    none.drop("detector", version.digest)
    weights = installed.file("model.onnx")
    weights.chmod(0o644)
    weights.write_bytes(b"scrambled")
    result = none.probe("detector", version.digest)
    assert not result.ok
    assert result.fault.code == "corrupt"
    with pytest.raises(NotFound):
        none.probe("detector", V1)


def test_a_root_folder_that_holds_no_socket_is_told_at_once(tmp_path):
    with pytest.raises(Invalid, match="shorter root folder"):
        SocketRuntime(tmp_path / ("long" * 30), 1.0)
