"""Objects on the wire: whole or one range (RFC 9110 §14), streamed, never loaded."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from farshore.core.digest import Digest
from farshore.core.errors import Conflict
from farshore.hub.api import door
from farshore.store.objects import Objects

_RANGE = re.compile(r"bytes=\s*(\d{0,16})-(\d{0,16})\s*\Z", re.ASCII)
_UNIT = re.compile(r"bytes=", re.IGNORECASE)


class Unsatisfiable(Conflict):
    """The object has no such range: ask for its size, then decide."""

    status = 416


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes that a ``Range`` header asks for.

    Args:
        header: its value, or None.
        size: of the object.

    Returns:
        first byte and one after the last; None for the whole object, also when the header is malformed.

    Raises:
        Unsatisfiable: beyond the end, empty, or several ranges.

    """
    if header is None or not _UNIT.match(header):
        return None
    if "," in header:
        raise Unsatisfiable("one range at a time")
    form = _RANGE.match(header.strip())
    if form is None or not (form[1] or form[2]):
        return None
    if not form[1]:
        start, end = max(size - int(form[2]), 0), size
    else:
        start = int(form[1])
        end = min(int(form[2]) + 1, size) if form[2] else size
        if form[2] and int(form[2]) < start:
            return None
    if start >= end:
        raise Unsatisfiable(f"the object has {size} bytes")
    return start, end


async def send(
    request: Request, objects: Objects, digest: Digest, size: int, headers: dict[str, str] | None = None
) -> Response:
    """The object, or the range of it that ``request`` asks for.

    Args:
        request: GET or HEAD, with ``Range``, ``If-Range``, ``If-None-Match``.
        objects: where it is.
        digest: which object; also its etag.
        size: its bytes.
        headers: more headers.

    Raises:
        NotFound, Unavailable: the store does not give it; before anything was sent.

    """
    etag = f'"{digest}"'
    extra = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        **(headers or {}),
    }
    if request.headers.get("if-none-match") in {etag, "*"}:
        return Response(status_code=304, headers=extra)
    asked = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag or request.method == "HEAD":
        asked = None
    try:
        part = span(asked, size)
    except Unsatisfiable as error:
        return door.failure(error, {**extra, "Content-Range": f"bytes */{size}", "Cache-Control": "no-store"})
    start, end = part or (0, size)
    extra["Content-Length"] = str(end - start)
    if part is not None:
        extra["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=extra, media_type="application/octet-stream")
    pieces = await _primed(objects.stream(digest, start, end))
    return StreamingResponse(pieces, status, extra, "application/octet-stream")


async def _primed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``pieces`` after the first one came: an object that cannot be read is an error, not a broken answer."""
    first = await anext(pieces, b"")

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return rest()
