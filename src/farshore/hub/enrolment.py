"""Enrolment: from a one-time token, or an announced key, to a device with an identity of its own."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection

from farshore.core import possession
from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.core.trust import PublicKey
from farshore.core.wire import EnrolRequest
from farshore.hub import auth, moments, roles, twins
from farshore.hub.database import Database
from farshore.hub.records import access, changes, devices
from farshore.hub.records.devices import ACCEPTED, PENDING, Standing
from farshore.hub.roles import Caller

MAX_SECONDS = 366 * 24 * 3600
LISTED = 1000


class Enrolments:
    """Tokens for devices to come.

    Args:
        database: open.
        clock: tells the time.
        seconds: life of a device's bearer.

    """

    def __init__(self, database: Database, clock: moments.Clock, seconds: int) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds

    def create(
        self, caller: Caller, device: str, tags: dict[str, Any], seconds: int, *, approval: bool = False
    ) -> tuple[access.Enrolment, str]:
        """A new token, told only now.

        Args:
            caller: who asks; a device that exists has to be theirs.
            device: the id it fixes; "" leaves the choice to the device.
            tags: what the new device's twin begins with.
            seconds: life.
            approval: whether the device has to wait for an operator.

        Raises:
            Invalid: bad id, bad tags, or too long a life.
            Denied: the device is of another fleet.

        """
        if device:
            check_name(device)
        if not 0 < seconds <= MAX_SECONDS:
            raise Invalid(f"an enrolment token lives 1 to {MAX_SECONDS} seconds, not {seconds}")
        twins.check_tags(tags)
        now, token = self._clock(), auth.make_secret()
        with self._database.writing() as tx:
            held = devices.twin(tx, device) if device else None
            fleet = roles.fleet_of_tags(held.tags if held else tags)
            caller.need("operator", fleet)
            row = access.Enrolment(auth.make_id(), device, tags, now, now + seconds, None, "", approval, fleet)
            access.add_enrolment(tx, row, auth.hashed(token))
            changes.add(tx, "enrolment.created", row.id, now, after=[device, tags, approval])
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
            changes.add(tx, "enrolment.removed", key, self._clock())

    def enrol(self, request: EnrolRequest) -> tuple[str, str]:
        """Turn a token, or an announced key, into a device. Asking again after a lost reply gives the same answer.

        A token that fixes the id of a device that exists gives that device a new key and leaves its twin alone.

        Returns:
            the device's id and state.

        Raises:
            Denied: the signature is not by the key; token unknown, expired, or used by another.
            Conflict: the wanted id, the key or the bearer belongs to another device.

        """
        key = PublicKey.parse(request.key)
        possession.check(key, request)
        fresh = Standing(str(key), credential=request.bearer, expires=self._clock() + self._seconds)
        with self._database.writing() as tx:
            return self._by_token(tx, request, fresh) if request.token else self._by_key(tx, request, fresh)

    def _by_token(self, tx: Connection, request: EnrolRequest, fresh: Standing) -> tuple[str, str]:
        now, found = self._clock(), access.enrolment(tx, auth.hashed(request.token))
        if found is None:
            raise Denied("unknown enrolment token: ask the operator for a new one")
        device = found.device or request.device
        held = devices.standing(tx, device)
        if found.used is not None:
            if found.used_by == device and held is not None and held.key == fresh.key:
                return device, held.state  # the reply was lost, and the device asks again
            raise Denied("this enrolment token was used already: ask the operator for a new one")
        if now >= found.expires:
            raise Denied("this enrolment token has expired: ask the operator for a new one")
        _check_free(tx, device, fresh)
        fresh = replace(fresh, state=PENDING if found.approval else ACCEPTED)
        if held is None:
            devices.add(tx, twins.new(device, found.tags, now), fresh, now)
        elif found.device and _fleet(tx, device) != found.fleet:
            raise Denied(f"{device!r} belongs to another fleet by now: ask the operator for a new token")
        elif found.device:
            devices.set_standing(tx, device, fresh)
        else:
            raise Conflict(f"there is a device {device!r} already: choose another id, or delete that device first")
        access.use_enrolment(tx, found.id, device, now)
        changes.add(tx, "device.enrolled", device, now, before=held and held.key, after=fresh.key)
        return device, fresh.state

    def _by_key(self, tx: Connection, request: EnrolRequest, fresh: Standing) -> tuple[str, str]:
        held = devices.standing(tx, request.device)
        if held is None or held.key != fresh.key:
            raise Denied(f"no device {request.device!r} was announced with this key: give an enrolment token")
        if held.credential is None:
            _check_free(tx, request.device, fresh)
            devices.set_standing(tx, request.device, replace(fresh, state=held.state, reason=held.reason))
            changes.add(tx, "device.enrolled", request.device, self._clock(), after=fresh.key)
        return request.device, held.state

    def forget(self, tx: Connection, before: float) -> None:
        """Drop tokens that expired before a moment."""
        access.forget_enrolments(tx, before)


def _fleet(tx: Connection, device: str) -> str:
    held = devices.twin(tx, device)
    return roles.NONE if held is None else roles.fleet_of_tags(held.tags)


def _check_free(tx: Connection, device: str, fresh: Standing) -> None:
    """Neither key nor bearer may be another device's."""
    holders = {devices.by_key(tx, fresh.key or ""), (devices.by_credential(tx, fresh.credential or "") or (None,))[0]}
    if holders - {None, device}:
        raise Conflict("this key belongs to another device: make a new one")
