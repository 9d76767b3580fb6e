"""How a device stands: whom the hub believes to be which device, and who was found to be two.

A device proves itself by its key, and then carries a bearer for a week. Every renewal counts one turn further on both
sides. A copy of a device shares key and count with it; the first of the two to renew moves the count on, and the other one
comes with a number that lies behind: then nobody can tell which is which, and both are kept out until an operator looked.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection

from farshore.core import possession
from farshore.core.errors import Conflict, Denied, NotFound, Unauthenticated
from farshore.core.manifest import check_name
from farshore.core.trust import PublicKey
from farshore.core.wire import RenewReply, RenewRequest
from farshore.hub import moments, twins
from farshore.hub.challenges import Challenges
from farshore.hub.database import Database
from farshore.hub.records import changes, devices
from farshore.hub.records.devices import ACCEPTED, PENDING, QUARANTINED, REVOKED, Standing

COPIED = "its key is in use at two places, or its disk was put back to an older state"


class Standings:
    """Who is which device.

    Args:
        database: open.
        clock: tells the time.
        challenges: writes them.
        seconds: life of a bearer.

    """

    def __init__(self, database: Database, clock: moments.Clock, challenges: Challenges, seconds: int) -> None:
        self._database = database
        self._clock = clock
        self._challenges = challenges
        self._seconds = seconds

    def challenge(self, device: str) -> str:
        """Something for ``device`` to sign; also for one that does not exist, so that asking tells nothing."""
        with self._database.reading() as tx:
            found = devices.standing(tx, device)
        return self._challenges.write(device, 0 if found is None else found.turn, self._clock())

    def renew(self, request: RenewRequest) -> RenewReply:
        """A new bearer for a device that proves to hold its key. Asking again after a lost reply gives the same answer.

        Raises:
            Denied: not its key, or the device may not speak at all (any more).
            Unauthenticated: the challenge is stale: ask for a new one.
            Conflict: the bearer is another device's.

        """
        now = self._clock()
        with self._database.writing() as tx:
            found = devices.standing(tx, request.device)
            if found is None or found.key is None:
                raise Denied(f"no device {request.device!r} with this key: enrol it")
            possession.check(PublicKey.parse(found.key), request)
            self._challenges.check(request.challenge, request.device, found.turn, now)
            admit(found)
            again = request.turn == found.turn - 1 and request.bearer == found.credential
            if request.turn < found.turn and not again:
                found = replace(found, state=QUARANTINED, reason=COPIED)
                changes.add(tx, "device.quarantined", request.device, now, detail=COPIED)
            else:
                owner = devices.by_credential(tx, request.bearer)
                if owner is not None and owner[0] != request.device:
                    raise Conflict("this bearer belongs to another device: make a new one")
                # A count ahead of ours: the hub was restored from a backup. What it knew less of is no device's fault.
                turn = found.turn if again else request.turn + 1
                found = replace(found, turn=turn, credential=request.bearer, expires=now + self._seconds)
            devices.set_standing(tx, request.device, found)
        admit(found)
        return RenewReply(found.turn, self._seconds)

    def announce(self, device: str, key: str, tags: dict[str, Any]) -> None:
        """A device to come, known by its public key: it enrols without a token.

        Raises:
            Invalid: bad id, key or tags.
            Conflict: the id or the key is taken.

        """
        check_name(device)
        key = str(PublicKey.parse(key))
        twins.check_tags(tags)
        now = self._clock()
        with self._database.writing() as tx:
            if devices.standing(tx, device) is not None or devices.by_key(tx, key) is not None:
                raise Conflict(f"there is a device {device!r}, or one with this key, already")
            devices.add(tx, twins.new(device, tags, now), Standing(key), now)
            changes.add(tx, "device.announced", device, now, after=[key, tags])

    def approve(self, device: str) -> None:
        """Let a device in that waits, was quarantined or revoked. Whichever of two copies renews first stays; the other will
        be found out again.

        Raises:
            NotFound: no such device.
            Conflict: it is in.

        """
        self._move(device, {PENDING, QUARANTINED, REVOKED}, "device.approved", state=ACCEPTED, reason="", turn=0)

    def quarantine(self, device: str, reason: str) -> None:
        """Keep a device out until somebody has looked at it: :meth:`approve` lets it in again, with the same key.

        Raises:
            NotFound: no such device.
            Conflict: it is kept out already.

        """
        reason = reason or "by an operator"
        self._move(device, {ACCEPTED, PENDING}, "device.quarantined", state=QUARANTINED, reason=reason)

    def revoke(self, device: str, reason: str) -> None:
        """Keep a device out: its bearer, tickets and key are worth nothing from now on. Its twin stays.

        Raises:
            NotFound: no such device.
            Conflict: it is revoked already.

        """
        self._move(device, {ACCEPTED, PENDING, QUARANTINED}, "device.revoked", state=REVOKED, reason=reason)

    def _move(self, device: str, before: set[str], kind: str, **changed: Any) -> None:
        with self._database.writing() as tx:
            found = devices.standing(tx, device)
            if found is None:
                raise NotFound(f"no device {device!r}")
            if found.state not in before:
                raise Conflict(f"{device!r} is {found.state} already")
            after = replace(found, **changed)
            devices.set_standing(tx, device, after)
            changes.add(tx, kind, device, self._clock(), before=found, after=after, detail=after.reason)


def admit(standing: Standing) -> None:
    """Pass if a device may speak.

    Raises:
        Denied: it may not; the message says what has to happen.

    """
    if standing.state == PENDING:
        raise Denied("this device waits for an operator: farshore device approve")
    if standing.state != ACCEPTED:
        raise Denied(f"this device is {standing.state} ({standing.reason or 'by an operator'}): ask the operator")


def bearer_of(tx: Connection, secret: str, now: float) -> str:
    """The device whose bearer has this hash, if it may speak.

    Raises:
        Unauthenticated: there is none, or the bearer has expired: renew it.
        Denied: as :func:`admit`.

    """
    found = devices.by_credential(tx, secret)
    if found is None:
        raise Unauthenticated("unknown credential: renew it, or enrol this device")
    check(found[1], now)
    return found[0]


def check(standing: Standing, now: float) -> None:
    """Pass if a device with a valid bearer may speak; errors as :func:`bearer_of`."""
    admit(standing)
    if now >= standing.expires:
        raise Unauthenticated("this credential has expired: renew it")
