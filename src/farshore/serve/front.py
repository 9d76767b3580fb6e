"""The front: what is asked over HTTP, and who answers it. No runtime, no arrays, no files: those are the workers'."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from urllib.parse import parse_qsl

import msgspec

from farshore.core.errors import FarshoreError, Invalid, NotFound, Unavailable
from farshore.serve import page
from farshore.serve.frames import Score
from farshore.serve.http import Request, Response, failure
from farshore.serve.lane import Lease, Reply
from farshore.serve.pool import Model, Pool

MAX_QUERY = 2048
MAX_TOP = 1000

_METHODS = {
    b"/score": ("POST",),
    b"/healthz": ("GET", "HEAD"),
    b"/readyz": ("GET", "HEAD"),
    b"/metrics": ("GET", "HEAD"),
    b"/v1/models": ("GET", "HEAD"),
}


class Front:
    """Answers the door for pictures.

    Args:
        pool: the models.

    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.max_body = pool.settings.max_body
        self._rejected: dict[str, int] = {}

    def admit(self, request: Request) -> Response | None:
        """Refuse by the header: unknown path, wrong method, no body where a picture is needed."""
        methods = _METHODS.get(request.path)
        if methods is None:
            return failure(NotFound(f"there is no {_shown(request.path)} here"))
        if request.method not in methods:
            allowed = ", ".join(methods)
            headers = f"Allow: {allowed}\r\n"
            return failure(Invalid(f"{_shown(request.path)} takes {allowed}"), status=405, headers=headers)
        if request.kind == "multipart/form-data" and request.path == b"/score":
            return failure(
                Invalid("send the picture itself as the body (curl --data-binary @FILE), not a form"), status=415
            )
        return None

    def answer(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        """As :meth:`farshore.serve.http.App.answer`."""
        if request.path == b"/score":
            return self._score(request, reply)
        reply(self._say(request.path))
        return None

    def _score(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        try:
            name, threshold, top = _wishes(request.query)
            model = self.pool.choose(name)
            if not request.size:
                raise Invalid("no picture: the request's body is empty; send the bytes of a JPEG, PNG or BMP file")
        except FarshoreError as error:
            self._rejected[error.code] = self._rejected.get(error.code, 0) + 1
            headers = "Retry-After: 2\r\n" if isinstance(error, Unavailable) else ""
            reply(failure(error, headers=headers))
            return None
        lease = Lease(
            request.body,
            request.size,
            lambda answer: reply(_response(model, answer)),
            monotonic() + self.pool.settings.wait_seconds,
            Score(0, threshold, top),
        )
        model.submit(lease)
        return lambda: model.cancel(lease)

    def _say(self, path: bytes) -> Response:
        match path:
            case b"/healthz":
                return _json({"ok": True})
            case b"/readyz":
                models = {name: model.ready for name, model in self.pool.models.items() if model.wanted}
                ok = all(models.values()) and bool(models)
                return _json({"ready": ok, "models": models}, status=200 if ok else 503)
            case b"/v1/models":
                return _json({"models": [_described(model) for model in self.pool.models.values()]})
            case _:
                return Response(
                    200, page.metrics_of(self.pool, self._rejected), "text/plain; version=0.0.4; charset=utf-8"
                )


def _wishes(query: bytes) -> tuple[str | None, float | None, int | None]:
    """``model``, ``threshold`` and ``top`` of a query string.

    Raises:
        Invalid: unknown, repeated or out of range.

    """
    if not query:
        return None, None, None
    if len(query) > MAX_QUERY:
        raise Invalid(f"the query is longer than {MAX_QUERY} bytes")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=8, errors="strict"
        )
    except ValueError:
        raise Invalid("the query cannot be read: ?model=NAME&threshold=0.5&top=10") from None
    given = dict(pairs)
    unknown = [key for key in given if key not in {"model", "threshold", "top"}]
    if unknown or len(given) != len(pairs):
        what = f"unknown parameter {unknown[0][:40]!r}" if unknown else "a parameter stands twice"
        raise Invalid(f"{what}: /score takes model, threshold and top")
    return given.get("model"), _threshold(given.get("threshold")), _top(given.get("top"))


def _threshold(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Invalid(f"threshold is {text[:40]!r}; a number from 0 to 1 is needed")
    return value


def _top(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_TOP):
        raise Invalid(f"top is {text[:40]!r}; a whole number from 1 to {MAX_TOP} is needed")
    return int(text)


def _response(model: Model, reply: Reply) -> Response:
    source = reply.source
    headers = f"Farshore-Version: {source.model}@{source.version} {source.digest}\r\n" if source is not None else ""
    if reply.status == Unavailable.status:
        headers += f"Retry-After: {model.retry_after}\r\n"
    if reply.error is not None:
        return failure(reply.error, status=reply.status, headers=headers)
    return Response(reply.status, reply.body, headers=headers)


def _described(model: Model) -> dict[str, object]:
    return {
        "name": model.name,
        "ready": model.ready,
        "versions": [
            {
                "version": lane.installed.version,
                "digest": lane.installed.digest,
                "variant": lane.installed.variant,
                "state": lane.state,
                "leads": lane.leads,
            }
            for lane in sorted(model.lanes.values(), key=lambda lane: lane.installed.version)
        ],
    }


def _json(value: object, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value))


def _shown(path: bytes) -> str:
    return repr(path[:80].decode("latin-1"))
