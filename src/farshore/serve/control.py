"""The control door: what the agent on this machine asks for (:mod:`farshore.core.control`), over a unix socket of mode 0600."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from farshore.core import digest as digests
from farshore.core import documents, manifest
from farshore.core.control import ModelStatus, Shadow, Status, Target
from farshore.core.errors import FarshoreError, Invalid, NotFound
from farshore.serve.casting import cast
from farshore.serve.http import Refused, Request, Response, failure
from farshore.serve.model import Model
from farshore.serve.pool import Pool

log = logging.getLogger(__name__)

_ORDER = re.compile(r"/control/models/([^/]+)/(probe|shadow|switch|drop)\Z")
_MODULES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert"}


class Control:
    """Answers the control door.

    Args:
        pool: the models.

    """

    max_body = 64 << 10

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()
        installed = tuple(name for name, module in _MODULES.items() if importlib.util.find_spec(module) is not None)
        chosen = pool.settings.runtimes
        self._runtimes = tuple(name for name in installed if not chosen or name in chosen)

    def admit(self, request: Request) -> None:
        """Refuse unknown paths and methods."""
        path = request.path.decode("latin-1")
        wanted = "GET" if path == "/control/models" else "POST" if _ORDER.match(path) else None
        if wanted is None:
            raise Refused(NotFound(f"there is no {path[:80]!r} here"))
        if request.method != wanted:
            raise Refused(Invalid(f"{path[:80]} takes {wanted}"), status=405, headers=f"Allow: {wanted}\r\n")

    def refusal(self, path: bytes, headers: Mapping[bytes, bytes], refused: Refused) -> Response:
        """As :meth:`farshore.serve.http.App.refusal`."""
        return failure(refused.error, status=refused.status, headers=refused.headers)

    def answer(self, request: Request, reply: Callable[[Response], None]) -> Callable[[], None] | None:
        """As :meth:`farshore.serve.http.App.answer`. An order once given is carried out, also if who gave it goes away."""
        if request.path == b"/control/models":
            reply(_json(self.status()))
            return None
        task = asyncio.get_running_loop().create_task(self._obey(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    def status(self) -> Status:
        """What answers now, and with which counts."""
        return Status(
            self._runtimes, {name: _status(model) for name, model in self._pool.models.items() if model.lanes}
        )

    async def _obey(self, request: Request, reply: Callable[[Response], None]) -> None:
        try:
            reply(_json(await self._order(request)))
        except FarshoreError as error:
            reply(failure(error))
        except Exception:
            log.exception("control: %s", request.path.decode("latin-1")[:80])
            reply(failure(FarshoreError("an unexpected fault; the server's log has it")))

    async def _order(self, request: Request) -> Struct | dict[str, str]:
        match = _ORDER.match(request.path.decode("latin-1"))
        assert match is not None  # admitted
        name = manifest.check_name(match[1])
        body = b"".join(request.body)
        asked = documents.decode(body, Shadow, what="control request") if match[2] == "shadow" else None
        target = asked or documents.decode(body, Target, what="control request")
        digest = digests.parse(target.digest)
        if match[2] == "drop" and name not in self._pool.models:
            return {}
        self._pool.slots.find(name, digest) if match[2] != "drop" else None
        model = self._pool.model(name)
        if asked is not None:
            log.info("shadow %s %s, %g of the requests", name, digests.short(digest), asked.share)
            await cast(self._pool, model, digest, asked.share)
            return {}
        orders: dict[str, Callable[[digests.Digest], Awaitable[Struct | None]]] = {
            "probe": model.probe, "switch": model.switch, "drop": model.drop,
        }  # fmt: skip
        log.info("%s %s %s", match[2], name, digests.short(digest))
        result = await orders[match[2]](digest)
        return {} if result is None else result


def _status(model: Model) -> ModelStatus:
    lanes = model.lanes.values()
    serving = model.leader or next((lane for lane in lanes if lane.role == "lead"), None)
    candidate = next((lane for lane in lanes if lane.role == "candidate"), None)
    return ModelStatus(model.serving(serving), model.serving(candidate))


def _json(value: object) -> Response:
    return Response(200, documents.canonical(value))
