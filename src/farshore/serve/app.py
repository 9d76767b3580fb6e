"""The server as a process: two doors, one clock, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

from farshore.core import control
from farshore.core.errors import Conflict, Unavailable
from farshore.serve import boots
from farshore.serve.connection import Connections
from farshore.serve.control import Control
from farshore.serve.front import Front
from farshore.serve.intake import Intake
from farshore.serve.pool import Pool
from farshore.serve.settings import Settings

if TYPE_CHECKING:
    from farshore.serve.oip.rpc import Rpc

log = logging.getLogger(__name__)

TICK = 0.25
STOOD_STILL = 1.0
"""Seconds between two ticks from which on this process, and most likely the whole machine, did not run: suspended, paused, or starved."""
_LOCK = "serve.lock"


class Server:
    """A running server; an asynchronous context.

    Args:
        settings: how.

    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pool = Pool(settings)
        self.port = 0
        self.grpc_port = 0
        self._rpc: Rpc | None = None
        self._intake = Intake(settings.max_buffered)
        self._pictures = Connections(Front(self.pool, self._intake), settings, self._intake)
        # Orders are small and the agent's: pictures never keep them out.
        self._orders = Connections(Control(self.pool), settings, Intake(settings.max_buffered))
        self._servers: list[asyncio.Server] = []
        self._clock: asyncio.Task[None] | None = None
        self._lock = -1

    async def __aenter__(self) -> Self:
        """Open both doors and load what is current.

        Raises:
            Conflict: another server runs on this root folder.
            Unavailable: the port or the socket cannot be opened.

        """
        self._lock = _lock(self.settings.root)
        loop = asyncio.get_running_loop()
        settings = self.settings
        try:
            door = await loop.create_server(self._pictures.connect, settings.host, settings.port, backlog=256)
            self._servers.append(door)
            self.port = door.sockets[0].getsockname()[1]
            self._servers.append(await loop.create_unix_server(self._orders.connect, sock=_unix(settings.socket)))
            if settings.grpc_port is not None:
                self._rpc = _rpc(self.pool, self._intake)
                self.grpc_port = await self._rpc.start(settings.host, settings.grpc_port)
        except Unavailable:
            await self._close()
            raise
        except OSError as error:
            await self._close()
            raise Unavailable(f"{settings.host}:{settings.port}: {error.strerror or error}") from None
        self._clock = loop.create_task(self._tick())
        self.pool.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more, answer what is under way, end the workers."""
        for server in self._servers:
            server.close()
        self._pictures.close()
        if self._rpc is not None:
            await self._rpc.stop(self.settings.drain_seconds)
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                while self.pool.outstanding:  # noqa: ASYNC110 - a few looks at the end, not worth an event each request
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.warning("%d requests were not answered in time", self.pool.outstanding)
        await self._close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        if self._clock is not None:
            self._clock.cancel()
        await self.pool.end()
        if self._servers[1:]:
            self.settings.socket.unlink(missing_ok=True)
        os.close(self._lock)

    async def _tick(self) -> None:
        last = monotonic()
        while True:
            await asyncio.sleep(TICK)
            last, late = (now := monotonic()), now - last - TICK
            if late > STOOD_STILL:
                log.warning("stood still for %.1f s: that is not held against workers and clients", late)
                for each in (self.pool, self._pictures, self._orders):
                    each.pardon(late)
            for look in (self.pool.look, self._pictures.look, self._orders.look):
                try:
                    look()
                except Exception:  # a clock that stops would let every hung worker hang for ever
                    log.exception("the clock goes on after an unexpected fault")


def run(settings: Settings, started: Callable[[Server], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: how.
        started: called once when both doors are open.

    Raises:
        Conflict: another server runs on this root folder.
        Unavailable: the port or the socket cannot be opened.

    """

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await boots.counted(settings.root)
        async with Server(settings) as server:
            log.info("answering on http://%s:%d", settings.host, server.port)
            if started is not None:
                started(server)
            await stop.wait()

    asyncio.run(serve())


def _rpc(pool: Pool, intake: Intake) -> Rpc:
    """The gRPC door: only who asks for it pays for it."""
    try:
        from farshore.serve.oip.rpc import Rpc  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable(f"gRPC is not installed here: pip install 'farshore[grpc]' ({error})") from None
    return Rpc(pool, intake)


def _lock(root: Path) -> int:
    """Hold the root folder for one server; the system lets go when this process ends in whatever way."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{root}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(f"another server runs on {root}: stop it first, or choose another root folder") from None
    return descriptor


def _unix(path: Path) -> socket.socket:
    """A listening socket at ``path`` that only this user can open; what a killed server left there goes first."""
    control.check_socket(os.fsencode(path))
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the mode must hold from the first moment on
    try:
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            listener.bind(str(path))
            listener.listen(64)
            listener.setblocking(False)
            undo.pop_all()
    finally:
        os.umask(mask)
    return listener
