"""The link over somebody else's IoT Hub: what is desired is found in a store, and the twin only says that there is something new.

Nothing here is believed: the dispatch and all metadata pass the checks of :mod:`farshore.agent.trust` like a hub's own reply, bytes those of
their digests. How a device asks for addresses stands in ``docs/azure.md`` and in ``docs/adr/`` (tickets over an IoT Hub).
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Raw

from farshore.agent import azure_line
from farshore.agent.azure_line import Called, Line
from farshore.agent.classic import ClassicLink
from farshore.agent.clock import SystemClock
from farshore.agent.http_link import HttpBody, HttpLink
from farshore.agent.link import Bearerless
from farshore.agent.settings import Settings
from farshore.core import digest as digests
from farshore.core import dispatch as dispatches
from farshore.core import documents, errors, manifest
from farshore.core.digest import Digest
from farshore.core.dispatch import (
    DISPATCH,
    MAX_DISPATCH,
    MAX_WANT,
    METHOD,
    SECTION,
    Answer,
    Ask,
    Dispatch,
    Piece,
    Pointer,
)
from farshore.core.errors import Conflict, Corrupt, Invalid, NotFound, TooLarge, Unavailable
from farshore.core.manifest import MAX_MANIFEST
from farshore.core.wire import (
    EnrolReply,
    EnrolRequest,
    News,
    Route,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)
from farshore.trust.metadata import limit_of

ASK_SECONDS = 90.0
"""Longest wait for addresses: whoever gives them looks every few seconds."""

RETRY = 30.0
"""Seconds until the next sync of a device that was not held."""


class AzureLink(Bearerless):
    """See :class:`farshore.agent.link.Link`. It needs no bearer: the IoT Hub knows its devices by keys of its own.

    Attributes:
        hub: address of the IoT Hub, which names it.

    Args:
        host: name of the IoT Hub.
        device: this device's id there.
        line: makes the connection to it.
        ca: PEM file with the only authorities to believe at the store; None for the system's.
        insecure: plain HTTP to the store may leave this machine.
        patience: seconds to wait for addresses.

    """

    def __init__(
        self, host: str, device: str, line: Callable[[Called], Line], ca: Path | None = None, *,
        insecure: bool = False, patience: float = ASK_SECONDS,
    ) -> None:  # fmt: skip
        self.device = manifest.check_name(device)
        self.hub = f"https://{host}"
        self._patience = patience
        self._line = line(self._called)
        self._store = HttpLink(self.hub, None, ca, insecure=insecure)
        self._dispatch: Dispatch | None = None
        self._asked = ""
        self._answer: Answer | None = None
        self._answered = threading.Event()

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        """The trust roots, from the store; the IoT Hub has the device's name already.

        Raises:
            Conflict: it has another.

        """
        if request.device != self.device:
            raise Conflict(f"the IoT Hub knows this device as {self.device}, not as {request.device}")
        return EnrolReply(self.device, self._pieces(self._newest().roots, "root"))

    def sync(self, request: SyncRequest) -> SyncReply:
        if request.reported is not None:
            self._line.report(request.reported)
        held = self._dispatch is not None and request.reported is None and request.wait > 1
        if held and self._dispatch is not None and self._dispatch.desired.get("$version") == request.seen:
            self._line.wait(self._line.desired().get("$version", 0), request.wait)
        found = self._newest()
        lacking = {role: one for role, one in found.metadata.items() if request.have.get(role) != one.version}
        roots = self._pieces(found.roots[max(request.have.get("root", 0), 0) :], "root")
        bodies = dict(zip(lacking, self._pieces(lacking.values(), *lacking), strict=True))
        return dispatches.reply_of(found, request.seen, News(found.order, roots, bodies), _retry(request, held=held))

    def manifest(self, digest: Digest) -> bytes:
        return self._whole(self._routes([digest])[digest][-1], MAX_MANIFEST)

    def tickets(self, request: TicketRequest) -> TicketReply:
        answer = self._ask([request.want])
        routes = _given(answer, request.want)
        return TicketReply(tuple(one for one in routes if set(one.bases) <= set(request.have)), answer.expires)

    def fetch(self, url: str, start: int) -> HttpBody:
        return self._store.fetch(url, start)

    def close(self) -> None:
        """Close all connections."""
        self._line.close()
        self._store.close()

    # -- the newest dispatch ---------------------------------------------------------------------------------------

    def _newest(self) -> Dispatch:
        section = self._line.desired().get(SECTION)
        if section is None:
            raise Unavailable(f"nothing was published for {self.device} on {self.hub} yet: farshore azure publish")
        try:
            number = documents.convert(section, Pointer, what=f"desired.{SECTION}").dispatch
            if self._dispatch is None or self._dispatch.number != number:
                found = dispatches.decode(self._whole(self._routes([DISPATCH])[DISPATCH][-1], MAX_DISPATCH))
                if found.device != self.device or found.number < number:
                    raise Unavailable(
                        f"the dispatch is number {found.number} for {found.device}: number {number} is wanted"
                    )
                self._dispatch = found
        except (Invalid, TooLarge) as error:
            raise Unavailable(error.message) from error  # whoever writes it may mend it
        return self._dispatch

    def _pieces(self, wanted: Iterable[Piece], *roles: str) -> tuple[Raw, ...]:
        """Metadata by their digests; one role's limit holds for all where one is given."""
        every = list(wanted)
        names = roles if len(roles) == len(every) else roles * len(every)
        found = []
        for begin in range(0, len(every), MAX_WANT):
            batch = slice(begin, begin + MAX_WANT)
            routes = self._routes(dict.fromkeys(one.digest for one in every[batch]))
            for one, role in zip(every[batch], names[batch], strict=True):
                if one.size > limit_of(role):
                    raise TooLarge(f"metadata of {role}: {one.size} bytes; at most {limit_of(role)} are taken")
                data = self._whole(routes[one.digest][-1], one.size)
                digests.check(Digest(one.digest), digests.of(data), f"metadata of {role}")
                found.append(Raw(data))
        return tuple(found)

    # -- addresses -------------------------------------------------------------------------------------------------

    def _routes(self, want: Iterable[str]) -> Mapping[str, tuple[Route, ...]]:
        wanted = list(want)
        answer = self._ask(wanted)
        return {one: _given(answer, one) for one in wanted}

    def _ask(self, want: Iterable[str]) -> Answer:
        """Say in the twin what is wanted, and wait to be called."""
        ask = Ask(secrets.token_urlsafe(12), tuple(want))
        self._asked = ask.id
        self._answered.clear()
        self._line.report({SECTION: {"ask": documents.builtins(ask)}})
        if not self._answered.wait(self._patience):
            raise Unavailable("nobody gave addresses of the store: is `farshore azure answer` running?")
        assert self._answer is not None
        answer, self._answer, self._asked = self._answer, None, ""
        self._line.report({SECTION: {"ask": None}})
        return answer

    def _called(self, name: str, payload: Any) -> bool:
        try:
            answer = documents.convert(payload, Answer, what=METHOD)
        except Invalid:
            return False
        if name != METHOD or not self._asked or answer.id != self._asked:
            return False
        self._answer = answer
        self._answered.set()
        return True

    def _whole(self, route: Route, limit: int) -> bytes:
        if route.size > limit:
            raise TooLarge(f"the store offers {route.size} bytes; at most {limit} are taken")
        body, data = self._store.fetch(route.url, 0), bytearray()
        try:
            while len(data) <= limit and (piece := body.read(64 * 1024)):
                data += piece
        finally:
            body.close()
        if len(data) != route.size:
            raise Corrupt(f"{len(data)} bytes came, {route.size} were offered")
        return bytes(data)


def _retry(request: SyncRequest, *, held: bool) -> float:
    """Seconds until the next sync: who was held or has reported comes back to be held."""
    return 1.0 if held or request.reported is not None else RETRY


def _given(answer: Answer, want: str) -> tuple[Route, ...]:
    if want in answer.faults:
        fault = answer.faults[want]
        raise errors.from_code(fault.code, fault.message)
    routes = answer.routes.get(want, ())
    if not routes:
        raise NotFound(f"no address of {want} was given")
    return routes


def open_link(settings: Settings, environ: Mapping[str, str] | None = None) -> AzureLink | ClassicLink:
    """The link to the IoT Hub that the settings name.

    Raises:
        Invalid: they name none.

    """
    access = azure_line.access(
        settings.connection, os.environ if environ is None else environ, settings.ca, websockets=settings.websockets
    )
    if settings.classic:
        return ClassicLink(access.host, access.device, partial(Line, access), settings, SystemClock())
    return AzureLink(access.host, access.device, partial(Line, access), insecure=settings.insecure_http)
