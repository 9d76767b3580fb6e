"""A small world on one machine: a hub and a few devices behind thin links, each a set of real processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self

from farshore.cli.thin_link import ThinLink
from farshore.client import Hub
from farshore.core.errors import Conflict, FarshoreError, Unavailable

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

READY = 40.0
"""Seconds a process may take until it answers."""


def free_port() -> int:
    """A TCP port on this machine that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Process:
    """A ``farshore`` command of its own, with its output in a log file.

    Args:
        arguments: after ``farshore``.
        log: file the output is added to.

    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments, self._log = arguments, log
        self._running: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        self._output = self._log.open("ab")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._running = subprocess.Popen(
            [sys.executable, "-m", "farshore.cli", *self._arguments],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def ended(self) -> int | None:
        """Its exit status, or None while it runs."""
        return None if self._running is None else self._running.poll()

    def kill(self) -> None:
        """SIGKILL to it and all it started, as a power cut would."""
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
            self._close()

    def stop(self) -> None:
        """Ask it to end; kill what has not after ten seconds."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()
            try:
                self._running.wait(10)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None


class Device:
    """One edge machine: an agent and an inference server, behind a thin link.

    Args:
        name: its id.
        root: its folder.
        link: to the hub.
        token: enrolment token.
        runtimes: names it is limited to, with commas; all that are installed when empty.

    """

    def __init__(self, name: str, root: Path, link: ThinLink, token: str, runtimes: str) -> None:
        self.name, self.root, self.link = name, root, link
        self.port = free_port()
        root.mkdir(parents=True, exist_ok=True)
        limit = ["--runtimes", runtimes] if runtimes else []
        self.server = Process(["serve", "--root", str(root), "--port", str(self.port), *limit], root / "serve.log")
        self.agent = Process(
            ["agent", "--root", str(root), "--hub", f"http://127.0.0.1:{link.port}", "--enrol", token,
             "--device", name, "--trial", "2", "--wait", "10"],
            root / "agent.log",
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server.start()
        self.agent.start()


class World:
    """A hub and its devices. Use it in a ``with``: everything it started ends there.

    Args:
        folder: where it lives; the caller decides whether it is kept.
        rate: bytes a second of each device's link.
        port: of the hub; any free one when None.

    """

    def __init__(self, folder: Path, *, rate: float, port: int | None = None) -> None:
        self.folder, self.rate = folder, rate
        self.port = port or free_port()
        self.devices: list[Device] = []
        self._before: dict[signal.Signals, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.hub_process = Process(["hub", "--data", str(folder / "hub"), "--port", str(self.port)], folder / "hub.log")

    def __enter__(self) -> Self:
        """From here on the orders to end that would leave all its processes behind are as good as Ctrl-C."""
        heard = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, signal.default_int_handler) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)  # who is impatient and asks twice must not leave half of it behind
        try:
            for device in self.devices:
                device.agent.stop()
                device.server.stop()
                device.link.close()
            self.hub_process.stop()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def hub(self) -> Hub:
        """A client with the hub's own administrator token."""
        return Hub(self.url, (self.folder / "hub" / "admin.token").read_text().strip())

    def start_hub(self) -> None:
        try:
            socket.create_server(("127.0.0.1", self.port)).close()
        except OSError:
            raise Unavailable(f"port {self.port} is in use: end what listens there, or name another port") from None
        self.hub_process.start()
        wait_for(lambda: answers(self.port, "/healthz"), READY, "the hub", self.hub_process)

    def add_device(self, name: str, tags: dict[str, str], *, runtimes: str = "") -> Device:
        """Enrol and start a device."""
        token = self.hub.create_enrolment(name, tags)["token"]
        device = Device(name, self.folder / name, ThinLink(self.port, self.rate), token, runtimes)
        self.devices.append(device)
        device.start()
        wait_for(lambda: answers(device.port, "/healthz"), READY, f"the server of {name}", device.server)
        return device


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server on this machine answers 200 there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], seconds: float, what: str, process: Process | None = None) -> None:
    """Wait until ``condition`` holds.

    Raises:
        Unavailable: it does not within ``seconds``, or ``process`` ended; with the end of its log.

    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if condition():
                return
        except FarshoreError:
            pass  # the hub may be away for the moment: that is part of the show
        if process is not None and process.ended() is not None:
            raise Unavailable(f"{what} ended with status {process.ended()}:\n{process.tail()}")
        time.sleep(0.05)
    raise Unavailable(f"{what}: not so within {seconds:.0f} s" + (f":\n{process.tail()}" if process else ""))


def assets() -> Path:
    """The folder of models and pictures that come with Farshore."""
    return Path(__file__).parent / "demo_assets"


def fresh(folder: Path) -> Path:
    """``folder``, emptied, if it was a world's before or is empty.

    Raises:
        Conflict: it holds something else.

    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "hub.log").exists():
        raise Conflict(f"{folder} is in use for something else: name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
