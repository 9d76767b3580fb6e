"""A link whose bearer is renewed when the hub does not take it any more, so that nobody above has to know that it expires."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from farshore.agent import identity
from farshore.agent.identity import Identity
from farshore.agent.link import Link, Through
from farshore.agent.settings import Settings
from farshore.core.digest import Digest
from farshore.core.errors import Unauthenticated
from farshore.core.wire import SyncReply, SyncRequest, TicketReply, TicketRequest

T = TypeVar("T")


class RenewingLink(Through):
    """See :class:`farshore.agent.link.Link`.

    After a start of the machine the bearer is renewed at the first contact, also when it is still good: a copy of this device
    cannot have seen that renewal, and is found out as soon as it starts.

    Args:
        inner: the link itself; carries the bearer.
        settings: of this device.
        who: its identity.
        boot: names this start of the machine; "" if unknown.

    """

    def __init__(self, inner: Link, settings: Settings, who: Identity, boot: str) -> None:
        super().__init__(inner)
        self._settings = settings
        self._who = who
        self._boot = boot
        self.credential: str | None = who.credential

    def sync(self, request: SyncRequest) -> SyncReply:
        return self._with_bearer(lambda: self._inner.sync(request))

    def manifest(self, digest: Digest) -> bytes:
        return self._with_bearer(lambda: self._inner.manifest(digest))

    def tickets(self, request: TicketRequest) -> TicketReply:
        return self._with_bearer(lambda: self._inner.tickets(request))

    def _with_bearer(self, ask: Callable[[], T]) -> T:
        if self._boot and self._who.boot != self._boot:
            self._renew()
        self._inner.credential = self.credential
        try:
            return ask()
        except Unauthenticated:
            self._renew()
            return ask()

    def _renew(self) -> None:
        self._who = identity.renew(self._settings, self._who, self._inner, self._boot)
        self._inner.credential = self.credential = self._who.credential
