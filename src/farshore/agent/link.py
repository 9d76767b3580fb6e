"""The agent's way to a hub, whatever carries it."""

from __future__ import annotations

from typing import Protocol

from farshore.core.digest import Digest
from farshore.core.errors import Conflict
from farshore.core.wire import (
    ChallengeReply,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    RenewReply,
    RenewRequest,
    SyncReply,
    SyncRequest,
    TicketReply,
    TicketRequest,
)


class Body(Protocol):
    """Bytes of an object as they arrive.

    Attributes:
        start: offset of the first byte in the object; 0 if the other side ignored the wish to begin later.
        total: the object's size as the other side states it; None if it does not.

    """

    start: int
    total: int | None

    def read(self, limit: int) -> bytes:
        """At least one byte and at most ``limit``; ``b""`` at the end.

        Raises:
            Unavailable: the connection broke or was silent too long; bytes given before are good.

        """
        ...

    def close(self) -> None:
        """Let go of it, read to its end or not."""
        ...


class Link(Protocol):
    """What a device can ask of its hub. Every method may raise any :class:`~farshore.core.errors.FarshoreError` that the hub
    names, and ``Unavailable`` when it cannot be reached or its answer cannot be understood.

    Attributes:
        credential: the device's bearer; None before enrolment. Who renews it sets it.

    """

    credential: str | None

    def enrol(self, request: EnrolRequest) -> EnrolReply: ...

    def challenge(self, request: ChallengeRequest) -> ChallengeReply: ...

    def renew(self, request: RenewRequest) -> RenewReply: ...

    def sync(self, request: SyncRequest) -> SyncReply: ...

    def manifest(self, digest: Digest) -> bytes:
        """The manifest of that digest; not checked yet."""
        ...

    def tickets(self, request: TicketRequest) -> TicketReply: ...

    def fetch(self, url: str, start: int) -> Body:
        """An object from byte ``start`` on.

        Args:
            url: of a :class:`~farshore.core.wire.Route`; it carries its own permission, the device's credential is not sent.
            start: first byte wanted.

        Raises:
            Denied: the permission has run out: ask for a new ticket.
            NotFound: no such object (any more).
            Conflict: ``start`` lies behind the object's end.

        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Through:
    """What most of a link around another one does: pass on. See :class:`Link`, but for the credential.

    Args:
        inner: the other one.

    """

    def __init__(self, inner: Link) -> None:
        self._inner = inner

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        return self._inner.enrol(request)

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        return self._inner.challenge(request)

    def renew(self, request: RenewRequest) -> RenewReply:
        return self._inner.renew(request)

    def sync(self, request: SyncRequest) -> SyncReply:
        return self._inner.sync(request)

    def manifest(self, digest: Digest) -> bytes:
        return self._inner.manifest(digest)

    def tickets(self, request: TicketRequest) -> TicketReply:
        return self._inner.tickets(request)

    def fetch(self, url: str, start: int) -> Body:
        return self._inner.fetch(url, start)

    def close(self) -> None:
        self._inner.close()


class Bearerless:
    """What links over an IoT Hub have in common: it knows its devices by keys of its own. See :class:`Link`."""

    credential: str | None = None

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        raise Conflict("devices of an IoT Hub have no bearer to renew: their keys are kept there")

    def renew(self, request: RenewRequest) -> RenewReply:
        raise Conflict("devices of an IoT Hub have no bearer to renew: their keys are kept there")
