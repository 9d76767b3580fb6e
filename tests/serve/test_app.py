"""The server as a process: starts, is alone on its folder, ends cleanly, leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from farshore.core.errors import Conflict, Unavailable
from farshore.serve.app import Server
from farshore.serve.model import Model
from farshore.serve.settings import Settings

from .conftest import Client, Device, picture, serve

SCRIPT = """
import sys
from pathlib import Path
from farshore.serve.app import run
from farshore.serve.model import Model
from farshore.serve.settings import Settings
run(Settings(root=Path(sys.argv[1]), port=0, threads=1), lambda server: print(server.port, flush=True))
"""


def started(root: Path) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def score(port: int) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/score", data=picture((255, 0, 0)), method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids: list[int]) -> bool:
    return all(not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text() for pid in pids)


def wait_gone(pids: list[int]) -> None:
    for _ in range(500):
        if gone(pids):
            return
        signal.sigtimedwait([], 0.02)
    raise AssertionError("a worker outlived its server")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_and_its_workers_with_it(device: Device, end: signal.Signals) -> None:
    device.colours(1, activate=True)
    process, port = started(device.root)
    try:
        assert score(port) == 200
        workers = children(process.pid)
        assert len(workers) == 1
        process.send_signal(end)
        assert process.wait(20) == (0 if end != signal.SIGKILL else -signal.SIGKILL)
        wait_gone(workers)
        assert (device.root / "serve.sock").exists() == (end == signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    # After whatever end it starts again on the same folder.
    process, port = started(device.root)
    try:
        assert score(port) == 200
    finally:
        process.terminate()
        process.communicate()


def test_an_interrupt_from_the_terminal_is_for_the_front_alone(device: Device) -> None:
    """Ctrl-C reaches the whole foreground group, and a worker that is still starting would fall over it with a traceback."""
    device.colours(1, activate=True)
    arguments = [sys.executable, "-c", SCRIPT, str(device.root)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, process_group=0)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        while not children(process.pid):
            signal.sigtimedwait([], 0.001)
        assert all(os.getpgid(worker) != process.pid for worker in children(process.pid))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_fault_does_not_stop_the_clock(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.colours(1, activate=True)

    class Faulty(Model):
        looks = 0

        def look(self, now: float) -> None:
            self.looks += 1
            raise RuntimeError("a fault of ours")

    async def main() -> None:
        async with Server(Settings(root=device.root, port=0, threads=1)) as server:
            faulty = server.pool.models["faulty"] = Faulty("faulty", server.pool)
            while faulty.looks < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            del server.pool.models["faulty"]

    asyncio.run(asyncio.wait_for(main(), 30))
    assert "the clock goes on" in caplog.text


def test_a_stopping_server_answers_what_it_took(device: Device) -> None:
    device.colours(1, activate=True)

    async def main() -> None:
        async with Server(Settings(root=device.root, port=0, threads=1)) as server:
            client = Client(server)
            # Asked before the model is loaded: they wait, and the end waits for them.
            asked = [asyncio.create_task(client.score(picture((255, 0, 0)))) for _ in range(3)]
            while server.pool.outstanding < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 3
        client.close()

    asyncio.run(main())


def test_the_control_socket_is_for_its_owner_alone(device: Device) -> None:
    async def talk(client: Client) -> None:
        assert stat.S_IMODE(os.stat(client.server.settings.socket).st_mode) == 0o600

    serve(device, talk)


def test_one_server_a_folder(device: Device) -> None:
    async def talk(client: Client) -> None:
        with pytest.raises(Conflict, match="another server"):
            await Server(client.server.settings).__aenter__()

    serve(device, talk)


def test_a_taken_port_is_told(device: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        async def main() -> None:
            with pytest.raises(Unavailable, match=str(port)):
                await Server(Settings(root=device.root, port=port)).__aenter__()

        asyncio.run(main())


def test_the_front_stays_light() -> None:
    """What it imports, really: no runtime, no arrays, no pictures."""
    script = "import sys, farshore.serve.app; print(*sorted(m for m in sys.modules if '.' not in m))"
    names = set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not names & {"numpy", "onnxruntime", "ai_edge_litert", "PIL", "simplejpeg", "sqlalchemy", "urllib3"}
