"""The door: what every request passes, however it was routed.

Routing is done on the raw path, so that ``%2f`` stays inside its segment; ``Transfer-Encoding`` is refused, so that no
proxy and hub can disagree where a body ends; headers and bodies have limits; every error has one shape.
"""

from __future__ import annotations

import gzip
import logging
import random
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import unquote_to_bytes

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from farshore.core import documents
from farshore.core.errors import FarshoreError, Invalid, NotFound, TooLarge, Unauthenticated

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_HEADERS = 16 << 10
MAX_PATH = 2048
MAX_QUERY = 8192
COMPRESSION_COSTS = 60
"""Bytes of the headers that say so."""
RETRY = (3, 8)
"""Seconds after which who was turned away may come again, so that they do not come all at once."""
MAX_MESSAGE = 1000
_LENGTH = re.compile(r"[0-9]{1,16}\Z")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route with what documents it.

    Attributes:
        method: HTTP method.
        path: with ``{name}`` segments.
        handler: answers it.
        summary: one line.
        who: who may ask: an ``operator`` by token, a ``device`` by credential, a ``ticket``'s holder, a ``service`` that speaks
            IoT Hub's dialect, by a policy's signature, or ``anyone``.
        takes: type of the JSON body; ``bytes`` for raw bytes; None for none.
        gives: type of the JSON answer; ``bytes`` for raw bytes; None for none.
        status: of success.
        query: names of query parameters, each with its meaning.

    """

    method: str
    path: str
    handler: Handler
    summary: str
    who: Literal["operator", "device", "ticket", "service", "anyone"] = "operator"
    takes: Any = None
    gives: Any = None
    status: int = 200
    query: tuple[tuple[str, str], ...] = ()


class Door:
    """ASGI around the application: checks what must hold before any route is looked for.

    Args:
        app: the application.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                _check_head(scope)
            except FarshoreError as error:
                await failure(error, {"Connection": "close"})(scope, receive, send)  # what follows may not be a request
                return
            scope["path"] = scope["raw_path"].decode("ascii")
        await self._app(scope, receive, send)


def _check_head(scope: Scope) -> None:
    headers = scope["headers"]
    if sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADERS:
        raise TooLarge(f"headers: more than {MAX_HEADERS} bytes")
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names:
        raise Invalid("Transfer-Encoding is not taken: send Content-Length")
    for single in (b"content-length", b"authorization", b"range", b"if-match"):
        if names.count(single) > 1:
            raise Invalid(f"header {single.decode()} stands twice")
    path = scope["raw_path"]
    if len(path) > MAX_PATH or len(scope["query_string"]) > MAX_QUERY:
        raise TooLarge("address too long")
    if any(not 0x21 <= char <= 0x7E for char in path):
        raise Invalid("address: use percent-encoding")


def segment(request: Request, name: str) -> str:
    """A path segment, decoded.

    Raises:
        Invalid: its percent-encoding is not UTF-8.

    """
    return _decoded(request.path_params[name])


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Invalid("address: percent-encoding must be UTF-8") from None


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A query parameter as a number within limits.

    Raises:
        Invalid: it is not.

    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not _LENGTH.match(text) or not low <= int(text) <= high:
        raise Invalid(f"{name}={text[:40]!r}: a number from {low} to {high} is needed")
    return int(text)


def length(request: Request, limit: int) -> int:
    """The length of the body that is announced.

    Raises:
        Invalid: none is announced.
        TooLarge: above ``limit``.

    """
    text = request.headers.get("content-length")
    if text is None:
        raise Invalid("Content-Length is missing")
    if not _LENGTH.match(text):
        raise Invalid("Content-Length is not a number")
    if int(text) > limit:
        raise TooLarge(f"body of {text} bytes; at most {limit} are taken")
    return int(text)


async def read(request: Request, kind: type[T], *, what: str, limit: int = documents.MAX_DOCUMENT) -> T:
    """The JSON body as ``kind``.

    Raises:
        Invalid: no length, not JSON, not of that kind, or cut short.
        TooLarge: above ``limit``.

    """
    return documents.decode(await body(request, limit, what=what), kind, what=what, limit=limit)


async def body(request: Request, limit: int, *, what: str) -> bytes:
    """The body as it is.

    Raises:
        Invalid: no length, or cut short.
        TooLarge: above ``limit``.

    """
    wanted = length(request, limit)
    data = bytearray()
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > wanted:
                break
    except ClientDisconnect:
        raise Invalid(f"{what}: cut short") from None
    if len(data) != wanted:
        raise Invalid(f"{what}: {len(data)} bytes came, {wanted} were announced")
    return bytes(data)


def reply(request: Request, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``value`` as JSON, compressed if that is worth it and the caller can read it."""
    return content(request, documents.encode(value), "application/json", status, headers)


def content(
    request: Request, data: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """``data`` of media type ``kind``, compressed as :func:`reply` does."""
    extra = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    accepted = request.headers.get("accept-encoding", "")
    if "deflate" in accepted or "gzip" in accepted:
        name, packed = (
            ("deflate", zlib.compress(data, 9)) if "deflate" in accepted else ("gzip", gzip.compress(data, 6, mtime=0))
        )
        if len(packed) + COMPRESSION_COSTS < len(data):
            data = packed
            extra |= {"Content-Encoding": name, "Vary": "Accept-Encoding"}
    return Response(data, status, extra, kind)


def failure(error: FarshoreError, headers: dict[str, str] | None = None) -> Response:
    """The one shape of errors. Messages may quote what was sent: they become one printable line."""
    body = documents.canonical({"error": {"code": error.code, "message": one_line(error)}})
    extra = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = "Bearer"
    if error.status == 503:
        extra["Retry-After"] = later()
    return Response(body, error.status, extra, "application/json")


def one_line(error: FarshoreError) -> str:
    """What an error says, printable and bounded."""
    return "".join(char if char.isprintable() else " " for char in error.message[:MAX_MESSAGE])


def later() -> str:
    """Seconds after which who is turned away may come again: for each another time, so that not all come at once."""
    return str(random.randint(*RETRY))  # noqa: S311 - spreading load, no secret


class NoSuchMethod(Invalid):
    """The address exists, but not with this method."""

    status = 405


async def on_farshore_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FarshoreError)
    return failure(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown address or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return failure(NoSuchMethod(f"{request.method} is not possible here"), dict(error.headers or {}))
    return failure(NotFound(f"no such address: {request.url.path[:200]}"))


async def on_recursion(_request: Request, _error: Exception) -> Response:
    return failure(Invalid("nested too deep"))


async def on_any_error(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return failure(FarshoreError("the hub failed at this request; its log says why"))
