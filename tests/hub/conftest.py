"""A hub of its own for each test, asked through its whole API; and small model files made here."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import httpx
import pytest
from tests.sim.devices import bearer_of, enrol_body

with warnings.catch_warnings():  # it would rather have httpx's successor, which is not out
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from farshore.core import digest as digests
from farshore.hub import acting
from farshore.hub.app import create_app
from farshore.hub.settings import Settings

PASSWORD = "correct horse battery staple"


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Operator:
    """The operator API through a test client; answers are decoded, and a wrong status is an error."""

    def __init__(self, client: TestClient, token: str) -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method, path, *, status=(200, 201, 204), **more):
        headers = {**self.headers, **more.pop("headers", {})}
        answer = self.client.request(method, path, headers=headers, **more)
        wanted = status if isinstance(status, tuple) else (status,)
        assert answer.status_code in wanted, (answer.status_code, answer.text)
        return answer

    def get(self, path, **more):
        return self.ask("GET", path, **more).json()

    def upload(self, data: bytes) -> str:
        digest = digests.of(data)
        self.ask("PUT", f"/v1/blobs/{digest}", content=data)
        return digest

    def push(self, name: str, files: dict[str, bytes], *, status=(200, 201), **more):
        parts = [{"path": path, "digest": self.upload(data)} for path, data in files.items()]
        return self.ask("POST", f"/v1/models/{name}/versions", json={"files": parts, **more}, status=status).json()

    def enrolled(self, device: str, **more) -> "Device":
        token = self.ask("POST", "/v1/enrolments", json=more).json()["token"]
        found = self.client.post("/device/v1/enrol", json=enrol_body(device, token))
        assert found.status_code == 200, found.text
        return Device(self.client, found.json()["device"], bearer_of(device), found.json()["roots"])


class Device:
    """The device API as one device."""

    def __init__(self, client, name, credential, roots) -> None:
        self.client, self.name, self.roots = client, name, roots
        self.headers = {"Authorization": f"Bearer {credential}"}

    def sync(self, status=200, **more):
        answer = self.client.post("/device/v1/sync", json=more, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def ticket(self, digest, status=200, **more):
        answer = self.client.post("/device/v1/tickets", json={"want": digest, **more}, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def manifest(self, digest, status=200):
        answer = self.client.get(f"/device/v1/manifests/{digest}", headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.content


class Process:
    """A hub in a process of its own, as users run it."""

    def __init__(self, data, verify=True, **environment) -> None:
        self.data, self.verify, self.log = data, verify, data.with_suffix(".log")
        # No patches: a device that asks for a ticket would wait for them here.
        self.environment = {**os.environ, "FARSHORE_HUB_BUILDERS": "0", **environment}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self._operator = None
        self.start()

    def start(self) -> None:
        code = (
            "import os, pathlib, sys; from farshore.hub.app import run; from farshore.hub.settings import read; "
            "run(read(os.environ, data=pathlib.Path(sys.argv[1]), port=int(sys.argv[2])))"
        )
        arguments = [sys.executable, "-c", code, str(self.data), str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(arguments, env=self.environment, stderr=log)
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz", verify=self.verify).status_code == 200:
                    return
            assert self.process.poll() is None, "the hub ended"
            time.sleep(0.05)
        raise AssertionError("the hub did not start")

    @property
    def url(self) -> str:
        tls = {"FARSHORE_HUB_CERTIFICATE", "FARSHORE_HUB_HOST"} & set(self.environment)
        scheme = "https" if tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def operator(self) -> Operator:
        if self._operator is None:
            client = httpx.Client(base_url=self.url, timeout=60, verify=self.verify)
            development = self.data / "admin.token"
            secret = development.read_text().strip() if development.exists() else self.set_up(client)
            self._operator = Operator(client, secret)
        return self._operator

    def set_up(self, client) -> str:
        """Be the first admin, by the link that the hub printed at its start; an API token."""
        secret = re.findall(r"/setup#farshore1\.([\w-]+)", self.log.read_text())[-1]
        told = client.post("/v1/setup", json={"secret": secret, "password": PASSWORD}).json()
        session = client.post("/v1/login", json={"name": told["name"], "password": PASSWORD}).json()
        made = client.post("/v1/tokens", json={"name": "tests"}, headers={"X-CSRF-Token": session["csrf"]})
        assert made.status_code == 201, made.text
        client.cookies.clear()
        return made.json()["token"]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, *pieces: bytes) -> bytes:
        """Send bytes as they are; everything that comes back until the hub closes, or a second of silence."""
        with self.connect() as link:
            link.settimeout(1)
            found = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                for piece in pieces:
                    link.sendall(piece)
                while data := link.recv(65536):
                    found += data
            return found

    def end(self, number: int = signal.SIGKILL) -> int:
        operator, self._operator = self._operator, None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        code = self.process.wait(timeout=30)
        if operator is not None:
            operator.client.close()
        return code


@pytest.fixture
def start_process():
    """Start a hub in a process of its own; ended with the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **more):
            running = Process(*arguments, **more)
            stack.callback(running.end)
            return running

        yield start


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    running = Process(tmp_path_factory.mktemp("process") / "hub")
    yield running
    running.end()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def settings(tmp_path):
    return Settings(data=tmp_path / "hub")


@pytest.fixture
def operator_of(settings, clock):
    """The operator of a hub with these settings changed; the hub is stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(**changes):
            app = create_app(replace(settings, **changes), clock)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            return Operator(client, (settings.data / "admin.token").read_text().strip())

        yield start


@pytest.fixture
def operator(operator_of):
    return operator_of()


@pytest.fixture
def client(operator):
    return operator.client


@pytest.fixture
def hub(client):
    return client.app.hub


@pytest.fixture
def make_onnx():
    """A small classifier as ONNX: a 16×16 picture to scores of ``classes`` classes; ``seed`` makes its weights."""
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def make(seed: int = 1, classes: int = 3) -> bytes:
        weights = np.random.default_rng(seed).standard_normal((classes, 3)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
                helper.make_node("Softmax", ["logits"], ["scores"]),
            ],
            "classifier",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes])],
            [numpy_helper.from_array(weights, "weights")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    return make


TOML = "[input]\nmean = 127.5\nstd = 127.5\n"
LABELS = b"ship\nbuoy\nturbine\n"


@pytest.fixture
def pushed(operator, make_onnx):
    """Push version after version of a small classifier."""

    def push(name: str = "detector", seed: int = 1, **more):
        return operator.push(name, {"net.onnx": make_onnx(seed), "labels.txt": LABELS}, **{"overrides": TOML, **more})

    return push


@pytest.fixture(autouse=True)
def nobody_acts():
    """Who acts is remembered by the thread that a request ran in: here that may be the test's own."""
    acting.now.set(None)
