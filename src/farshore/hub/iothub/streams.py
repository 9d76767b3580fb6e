"""Bytes from and to clients: TLS, and websockets within TLS.

TLS is driven here over memory, not by asyncio's own transport: that keeps a quarter of a megabyte for each connection, and there
are thousands, most of them silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

CHUNK = 16 << 10
HANDSHAKE_SECONDS = 30.0


class TlsStream:
    """A TLS connection, the server's side.

    Args:
        reader, writer: of the TCP connection.
        context: for servers.

    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        """Agree on keys.

        Raises:
            OSError: the client speaks no TLS that is taken here, shows a certificate by a stranger, or is too slow.

        """
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    self._flush()
                    if not await self._more():
                        raise ConnectionResetError("hung up during the handshake") from None
                except ssl.SSLError:
                    self._flush()  # the alert that tells why
                    raise
                else:
                    self._flush()
                    return

    @property
    def certified(self) -> str | None:
        der = self._tls.getpeercert(binary_form=True)
        return _common_name(der) if der else None

    @property
    def unread(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                self._flush()
                if not await self._more():
                    return b""
            except ssl.SSLError:
                return b""

    def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:  # it hung up meanwhile: who reads gets the end
            return
        self._flush()

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):
            self._tls.unwrap()
        self._flush()
        self._writer.close()

    async def _more(self) -> bool:
        data = await self._reader.read(CHUNK)
        self._incoming.write(data) if data else self._incoming.write_eof()
        return bool(data)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._writer.is_closing():
            self._writer.write(data)


class WebsocketStream:
    """A websocket whose binary frames carry MQTT, cut anywhere.

    Args:
        socket: after its handshake.

    """

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._sending: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._unsent = 0
        self._writing = asyncio.create_task(self._send())

    @property
    def certified(self) -> str | None:
        found: Any = self._socket.transport.get_extra_info("ssl_object")
        der = found.getpeercert(binary_form=True) if found is not None else None
        return _common_name(der) if der else None

    @property
    def unread(self) -> int:
        return self._unsent

    async def read(self) -> bytes:
        while True:
            try:
                data = await self._socket.recv()
            except ConnectionClosed:
                return b""
            if isinstance(data, str):
                return b""  # MQTT 6.0: a text frame ends it
            if data:
                return data

    def write(self, data: bytes) -> None:
        self._unsent += len(data)
        self._sending.put_nowait(data)

    async def drain(self) -> None:
        """Nothing to wait for: who reads too slowly is closed by :attr:`unread`."""

    def close(self) -> None:
        self._sending.put_nowait(None)

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while (data := await self._sending.get()) is not None:
                await self._socket.send(data)
                self._unsent -= len(data)
        await self._socket.close()


def _common_name(der: bytes) -> str | None:
    try:
        names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    return str(names[0].value) if len(names) == 1 else None
