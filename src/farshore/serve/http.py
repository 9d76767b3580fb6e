"""HTTP's words: requests and responses as values, and which headers are taken. No bytes move here.

A request that could be understood in two ways (Content-Length with Transfer-Encoding, two lengths) is refused, as RFC 9112 §6.3
asks of servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from farshore.core.errors import FarshoreError, Invalid, TooLarge, Unavailable
from farshore.serve.frames import error_body

MAX_HEAD = 16 << 10
MAX_FIELDS = 100
READ = {
    b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect", b"accept",
    b"connection", b"inference-header-content-length", b"origin", b"traceparent", b"x-request-id",
}  # fmt: skip
"""Headers that are looked at, in lower case."""

ONCE = {b"host", b"content-length", b"transfer-encoding", b"expect", b"inference-header-content-length"}
"""Those that may stand only once."""

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
        headers: those of ``READ`` that came, names in lower case.

    """

    method: str
    path: bytes
    query: bytes
    kind: str
    accept: str
    length: int | None
    keep: bool
    expects: bool
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
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

    def admit(self, request: Request) -> None:
        """Look at a request's header, before its body is taken.

        Raises:
            Refused: it is not taken.

        """
        ...

    def refusal(self, path: bytes, headers: Mapping[bytes, bytes], refused: Refused) -> Response:
        """What a refused request is told, in the shape that errors have at its address.

        Args:
            path: as far as it is known.
            headers: those of ``READ`` that came.
            refused: why.

        """
        ...

    def answer(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        """Answer a whole request, now or later; returns what to call when the client goes away before that."""
        ...


def failure(error: FarshoreError, *, status: int | None = None, headers: str = "") -> Response:
    """The one shape of errors: ``{"error": {"code", "message"}}``."""
    return Response(status or error.status, error_body(error), headers=headers)


class Refused(Exception):
    """A request that is not taken: it is told why, and the connection closed.

    Args:
        error: why.
        status: HTTP's own, where it is more exact than the error's.
        headers: further lines of the answer, each ended by CRLF.

    """

    def __init__(self, error: FarshoreError, *, status: int | None = None, headers: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status or error.status
        self.headers = headers + ("Retry-After: 1\r\n" if isinstance(error, Unavailable) else "")


def request_of(method: bytes, url: bytes, version: str, headers: Mapping[bytes, bytes], *, keep: bool) -> Request:
    """The request that a header describes.

    Args:
        method: as sent.
        url: path and query.
        version: ``1.1``.
        headers: those of ``READ``, names in lower case.
        keep: whether the connection may stay open.

    Raises:
        Refused: it is not taken.

    """
    if version not in {"1.1", "1.0"}:
        raise Refused(Invalid("only HTTP/1.0 and HTTP/1.1 are spoken here"))
    if version == "1.1" and b"host" not in headers:
        raise Refused(Invalid("the request has no Host header"))
    expected = headers.get(b"expect", b"").lower()
    if expected not in {b"", b"100-continue"}:
        raise Refused(Invalid("the only expectation that is met is 100-continue"), status=417)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(Invalid("send the body as it is, not compressed"), status=415)
    path, _, query = url.partition(b"?")
    return Request(
        method.decode("ascii", "replace"),
        path,
        query,
        headers.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1"),
        headers.get(b"accept", b"").decode("latin-1"),
        _length(version, headers),
        keep,
        bool(expected),
        headers,
    )


def _length(version: str, headers: Mapping[bytes, bytes]) -> int | None:
    """Announced bytes of the body; None if it comes in chunks, or if there is none."""
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is not None and length is not None:
        raise Refused(Invalid("Content-Length and Transfer-Encoding exclude each other"))
    if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
        raise Refused(Invalid("of transfer encodings only chunked is taken"), status=501)
    if length is None:
        return None
    if not (length.isdigit() and len(length) < 16):
        raise Refused(Invalid("Content-Length is no number"))
    return int(length)


def head_of(response: Response, *, keep: bool) -> bytes:
    """The bytes of a response up to its body."""
    return (
        f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}\r\n"
        f"Content-Type: {response.kind}\r\nContent-Length: {len(response.body)}\r\n{response.headers}"
        + ("\r\n" if keep else "Connection: close\r\n\r\n")
    ).encode("latin-1", "replace")


def too_large_head() -> Refused:
    """Refuses a header."""
    return Refused(TooLarge(f"the header is larger than {MAX_HEAD} bytes or {MAX_FIELDS} fields"), status=431)


def too_large_body(limit: int) -> Refused:
    """Refuses a body."""
    return Refused(TooLarge(f"the body is larger than {limit} bytes"))
