"""The front: what is asked over HTTP, and who answers it. No runtime, no arrays, no files: those are the workers'."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from farshore.core.errors import Invalid, NotFound
from farshore.serve import page, pages
from farshore.serve.http import Refused, Request, Response, failure
from farshore.serve.intake import Intake
from farshore.serve.model import Model
from farshore.serve.oip.rest import Rest
from farshore.serve.pool import Pool
from farshore.serve.score import Scores

log = logging.getLogger(__name__)

_METHODS = {
    b"/": ("GET", "HEAD"),
    b"/score": ("POST",),
    b"/healthz": ("GET", "HEAD"),
    b"/readyz": ("GET", "HEAD"),
    b"/metrics": ("GET", "HEAD"),
    b"/v1/models": ("GET", "HEAD"),
}

_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}\Z")
_TRACE = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
"""W3C Trace Context, version 00 (https://www.w3.org/TR/trace-context/)."""


class Front:
    """Answers the door for pictures and tensors.

    Args:
        pool: the models.

    """

    def __init__(self, pool: Pool, intake: Intake) -> None:
        self.pool = pool
        self.max_body = pool.settings.max_body
        self._intake = intake
        self._scores = Scores(pool, intake)
        self._tensors = Rest(pool, intake)
        self._index = pages.index()

    def admit(self, request: Request) -> None:
        """Refuse by the header: unknown path, wrong method."""
        if self._tensors.owns(request.path):
            self._tensors.admit(request)
            return
        methods = _METHODS.get(request.path)
        if methods is None:
            raise Refused(NotFound(f"there is no {_shown(request.path)} here"))
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise Refused(
                Invalid(f"{_shown(request.path)} takes {allowed}"), status=405, headers=f"Allow: {allowed}\r\n"
            )

    def refusal(self, path: bytes, headers: Mapping[bytes, bytes], refused: Refused) -> Response:
        """As :meth:`farshore.serve.http.App.refusal`."""
        if self._tensors.owns(path):
            told = self._tensors.refusal(refused)
        else:
            self._intake.refuse("http", refused.error)
            told = failure(refused.error, status=refused.status, headers=refused.headers)
        return _signed("refused", path, headers, told)

    def answer(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        """As :meth:`farshore.serve.http.App.answer`."""

        def signed(response: Response) -> None:
            reply(_signed(request.method, request.path, request.headers, response))

        if request.path == b"/score":
            return self._scores.answer(request, signed)
        if self._tensors.owns(request.path):
            return self._tensors.answer(request, signed)
        signed(self._say(request.path))
        return None

    def _say(self, path: bytes) -> Response:
        match path:
            case b"/":
                return self._index
            case b"/healthz":
                return _json({"ok": True})
            case b"/readyz":
                models = {name: model.ready for name, model in self.pool.models.items() if model.wanted}
                ok = all(models.values()) and bool(models)
                return _json({"ready": ok, "models": models}, status=200 if ok else 503)
            case b"/v1/models":
                return _json({"models": [_described(model) for model in self.pool.models.values() if model.lanes]})
            case _:
                return Response(
                    200, page.metrics_of(self.pool, self._intake), "text/plain; version=0.0.4; charset=utf-8"
                )


def _signed(verb: str, path: bytes, asked: Mapping[bytes, bytes], response: Response) -> Response:
    """The answer with the request's id (the client's own if it is sane), and its trace context as it came."""
    given, trace = asked.get(b"x-request-id", b""), asked.get(b"traceparent", b"")
    number = given.decode() if _ID.match(given) else secrets.token_hex(8)
    headers = f"{response.headers}X-Request-Id: {number}\r\n"
    if _TRACE.match(trace):
        headers += f"traceparent: {trace.decode()}\r\n"
        log.info("%s %s %d request %s trace %s", verb, _shown(path), response.status, number, trace.decode())
    return replace(response, headers=headers)


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
