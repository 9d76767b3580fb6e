"""The protocol over HTTP: addresses under ``/v2``, JSON, and tensors in binary behind it.

Errors are ``{"error": "one line"}``, as the protocol has it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from farshore.core.errors import Denied, FarshoreError, Invalid, NotFound, Unavailable
from farshore.serve.http import Refused, Request, Response
from farshore.serve.intake import Intake
from farshore.serve.lane import Reply
from farshore.serve.oip.models import SERVER, Models
from farshore.serve.pool import Pool
from farshore.serve.score import headers_of

ROUTES: tuple[tuple[str, str], ...] = (
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/{model}"),
    ("GET", "/v2/models/{model}/ready"),
    ("GET", "/v2/models/{model}/stats"),
    ("GET", "/v2/models/{model}/config"),
    ("POST", "/v2/models/{model}/infer"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{model}/load"),
    ("POST", "/v2/repository/models/{model}/unload"),
)
"""Methods and addresses; ``{model}`` may be followed by ``/versions/{version}`` in those of ``/v2/models``."""

_MODEL = r"(?P<model>[^/]{1,256})(?:/versions/(?P<version>[^/]{1,32}))?"
_REPOSITORY = "/v2/repository"
_LENGTH = b"inference-header-content-length"


def _pattern(route: str) -> re.Pattern[str]:
    named = r"(?P<model>[^/]{1,256})" if route.startswith(_REPOSITORY) else _MODEL
    return re.compile(re.escape(route).replace(re.escape("{model}"), named) + r"\Z")


_PATTERNS = [(method, route, _pattern(route)) for method, route in ROUTES]


class _IndexRequest(msgspec.Struct):
    ready: bool = False


class Rest:
    """Answers addresses under ``/v2``.

    Args:
        pool: the models.
        intake: counts what is refused.

    """

    def __init__(self, pool: Pool, intake: Intake) -> None:
        self._models = Models(pool)
        self._intake = intake
        self._tasks: set[asyncio.Task[None]] = set()

    def owns(self, path: bytes) -> bool:
        """Whether an address is this door's."""
        return path == b"/v2" or path.startswith(b"/v2/")

    def admit(self, request: Request) -> None:
        """Refuse unknown addresses, wrong methods, and pages of other sites that reach for the repository."""
        route, _ = self._found(request)
        if route.endswith("load"):
            _same_site(request)

    def refusal(self, refused: Refused) -> Response:
        """As :meth:`farshore.serve.http.App.refusal`, in the protocol's shape."""
        self._intake.refuse("v2", refused.error)
        return _failure(refused.error, refused.headers, refused.status)

    def answer(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        """As :meth:`farshore.serve.http.App.answer`."""
        try:
            route, found = self._found(request)
            name, version = unquote(found.get("model") or ""), found.get("version") or ""
            if route.endswith("/infer"):
                head = _head_length(request)
                return self._models.infer(name, version, request.body, head, lambda got: reply(_inferred(got)))
            if route.endswith("load"):
                move = self._models.unload if route.endswith("unload") else self._models.load
                self._later(move(name), reply)
            else:
                reply(self._say(request, route, name, version))
        except FarshoreError as error:
            reply(self.refusal(Refused(error)))
        return None

    def _say(self, request: Request, route: str, name: str, version: str) -> Response:
        models = self._models
        match route.rpartition("/")[2]:
            case "v2":
                return _json(SERVER)
            case "live":
                return _json({"live": True})
            case "ready" if not name:
                return _json({"ready": models.ready}, 200 if models.ready else 503)
            case "ready":
                ready = models.model_ready(name, version)
                return _json({"name": name, "ready": ready}, 200 if ready else 503)
            case "stats":
                return _json({"model_stats": models.statistics(name, version)})
            case "config":
                return _json(models.config(name, version))
            case "index":
                return _json(models.index(ready=_index_of(request).ready))
            case _:
                return _json(models.metadata(name, version))

    def _found(self, request: Request) -> tuple[str, dict[str, str | None]]:
        """The route of an address, and what it names."""
        path = request.path.decode("latin-1")
        allowed = set()
        for method, route, pattern in _PATTERNS:
            match = pattern.match(path)
            if match is not None:
                if request.method == method or (request.method == "HEAD" and method == "GET"):
                    return route, match.groupdict()
                allowed.add(method)
        if allowed:
            told = ", ".join(sorted(allowed))
            raise Refused(Invalid(f"{path[:80]!r} takes {told}"), status=405, headers=f"Allow: {told}\r\n")
        raise Refused(NotFound(f"there is no {path[:80]!r} here"))

    def _later(self, move: Awaitable[None], reply: Callable[[Response], None]) -> None:
        """An order once given is carried out, also if who gave it goes away."""

        async def carry_out() -> None:
            try:
                await move
                reply(_json({}))
            except FarshoreError as error:
                reply(self.refusal(Refused(error)))

        task = asyncio.get_running_loop().create_task(carry_out())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _head_length(request: Request) -> int | None:
    text = request.headers.get(_LENGTH)
    if text is None:
        return None
    if not (text.isdigit() and len(text) < 12 and int(text) <= request.size):
        raise Invalid("Inference-Header-Content-Length is no number within the body's length")
    return int(text)


def _index_of(request: Request) -> _IndexRequest:
    if not request.size:
        return _IndexRequest()
    try:
        return msgspec.json.decode(b"".join(request.body), type=_IndexRequest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"not a request for the index: {error}"[:300]) from None


def _same_site(request: Request) -> None:
    """A browser says which page a request comes from; programs do not."""
    origin = request.headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != request.headers.get(b"host"):
        raise Refused(Denied("pages of other sites may not load or unload models"))


def _inferred(reply: Reply) -> Response:
    headers = headers_of(reply.source) if reply.source else ""
    if reply.error is not None:
        if isinstance(reply.error, Unavailable):
            headers += "Retry-After: 2\r\n"
        return _failure(reply.error, headers, reply.status)
    if reply.head is None:
        return Response(200, reply.body, headers=headers)
    headers += f"Inference-Header-Content-Length: {reply.head}\r\n"
    return Response(200, reply.body, "application/octet-stream", headers)


def _failure(error: FarshoreError, headers: str, status: int) -> Response:
    return Response(status, msgspec.json.encode({"error": error.message}), headers=headers)


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value))
