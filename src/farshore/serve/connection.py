"""Connections: HTTP/1.1 on httptools, small, strict, and bounded in every direction.

One request at a time is answered on a connection, in order. Header and body have a size and a time, what is malformed is refused
and the connection closed, and what a client sends ahead is read only as far as one more request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, cast

import httptools

from farshore.core.errors import FarshoreError, Invalid, Unavailable
from farshore.serve import http
from farshore.serve.http import App, Refused, Request, Response, failure
from farshore.serve.intake import Intake
from farshore.serve.settings import Settings

log = logging.getLogger(__name__)

MAX_AHEAD = 16
MAX_OVERHEAD = 128 << 10
"""Bytes of chunk heads and trailers beyond the content's own length."""

LINGER = 2.0
"""Seconds that a refused client may go on sending before its connection is cut: closing at once would lose the answer."""


class Connections:
    """The open connections of one door.

    Args:
        app: who answers.
        settings: limits.
        intake: counts the bytes of bodies.

    """

    def __init__(self, app: App, settings: Settings, intake: Intake) -> None:
        self.app = app
        self.settings = settings
        self.intake = intake
        self.open: set[Connection] = set()
        self.closing = False

    def connect(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self)

    def look(self) -> None:
        """Close what takes too long; to be called a few times a second."""
        now = monotonic()
        for connection in [each for each in self.open if each.deadline < now]:
            connection.expire()

    def pardon(self, seconds: float) -> None:
        """This process stood still for so long: no client is to blame for that."""
        for connection in self.open:
            connection.deadline += seconds

    def close(self) -> None:
        """Take no further request; those under way are answered."""
        self.closing = True
        for connection in list(self.open):
            connection.close_idle()


