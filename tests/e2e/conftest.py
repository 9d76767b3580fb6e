"""Real processes: a hub, an agent, and a wire between them that can be cut."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farshore.client import Hub
from farshore.core.errors import FarshoreError

PATIENCE = 120.0
"""Seconds after which a test gives up; nothing is measured by it."""


def wait_for(truth, what, *processes):
    """Ask again and again until ``truth`` holds; a process that has ended meanwhile is an error."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := truth():
            return found
        for process in processes:
            assert process.poll() is None, f"{what}: ended\n{process.tail()}"
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}\n" + "\n".join(process.tail() for process in processes))


class Command:
    """A ``farshore`` command as a process."""

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self._arguments, self._log = arguments, log
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen | None = None

    def start(self):
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "farshore.cli", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        return self

    def poll(self):
        return self._process.poll()

    def wait(self):
        return self._process.wait(PATIENCE)

    def send(self, number):
        self._process.send_signal(number)

    def kill(self):
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def tail(self):
        return self._log.read_text(errors="replace")[-3000:]


class HubProcess(Command):
    """A hub with its data in a folder of its own, on the same port after each start."""

    def __init__(self, folder: Path, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.data = folder
        arguments = ("hub", "--data", str(folder), "--port", str(self.port))
        super().__init__(folder.with_suffix(".log"), *arguments, **environment)

    def start(self):
        super().start()
        wait_for(self.answers, "hub", self)
        return self

    def answers(self):
        try:
            self.client().deployments()
            return True
        except (FarshoreError, OSError):
            return False

    def client(self) -> Hub:
        return Hub(f"http://127.0.0.1:{self.port}", (self.data / "admin.token").read_text().strip())


class AgentProcess(Command):
    """An agent on a device of its own, enrolled through ``url``."""

    def __init__(self, root: Path, hub: HubProcess, url: str, *more: str, serve: str = "none") -> None:
        self.root, self.name = root, root.name
        token = hub.client().create_enrolment(self.name)["token"]
        super().__init__(
            root.with_suffix(".log"),
            *("agent", "--root", str(root), "--hub", url, "--enrol", token, "--device", self.name, "--serve", serve),
            *("--keep-free", "0", "--trial", "0", "--wait", "5", "--poll", "1", *more),
            FARSHORE_SLICE="0.3",
        )

    def stop(self):
        """Ask it to end, and see that it does so cleanly; one that was only just started has not begun to listen."""
        self.send(signal.SIGTERM)
        assert self.wait() in {0, -signal.SIGTERM}, self.tail()


def desire(hub: HubProcess, device: str, version: dict) -> None:
    entry = {"version": version["version"], "digest": version["digest"]}
    hub.client().patch_twin(device, {"properties": {"desired": {"models": {version["model"]: entry}}}})


def reported(hub: HubProcess, device: str, model: str = "detector") -> dict:
    try:
        twin = hub.client().twin(device)
    except FarshoreError:
        return {}
    return twin["properties"]["reported"].get("models", {}).get(model, {})


@pytest.fixture
def hub(tmp_path):
    # The models pushed here are noise, of which no patch is worth building.
    process = HubProcess(tmp_path / "hub", FARSHORE_HUB_BUILDERS="0").start()
    yield process
    process.kill()


@pytest.fixture
def make_agent(tmp_path, hub):
    made = []

    def make(url: str, *more: str, name: str = "turbine-7", **how) -> AgentProcess:
        made.append(AgentProcess(tmp_path / name, hub, url, *more, **how))
        return made[-1].start()

    yield make
    for agent in made:
        agent.kill()


@pytest.fixture
def push(hub, tmp_path):
    """Push version after version of a small classifier that weighs as much as told, and answers ``like`` another seed's."""
    pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def push(seed: int, size: int = 1_000_000, name: str = "detector", like: int | None = None) -> dict:
        random = np.random.default_rng(seed)
        weights = random.standard_normal((3, 3)).astype(np.float32)
        if like is not None:
            weights = np.random.default_rng(like).standard_normal((3, 3)).astype(np.float32)
        ballast = random.integers(0, 256, size, dtype=np.uint8)
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("Gemm", ["flat", "weights"], ["logits"], transB=1),
                helper.make_node("Softmax", ["logits"], ["scores"]),
            ],
            "classifier",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
            [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(ballast, "ballast")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        folder = tmp_path / f"{name}-{seed}"
        folder.mkdir()
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        (folder / "labels.txt").write_text("ship\nbuoy\nturbine\n")
        version = hub.client().push(name, [folder], overrides="[input]\nmean = 127.5\nstd = 127.5\n")
        return json.loads(json.dumps(version))

    return push
