"""The front's end of a worker process: started, spoken to, ended. Never forked from the front's own memory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import cast

from farshore.core.errors import Corrupt
from farshore.serve import frames, memory
from farshore.serve.frames import ToFront, ToWorker
from farshore.serve.settings import Settings

log = logging.getLogger(__name__)

ENVIRONMENT = {  # of every process that loads a runtime
    # One arena returns what is freed; with the eight per core that glibc takes, each keeps the most it ever held.
    "MALLOC_ARENA_MAX": "1",
    # NumPy's algebra library would start a thread for each core and keep memory for it; nothing here uses it.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # onnxruntime would note a number for this device in the home folder and report to its maker over the link.
    "ORT_DISABLE_TELEMETRY": "1",
}


class WorkerProcess(asyncio.Protocol):
    """A running worker.

    Args:
        on_frame: called with every frame it sends.
        on_death: called once, when it is gone.

    """

    def __init__(self, on_frame: Callable[[ToFront, bytes], None], on_death: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_death = on_death
        self._reader = frames.Reader()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None
        self._unsent: list[bytes] = []
        self.killed = False

    def start(self, settings: Settings, *, aside: bool) -> None:
        """Start the process and connect to it; what is sent before the connection stands is kept.

        Args:
            settings: the server's.
            aside: others go first until it takes traffic.

        Raises:
            OSError: the system starts no more processes.

        """
        ours, theirs = socket.socketpair()
        # As much as the system lets anyone have: a picture goes over in one piece, not in three with a wake-up each.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            arguments = (theirs.fileno(), os.getpid(), settings.worker_memory, settings.niceness * aside)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "farshore.serve.worker", *map(str, arguments)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the front alone, also while this one is still starting
                    env={**os.environ, **ENVIRONMENT},
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._door = ours
        self._connecting = asyncio.get_running_loop().create_task(self._connect(ours))

    async def _connect(self, door: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=door)
        except OSError as error:
            log.warning("no connection to a worker: %s", error)
            door.close()
            self.connection_lost(error)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid if self._process is not None else 0

    def memory(self) -> int:
        """Bytes that it holds."""
        return memory.held(self.pid)

    def send(self, message: ToWorker, body: Sequence[bytes] = (), length: int = 0) -> None:
        """Send a frame whose body is given in pieces of ``length`` bytes together."""
        pieces = [frames.head(message, length), *body]
        if self._transport is None:
            self._unsent += pieces
        elif not self._transport.is_closing():
            self._transport.writelines(pieces)

    def kill(self) -> None:
        """End it at once, whatever it does; ``on_death`` follows."""
        self.killed = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._unsent:
            self._transport.writelines(self._unsent)
            self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        try:
            for message, body in self._reader.feed(data):
                self._on_frame(message, body)
        except Corrupt:
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """The pair closes when the process dies, and a worker that closed it is of no use."""
        self.kill()
        self._reaping = asyncio.get_running_loop().create_task(self._reap())

    async def _reap(self) -> None:
        assert self._process is not None
        # A killed process is gone within a moment, but it may have much memory to give back first.
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        self._on_death()
