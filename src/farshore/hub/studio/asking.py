"""The hub's own API, asked inside the process in the name of whoever looks at a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.types import Message, Scope

from farshore.core import errors
from farshore.core.errors import Denied, Unauthenticated

_CARRIED = {b"cookie", b"authorization"}
"""Headers that tell who asks."""


def address(*segments: object) -> str:
    """A path of the API: ``address("models", name)`` is ``/v1/models/<name>``, whatever ``name`` holds."""
    return "/v1" + "".join(f"/{quote(str(one), safe='')}" for one in segments)


async def get(request: Request, path: str, query: Mapping[str, Any] | None = None) -> Any:
    """What ``GET path`` of the operator API answers, decoded.

    Args:
        request: for a page; its cookie tells who asks.
        path: of the API, as :func:`address` makes it.
        query: parameters; those that are None or "" are left out.

    Raises:
        FarshoreError: as the API answers.

    """
    asked = urlencode({name: value for name, value in (query or {}).items() if value not in (None, "")})
    scope: Scope = {
        **request.scope,
        "method": "GET",
        "path": path,
        "raw_path": path.encode("ascii"),
        "query_string": asked.encode("ascii"),
        "headers": [(name, value) for name, value in request.scope["headers"] if name in _CARRIED],
        "path_params": {},
        "state": {},
    }
    status, body = 0, bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body.extend(message.get("body", b""))

    await request.app.router(scope, receive, send)
    told: Any = msgspec.json.decode(body) if body else None
    if status >= 400:
        raise errors.from_code(told["error"]["code"], told["error"]["message"])
    return told


async def get_if_allowed(request: Request, path: str, query: Mapping[str, Any] | None = None) -> Any:
    """As :func:`get`; None where the role of whoever asks does not reach so far.

    Raises:
        FarshoreError: as the API answers, other refusals included.

    """
    try:
        return await get(request, path, query)
    except Unauthenticated:
        raise
    except Denied:
        return None