class Connection(asyncio.Protocol):
    """One client.

    Args:
        home: the door's connections.

    """

    deadline = float("inf")

    def __init__(self, home: Connections) -> None:
        self._home = home
        self._app = home.app
        self._settings = home.settings
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._ahead: deque[Request | Response] = (
            deque()
        )  # whole requests (or the refusal that ends them) not answered yet
        self._request: Request | None = None  # whose body comes in
        self._asked: Request | None = None  # that is being answered
        self._cancel: Callable[[], None] | None = None
        self._busy = False
        self._in_head = False
        self._head_bytes = 0
        self._over = False  # nothing more is read
        self._paused = False
        self._choked = False  # answers wait for the client to read them
        self._offered = False  # the header at hand offers another protocol
        self._pumping = False
        self._raw = 0
        self._reset_head()

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        home = self._home
        home.open.add(self)
        self.deadline = monotonic() + self._settings.idle_seconds
        if len(home.open) > self._settings.connections or home.closing:
            self._refuse(Refused(Unavailable("too many connections")))

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._in_body:
            self._raw += len(data)
        else:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._refuse(_refusal_of(error))
        except httptools.HttpParserError:
            self._refuse(Refused(Invalid("not a well-formed HTTP/1.1 request")))
        else:
            if self._in_head and self._head_bytes > http.MAX_HEAD:
                self._refuse(http.too_large_head())
            elif self._request is not None and self._raw > 2 * self._request.size + MAX_OVERHEAD:
                self._refuse(Refused(Invalid("a chunked body whose framing outweighs its content")))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.open.discard(self)
        self._over = True
        for entry in (self._asked, self._request, *self._ahead):
            self._forget(entry)
        self._ahead.clear()
        self._request = self._asked = None
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._parser = None

    def pause_writing(self) -> None:
        """The client does not read its answers: it gets no further ones until it does."""
        self._choked = True
        self._pause()
        self.deadline = monotonic() + self._settings.idle_seconds

    def resume_writing(self) -> None:
        self._choked = False
        if not self._busy:
            self._next()

    # --- httptools

    def on_message_begin(self) -> None:
        self._reset_head()
        self._in_head = True
        if not self._busy:
            self.deadline = monotonic() + self._settings.header_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._field_bytes += len(name) + len(value) + 4
        if self._fields > http.MAX_FIELDS or self._field_bytes + len(self._url) > http.MAX_HEAD:
            raise http.too_large_head()
        name = name.lower()
        if name in http.READ:
            if name in self._headers and name in http.ONCE:
                raise Refused(Invalid(f"the header {name.decode()} stands twice"))
            self._headers[name] = value.strip()

    def on_headers_complete(self) -> None:
        self._offered = self._parser.should_upgrade()
        if self._offered:
            return  # the parser stops here and hands the rest back: see _decline
        request = self._admitted()
        self._in_head, self._in_body, self._raw, self._request = False, True, 0, request
        if not self._busy:
            self.deadline = monotonic() + self._settings.body_seconds
        if request.expects and not self._busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        request = self._request
        if request is None or self._over:
            return
        request.size += len(data)
        if request.size > self._app.max_body:
            raise http.too_large_body(self._app.max_body)
        request.body.append(data)
        try:
            self._home.intake.take(len(data))
        except Unavailable as error:
            raise Refused(error) from None

    def on_message_complete(self) -> None:
        if self._offered:
            return
        request, self._request, self._in_body, self._head_bytes = self._request, None, False, 0
        if request is None or self._over:
            return
        if len(self._ahead) >= MAX_AHEAD:
            self._forget(request)
            raise Refused(Invalid(f"more than {MAX_AHEAD} requests sent ahead"))
        self._ahead.append(request)
        self._reset_head()  # what comes next is another request, also if it is malformed from its first byte on
        if self._busy or self._choked:
            self._pause()
        else:
            self._next()

    def _decline(self, rest: bytes) -> None:
        """Another protocol was offered: ignore that (RFC 9110 §7.8) and read the request as if it had not been."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(Refused(Invalid("this is no proxy"), status=405))
            return
        lines = [method + b" " + self._url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self._headers.items() if name != b"connection"]
        if b"close" in self._headers.get(b"connection", b"").lower():
            lines.append(b"connection: close")
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    # --- answering

    def _admitted(self) -> Request:
        """The request that the header describes.

        Raises:
            Refused: it is not taken.

        """
        parser = self._parser
        request = http.request_of(
            parser.get_method(), self._url, parser.get_http_version(), self._headers, keep=parser.should_keep_alive()
        )
        if request.length is not None and request.length > self._app.max_body:
            raise http.too_large_body(self._app.max_body)
        self._app.admit(request)
        return request

    def _next(self) -> None:
        """Answer the next whole request, if there is one."""
        self._pumping = True
        while self._ahead and not self._busy and not self._choked:
            entry = self._ahead.popleft()
            if isinstance(entry, Response):
                self._write(entry, keep=False, head_only=False)
                break
            self._busy, self._asked, self.deadline = True, entry, float("inf")
            try:
                cancel = self._app.answer(entry, partial(self._replied, entry))
            except Exception:
                log.exception("%s %s", entry.method, entry.path[:80])
                cancel = None
                if not self._busy:
                    continue  # it had answered already
                self._replied(entry, failure(FarshoreError("an unexpected fault; the server's log has it")))
            if self._busy:
                self._cancel = cancel
        self._pumping = False
        if not self._busy and not self._over and not self._choked:
            self._await_more()

    def _replied(self, request: Request, response: Response) -> None:
        """The app's answer to ``request`` is here; it comes once."""
        self._forget(request)
        self._cancel, self._asked, self._busy = None, None, False
        if self._transport.is_closing():
            return
        refused = self._over and not self._ahead  # the refusal that is to follow is in its place
        keep = request.keep and not (self._home.closing or refused)
        self._write(response, keep=keep, head_only=request.method == "HEAD")
        if not self._pumping and not self._choked:
            self._next()

    def _await_more(self) -> None:
        """Nothing is under way: how long may the next request take?"""
        settings = self._settings
        if self._request is not None:
            self.deadline = monotonic() + settings.body_seconds
            if self._request.expects and not self._request.size:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            self.deadline = monotonic() + (settings.header_seconds if self._in_head else settings.idle_seconds)
        self._resume()

    def _write(self, response: Response, *, keep: bool, head_only: bool) -> None:
        head = http.head_of(response, keep=keep)
        self._transport.write(head if head_only else head + response.body)
        if not keep:
            self._finish()

    def _finish(self) -> None:
        """No more requests; what the client still sends is read and dropped for a moment, so that the answer gets there."""
        self._over = True
        for entry in self._ahead:
            self._forget(entry)
        self._ahead.clear()
        self._forget(self._request)
        self._request = None
        self._resume()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        self.deadline = monotonic() + LINGER

    def _refuse(self, refused: Refused) -> None:
        """Answer what cannot be a request, in its turn, then close."""
        if self._over:
            return  # the last answer is given already: what came behind it in the same breath gets none
        self._over = True
        response = self._app.refusal(self._url.partition(b"?")[0], self._headers, refused)
        self._forget(self._request)
        self._request = None
        if self._busy:
            self._ahead.append(response)
        else:
            self._write(response, keep=False, head_only=False)

    def expire(self) -> None:
        """The deadline has passed."""
        if self._over or self._transport.get_write_buffer_size():
            self._transport.abort()
        elif self._request is not None or self._in_head:
            self._refuse(Refused(Invalid("the request took too long to arrive"), status=408))
        else:
            self._transport.close()

    def close_idle(self) -> None:
        """Close unless a request is under way."""
        if not self._busy and self._request is None and not self._in_head:
            self._transport.close()

    def _forget(self, entry: Request | Response | None) -> None:
        """The body of a request is not needed any more."""
        if isinstance(entry, Request) and entry.body:
            self._home.intake.give_back(sum(map(len, entry.body)))
            entry.body = []

    def _reset_head(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._fields = self._field_bytes = 0
        self._in_body = False

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()


def _refusal_of(error: BaseException) -> Refused:
    inner = error.__context__ or error.__cause__
    if isinstance(inner, Refused):
        return inner
    raise error  # a fault of ours: let it be seen
