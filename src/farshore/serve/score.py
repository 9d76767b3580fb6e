"""``/score``: pictures in, answers out; one, several in a form, or one drawn on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from urllib.parse import parse_qsl

from farshore.core.errors import FarshoreError, Invalid, Unavailable
from farshore.serve import multipart
from farshore.serve.frames import Drawing, Score, error_body
from farshore.serve.http import Request, Response, failure
from farshore.serve.intake import Intake
from farshore.serve.lane import Lease, Reply
from farshore.serve.model import Model
from farshore.serve.pool import Pool
from farshore.store.slots import Installed

MAX_QUERY = 2048
MAX_TOP = 1000
_EMPTY = "no picture: the request's body is empty; send the bytes of a JPEG, PNG or BMP file"

Done = Callable[[Response], None]
Cancel = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the address asks for; None takes the model's own."""

    model: str | None = None
    version: int | None = None
    threshold: float | None = None
    top: int | None = None


class Scores:
    """Answers pictures.

    Args:
        pool: the models.
        intake: counts what is refused.

    """

    def __init__(self, pool: Pool, intake: Intake) -> None:
        self._pool = pool
        self._intake = intake

    def answer(self, request: Request, reply: Done) -> Cancel | None:
        """As :meth:`farshore.serve.http.App.answer`."""
        try:
            wishes = wishes_of(request.query)
            model = self._pool.choose(wishes.model)
            if wishes.version is not None:
                model.pinned(wishes.version)  # refused here, before the first of several is under way
            if not request.size:
                raise Invalid(_EMPTY)
            draw = drawing_of(request.accept)
            order = Score(0, wishes.threshold, wishes.top, draw)
            if request.kind == "multipart/form-data":
                return self._several(request, model, wishes, order, reply)
            return self._one(
                request.body, request.size, model, wishes, order, lambda got: reply(response(model, got, draw))
            )
        except FarshoreError as error:
            self._intake.refuse("http", error)
            headers = "Retry-After: 2\r\n" if isinstance(error, Unavailable) else ""
            reply(failure(error, headers=headers))
            return None

    def _one(
        self, body: list[bytes], size: int, model: Model, wishes: Wishes, order: Score, done: Callable[[Reply], None]
    ) -> Cancel:
        deadline = monotonic() + self._pool.settings.wait_seconds
        lease = Lease(body, size, done, deadline, order, wishes.version)
        model.submit(lease)
        return lambda: model.cancel(lease)

    def _several(self, request: Request, model: Model, wishes: Wishes, order: Score, reply: Done) -> Cancel | None:
        if order.draw is not None:
            raise Invalid("one picture at a time is drawn on: send it by itself, or ask for JSON")
        parts = multipart.parts_of(b"".join(request.body), request.headers.get(b"content-type", b""))
        waiting = set(range(len(parts)))
        replies: dict[int, Reply] = {}
        cancels: dict[int, Cancel] = {}

        def done(number: int, got: Reply) -> None:
            replies[number] = got
            waiting.discard(number)
            if not waiting:
                reply(_together(model, [replies[each] for each in range(len(parts))]))

        for number, part in enumerate(parts):
            if part.data.nbytes:
                body = [bytes(part.data)]
                cancels[number] = self._one(body, len(body[0]), model, wishes, order, partial(done, number))
            else:
                done(number, Reply(Invalid.status, error=Invalid(_EMPTY)))

        def cancel() -> None:
            for number in list(waiting):
                cancels[number]()

        return cancel


def _together(model: Model, replies: list[Reply]) -> Response:
    """A list in the pictures' order; an error stands in the place of its picture. 200 if any was answered."""
    bodies = [got.body if got.error is None else error_body(got.error) for got in replies]
    best = next((got for got in replies if got.error is None), replies[0])
    told = response(model, best, None)
    return Response(best.status, b"[" + b",".join(bodies) + b"]", headers=told.headers)


def response(model: Model, reply: Reply, draw: Drawing | None) -> Response:
    """An answer for HTTP; which version gave it stands in its headers."""
    headers = headers_of(reply.source) if reply.source else ""
    if reply.status == Unavailable.status:
        headers += f"Retry-After: {model.retry_after}\r\n"
    if reply.error is not None:
        return failure(reply.error, status=reply.status, headers=headers)
    if draw is None:
        return Response(reply.status, reply.body, headers=headers)
    return Response(reply.status, reply.body, f"image/{draw}", headers)


def headers_of(source: Installed) -> str:
    """Who answered."""
    return f"X-Farshore-Model: {source.model}\r\nX-Farshore-Version: {source.version}\r\nX-Farshore-Digest: {source.digest}\r\n"


def drawing_of(accept: str) -> Drawing | None:
    """Whether a picture is asked for rather than JSON (RFC 9110 §12.5.1, as far as it matters here).

    Args:
        accept: the header; empty if there is none.

    """
    best: Drawing | None = None
    weight = 0.0
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        drawing: Drawing | None = {"image/jpeg": "jpeg", "image/*": "jpeg", "image/png": "png"}.get(kind)  # type: ignore[assignment]
        if drawing is None and kind not in {"application/json", "application/*", "*/*"}:
            continue
        if quality > weight:
            best, weight = drawing, quality
    return best


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def wishes_of(query: bytes) -> Wishes:
    """``model``, ``version``, ``threshold`` and ``top`` of a query string.

    Raises:
        Invalid: unknown, repeated or out of range.

    """
    if not query:
        return Wishes()
    if len(query) > MAX_QUERY:
        raise Invalid(f"the query is longer than {MAX_QUERY} bytes")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=8, errors="strict"
        )
    except ValueError:
        raise Invalid("the query cannot be read: ?model=NAME&threshold=0.5&top=10") from None
    given = dict(pairs)
    unknown = [key for key in given if key not in {"model", "version", "threshold", "top"}]
    if unknown or len(given) != len(pairs):
        what = f"unknown parameter {unknown[0][:40]!r}" if unknown else "a parameter stands twice"
        raise Invalid(f"{what}: /score takes model, version, threshold and top")
    version = whole("version", given["version"], 1 << 31) if "version" in given else None
    top = whole("top", given["top"], MAX_TOP) if "top" in given else None
    return Wishes(given.get("model"), version, _threshold(given.get("threshold")), top)


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


def whole(name: str, text: str, most: int) -> int:
    """A whole number from 1 on.

    Raises:
        Invalid: it is none, or too large.

    """
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 1 <= int(text) <= most):
        raise Invalid(f"{name} is {text[:40]!r}; a whole number from 1 to {most} is needed")
    return int(text)
