"""HTTP/1.1 as a server speaks it, on httptools: small, strict, and bounded in every direction.

One request at a time is answered on a connection, in order. Header and body have a size and a time, a request that could be
understood in two ways (Content-Length with Transfer-Encoding, two lengths, folded lines) is refused and the connection closed,
and what a client sends ahead is read only as far as one more request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Protocol, cast

import httptools
import msgspec

from farshore.core.errors import FarshoreError, Invalid, TooLarge, Unavailable
from farshore.serve.settings import Settings

MAX_HEAD = 16 << 10
MAX_FIELDS = 100
MAX_AHEAD = 16
MAX_OVERHEAD = 128 << 10
"""Bytes of chunk heads and trailers beyond the content's own length."""

LINGER = 2.0
"""Seconds that a refused client may go on sending before its connection is cut: closing at once would lose the answer."""

REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    417: "Expectation Failed", 422: "Unprocessable Content", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(slots=True)
class Request:
    """A request; the body grows while it comes in.

    Attributes:
        method: upper case.
        path: raw, as sent, without the query; ``query`` likewise.
        kind: the media type of the body, lower case, without parameters.
        length: announced bytes of the body; None if not announced.
        body: pieces as they came; ``size`` their bytes together.
        keep: whether the connection may stay open.

    """

    method: str
    path: bytes
    query: bytes
    kind: str
    accept: str
    length: int | None
    keep: bool
    expects: bool
    body: list[bytes] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        status: HTTP's.
        body: its bytes.
        kind: media type.
        headers: further lines, each ended by CRLF.

    """

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: str = ""


class App(Protocol):
    """Who answers: the door for pictures, and the door for control."""

    max_body: int

    def admit(self, request: Request) -> Response | None:
        """Refuse a request by its header alone, before its body is taken."""
        ...

    def answer(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        """Answer a whole request, now or later; returns what to call when the client goes away before that."""
        ...


def failure(error: FarshoreError, *, status: int | None = None, headers: str = "") -> Response:
    """The one shape of errors: ``{"error": {"code", "message"}}``."""
    body = msgspec.json.encode({"error": {"code": error.code, "message": error.message}})
    return Response(status or error.status, body, headers=headers)


class Connections:
    """The open connections of one door, and the bytes that they hold.

    Args:
        app: who answers.
        settings: limits.

    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.open: set[Connection] = set()
        self.buffered = 0
        self.closing = False

    def connect(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self)

    def look(self) -> None:
        """Close what takes too long; to be called a few times a second."""
        now = monotonic()
        for connection in [each for each in self.open if each.deadline < now]:
            connection.expire()

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
        self._cancel: Callable[[], None] | None = None
        self._busy = False
        self._in_head = False
        self._head_bytes = 0
        self._over = False  # nothing more is read
        self._paused = False
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
            self._refuse(failure(Unavailable("too many connections"), headers="Retry-After: 1\r\n"))

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
            self._refuse(failure(Invalid("not a well-formed HTTP/1.1 request")))
        else:
            if self._in_head and self._head_bytes > MAX_HEAD:
                self._refuse(_too_large_head())
            elif self._request is not None and self._raw > 2 * self._request.size + MAX_OVERHEAD:
                self._refuse(failure(Invalid("a chunked body whose framing outweighs its content")))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.open.discard(self)
        self._over = True
        self._forget(self._request)
        for entry in self._ahead:
            self._forget(entry)
        self._ahead.clear()
        self._request = None
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._parser = None

    def pause_writing(self) -> None:
        self.deadline = monotonic() + self._settings.idle_seconds

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
        if self._fields > MAX_FIELDS or self._field_bytes + len(self._url) > MAX_HEAD:
            raise _Refused(_too_large_head())
        name = name.lower()
        if name in _READ:
            if name in self._headers and name in _ONCE:
                raise _Refused(failure(Invalid(f"the header {name.decode()} stands twice")))
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
            raise _Refused(_too_large_body(self._app.max_body))
        self._home.buffered += len(data)
        request.body.append(data)
        if self._home.buffered > self._settings.max_buffered:
            raise _Refused(failure(Unavailable("too many pictures at once"), headers="Retry-After: 1\r\n"))

    def on_message_complete(self) -> None:
        if self._offered:
            return
        request, self._request, self._in_body, self._head_bytes = self._request, None, False, 0
        if request is None or self._over:
            return
        if len(self._ahead) >= MAX_AHEAD:
            self._forget(request)
            raise _Refused(failure(Invalid(f"more than {MAX_AHEAD} requests sent ahead")))
        self._ahead.append(request)
        if self._busy:
            self._pause()
        else:
            self._next()

    def _decline(self, rest: bytes) -> None:
        """Another protocol was offered: ignore that (RFC 9110 §7.8) and read the request as if it had not been."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(failure(Invalid("this is no proxy"), status=405))
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
            _Refused: it is not taken.

        """
        headers = self._headers
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise _Refused(failure(Invalid("only HTTP/1.0 and HTTP/1.1 are spoken here")))
        if version == "1.1" and b"host" not in headers:
            raise _Refused(failure(Invalid("the request has no Host header")))
        coding = headers.get(b"transfer-encoding")
        if coding is not None and b"content-length" in headers:
            raise _Refused(failure(Invalid("Content-Length and Transfer-Encoding exclude each other")))
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            raise _Refused(failure(Invalid("of transfer encodings only chunked is taken"), status=501))
        length = headers.get(b"content-length")
        if length is not None and not (length.isdigit() and len(length) < 16):
            raise _Refused(failure(Invalid("Content-Length is no number")))
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _Refused(failure(Invalid("send the body as it is, not compressed"), status=415))
        path, _, query = self._url.partition(b"?")
        request = Request(
            self._parser.get_method().decode("ascii", "replace"),
            path,
            query,
            headers.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1"),
            headers.get(b"accept", b"").decode("latin-1"),
            int(length) if length is not None else None,
            self._parser.should_keep_alive(),
            headers.get(b"expect", b"").lower() == b"100-continue",
        )
        if b"expect" in headers and not request.expects:
            raise _Refused(failure(Invalid("the only expectation that is met is 100-continue"), status=417))
        if request.length is not None and request.length > self._app.max_body:
            raise _Refused(_too_large_body(self._app.max_body))
        refusal = self._app.admit(request)
        if refusal is not None:
            raise _Refused(refusal)
        return request

    def _next(self) -> None:
        """Answer the next whole request, if there is one."""
        self._pumping = True
        while self._ahead and not self._busy:
            entry = self._ahead.popleft()
            if isinstance(entry, Response):
                self._write(entry, keep=False, head_only=False)
                break
            self._busy, self.deadline = True, float("inf")
            cancel = self._app.answer(entry, partial(self._replied, entry))
            if self._busy:
                self._cancel = cancel
        self._pumping = False
        if not self._busy and not self._over:
            self._await_more()

    def _replied(self, request: Request, response: Response) -> None:
        """The app's answer to ``request`` is here; it comes once."""
        self._forget(request)
        self._cancel, self._busy = None, False
        if self._transport.is_closing():
            return
        refused = self._over and not self._ahead  # the refusal that is to follow is in its place
        keep = request.keep and not (self._home.closing or refused)
        self._write(response, keep=keep, head_only=request.method == "HEAD")
        if not self._pumping:
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
        head = (
            f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}\r\n"
            f"Content-Type: {response.kind}\r\nContent-Length: {len(response.body)}\r\n{response.headers}"
            f"{'' if keep else 'Connection: close' + chr(13) + chr(10)}\r\n"
        ).encode("latin-1", "replace")
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

    def _refuse(self, response: Response) -> None:
        """Answer what cannot be a request, in its turn, then close."""
        self._over = True
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
            self._refuse(failure(Invalid("the request took too long to arrive"), status=408))
        else:
            self._transport.close()

    def close_idle(self) -> None:
        """Close unless a request is under way."""
        if not self._busy and self._request is None and not self._in_head:
            self._transport.close()

    def _forget(self, entry: Request | Response | None) -> None:
        """The body of a request is not needed any more."""
        if isinstance(entry, Request) and entry.body:
            self._home.buffered -= sum(map(len, entry.body))
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


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


_READ = {
    b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect", b"accept",
    b"connection",
}  # fmt: skip
_ONCE = {b"host", b"content-length", b"transfer-encoding", b"expect"}


def _refusal_of(error: BaseException) -> Response:
    inner: Any = error.__context__ or error.__cause__
    if isinstance(inner, _Refused):
        return inner.response
    raise error  # a fault of ours: let it be seen


def _too_large_head() -> Response:
    return failure(TooLarge(f"the header is larger than {MAX_HEAD} bytes or {MAX_FIELDS} fields"), status=431)


def _too_large_body(limit: int) -> Response:
    return failure(TooLarge(f"the body is larger than {limit} bytes"))
