"""Enrolment: from a one-time token to a device with a credential of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from farshore.core import twin
from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.core.wire import EnrolRequest
from farshore.hub import auth, moments
from farshore.hub.database import Database
from farshore.hub.records import access, changes, devices

MAX_SECONDS = 366 * 24 * 3600
LISTED = 1000


class Enrolments:
    """Tokens for devices to come.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, device: str, tags: dict[str, Any], seconds: int) -> tuple[access.Enrolment, str]:
        """A new token, told only now.

        Args:
            device: the id it fixes; "" leaves the choice to the device.
            tags: what the new device's twin begins with.
            seconds: life.

        Raises:
            Invalid: bad id, bad tags, or too long a life.

        """
        if device:
            check_name(device)
        if not 0 < seconds <= MAX_SECONDS:
            raise Invalid(f"an enrolment token lives 1 to {MAX_SECONDS} seconds, not {seconds}")
        twin.check(tags, nulls=False)
        twin.check_size(tags, twin.MAX_TAGS)
        now, token = self._clock(), auth.make_secret()
        row = access.Enrolment(auth.make_id(), device, tags, now, now + seconds, None, "")
        with self._database.writing() as tx:
            access.add_enrolment(tx, row, auth.hashed(token))
        return row, token

    def every(self) -> list[access.Enrolment]:
        """The newest tokens, used and expired ones included."""
        with self._database.reading() as tx:
            return access.all_enrolments(tx, LISTED)

    def remove(self, key: str) -> None:
        """Make a token useless.

        Raises:
            NotFound: there is none with this id.

        """
        with self._database.writing() as tx:
            if not access.remove_enrolment(tx, key):
                raise NotFound(f"no enrolment token {key!r}")

    def enrol(self, request: EnrolRequest) -> str:
        """Turn a token into a device; the device's id. Asking again with the same token and credential is safe.

        A token that fixes the id of a device that exists gives that device a new credential and leaves its twin alone.

        Raises:
            Denied: token unknown, expired, or used by another.
            Conflict: the wanted id, or the credential, belongs to another device.

        """
        now, secret = self._clock(), auth.hashed(request.credential)
        with self._database.writing() as tx:
            found = access.enrolment(tx, auth.hashed(request.token))
            if found is None:
                raise Denied("unknown enrolment token: ask the operator for a new one")
            device = found.device or request.device
            held = devices.credential(tx, device)
            if found.used is not None:
                if found.used_by == device and held == secret:
                    return device  # the reply was lost, and the device asks again
                raise Denied("this enrolment token was used already: ask the operator for a new one")
            if now >= found.expires:
                raise Denied("this enrolment token has expired: ask the operator for a new one")
            owner = devices.by_credential(tx, secret)
            if owner not in {None, device}:
                raise Conflict("this credential belongs to another device: make a new one")
            if held is None:
                devices.add(tx, _new(device, found.tags, now), secret, now)
            elif found.device:
                devices.set_credential(tx, device, secret)
            else:
                raise Conflict(f"there is a device {device!r} already: choose another id, or delete that device first")
            access.use_enrolment(tx, found.id, device, now)
            changes.add(tx, "device.enrolled", device, now)
        return device

    def forget(self, tx: Connection, before: float) -> None:
        """Drop tokens that expired before a moment."""
        access.forget_enrolments(tx, before)


def _new(device: str, tags: dict[str, Any], now: float) -> devices.Twin:
    stamp = moments.text(now)
    return devices.Twin(
        device=device,
        version=1,
        tags=tags,
        manual={},
        desired=twin.empty(stamp, versioned=True),
        reported=twin.empty(stamp),
        rules=0,
    )
