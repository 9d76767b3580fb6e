"""The device door: MQTT over TLS, and over websockets, in the hub's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from farshore.core.errors import Invalid, Unavailable
from farshore.hub import authority
from farshore.hub.hub import Hub
from farshore.hub.iothub.batch import Batch
from farshore.hub.iothub.connection import Connection, Room
from farshore.hub.iothub.mail import Mail
from farshore.hub.iothub.streams import TlsStream, WebsocketStream
from farshore.mqtt import packets

log = logging.getLogger(__name__)

PATH = "/$iothub/websocket"
BACKLOG = 2048


class Door:
    """Takes clients in; see :func:`opened`.

    Args:
        hub: this one.
        context: for TLS.

    """

    def __init__(self, hub: Hub, context: ssl.SSLContext) -> None:
        self._hub, self._context = hub, context
        batch = Batch(hub)
        self._room = Room(hub, batch, Mail(hub, batch))
        self._tasks: set[asyncio.Task[None]] = set()

    def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one TCP connection, in a task of its own."""
        task = asyncio.create_task(self._tcp(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection's end", exc_info=error)

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) > self._hub.settings.held:
            writer.close()
            return
        stream = TlsStream(reader, writer, self._context)
        try:
            await stream.shake_hands()
        except (OSError, TimeoutError) as error:
            log.debug("TLS: %s", error)
            stream.close()
            return
        await Connection(self._room, stream).run()

    async def websocket(self, socket: ServerConnection) -> None:
        """Serve one websocket."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= self._hub.settings.held:
                await Connection(self._room, WebsocketStream(socket)).run()
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def opened(hub: Hub) -> AsyncIterator[None]:
    """Keep the door open, if the hub's settings name a port for it.

    Raises:
        Invalid: the certificate or the authorities cannot be used.
        Unavailable: a port cannot be listened on.

    """
    settings = hub.settings
    if not settings.iothub_port:
        yield
        return
    context = await asyncio.to_thread(_context, hub)
    door = Door(hub, context)
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(door.close)
            server = await asyncio.start_server(
                door.tcp, settings.host, settings.iothub_port, backlog=BACKLOG, limit=1 << 15
            )
            stack.callback(server.close)
            if settings.iothub_websocket_port:
                await stack.enter_async_context(
                    serve(
                        door.websocket,
                        settings.host,
                        settings.iothub_websocket_port,
                        ssl=context,
                        subprotocols=["mqtt"],  # type: ignore[list-item]
                        process_request=_ask,
                        max_size=packets.MAX_PACKET,
                        compression=None,
                        ping_interval=None,  # MQTT has its own
                    )
                )
            log.info("IoT Hub's devices: %s:%d", settings.iothub_names[0], settings.iothub_port)
            yield
    except OSError as error:
        raise Unavailable(f"cannot listen for IoT Hub's devices: {error}; choose another port") from error


def certificate(hub: Hub) -> tuple[Path, Path, bytes]:
    """The hub's certificate chain and its key, and the authority that clients have to trust, PEM.

    Raises:
        Invalid: a file is damaged, or a name is none.
        Unavailable: the disk does not take it.

    """
    settings = hub.settings
    if settings.certificate:
        chain = Path(settings.certificate)
        try:
            return chain, Path(settings.certificate_key), chain.read_bytes()
        except OSError as error:
            raise Invalid(f"{chain}: {error.strerror}") from error
    # Also on loopback: its clients speak nothing but TLS.
    own = authority.settle(settings.data.absolute() / "tls", settings.iothub_names, hub.clock())
    return own.certificate, own.key, own.pem


def _context(hub: Hub) -> ssl.SSLContext:
    chain, key, _ = certificate(hub)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # SDKs in use speak no newer one
    try:
        context.load_cert_chain(chain, key)
        if hub.settings.iothub_client_ca:
            context.load_verify_locations(hub.settings.iothub_client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"IoT Hub's devices: certificate, key or client authorities: {error}") from error
    return context


def _ask(connection: ServerConnection, request: Request) -> Response | None:
    """Turn away who does not come for MQTT."""
    if request.path.partition("?")[0] != PATH:
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"MQTT is at {PATH}\n")
    return None
