"""IoT Hub identities: devices and modules as clients know them that speak IoT Hub's dialect.

A Farshore device and an IoT Hub device are one thing. Making one here makes a device with a twin, accepted at once; a device that
enrolled by its key may be given an identity as well. Whether it is enabled is how the device stands (:mod:`.standing`), and
deleting it deletes the device.
"""

from __future__ import annotations

import base64
import re
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from farshore.core.errors import Conflict, Denied, Invalid, NotFound, TooLarge
from farshore.hub import moments, rollouts, standing, twins
from farshore.hub.database import Database
from farshore.hub.fleet import Stale
from farshore.hub.policies import make_key
from farshore.hub.records import changes, devices, identities, messages
from farshore.hub.records.devices import ACCEPTED, REVOKED, Device, Standing, Twin
from farshore.hub.records.identities import NONE, SAS, Identity
from farshore.mqtt import sas

MAX_MODULES = 50
EDGE = ("$edgeAgent", "$edgeHub")
"""Modules that every IoT Edge device has."""
DISABLED = "disabled by an operator"

_ID = re.compile(r"[A-Za-z0-9\-:.%_*?!(),=@$']{1,128}\Z")


class Wanted(Struct, frozen=True):
    """What an identity should be; None leaves what stands there, or what is made.

    Attributes:
        kind: how it proves itself.
        primary, secondary: keys, base64; "" asks for new ones.
        enabled: whether it may speak; devices only.
        reason: why it may or may not.
        edge: whether it is an IoT Edge device; devices only.
        managed_by: modules only.

    """

    kind: Literal["sas", "certificateAuthority", "none"] | None = None
    primary: str | None = None
    secondary: str | None = None
    enabled: bool | None = None
    reason: str | None = None
    edge: bool | None = None
    managed_by: str | None = None


class Known(Struct, frozen=True):
    """A device's identity with its row and twin; of a module the device's row, and its own twin. ``waiting`` messages wait for it."""

    identity: Identity
    device: Device
    twin: Twin
    waiting: int = 0


class Identities:
    """All identities.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database = database
        self._clock = clock

    # -- what the doors ask ----------------------------------------------------------------------------------------

    def admit(self, device: str, module: str = "") -> Identity:
        """An identity whose device may speak; the caller has yet to see its proof.

        Raises:
            Denied: there is none, or it may not speak.

        """
        with self._database.reading() as tx:
            found, held = identities.one(tx, device, module), devices.standing(tx, device)
        if found is None or held is None:
            raise Denied(f"no identity {_name(device, module)}: farshore iothub connection-string makes one")
        standing.admit(held)
        return found

    # -- what operators ask ----------------------------------------------------------------------------------------

    def one(self, device: str, module: str = "") -> Known:
        """An identity. Devices that were given none have one that proves nothing.

        Raises:
            NotFound: no such device or module.

        """
        with self._database.reading() as tx:
            many = messages.waiting_counts(tx, [device], self._clock())
            return replace(_known(tx, device, module), waiting=many.get((device, module), 0))

    def page(self, after: str, limit: int) -> list[Known]:
        """Devices by id, from the first one behind ``after``."""
        with self._database.reading() as tx:
            rows = devices.page(tx, after, limit)
            there = identities.among(tx, [row.id for row, _ in rows])
            many = messages.waiting_counts(tx, [row.id for row, _ in rows], self._clock())
        return [Known(there.get((row.id, ""), _plain(row)), row, twin, many.get((row.id, ""), 0)) for row, twin in rows]

    def modules(self, device: str) -> list[Known]:
        """A device's modules, by name.

        Raises:
            NotFound: no such device.

        """
        with self._database.reading() as tx:
            row = devices.one(tx, device)
            if row is None:
                raise _missing(device, "")
            twins_ = {twin.module: twin for twin in devices.modules(tx, device)}
            many, found = messages.waiting_counts(tx, [device], self._clock()), identities.modules(tx, device)
            return [Known(one, row, twins_[one.module], many.get((device, one.module), 0)) for one in found]

    def put(self, device: str, module: str, wanted: Wanted, etag: str | None) -> tuple[Known, bool]:
        """Make an identity, or change it.

        Args:
            device: its id.
            module: "" for the device itself.
            wanted: what it should be.
            etag: value of ``If-Match``: that of the identity to change, ``*`` for any; None to make a new one.

        Returns:
            the identity, and whether it is new.

        Raises:
            Invalid, TooLarge: bad id or key, or too many modules.
            Conflict: it is there already.
            NotFound: it is to be changed and is not there; or there is no such device.
            Stale: the etag is not the present one.

        """
        check_id(device)
        if module:
            check_id(module)
        with self._database.writing() as tx:
            return self._put(tx, device, module, wanted, etag)

    def ensure(self, device: str, module: str = "") -> Known:
        """The identity of a device that there is, or of a module of it; made when there is none that proves anything.

        Raises:
            Invalid, TooLarge: bad name, or too many modules.
            NotFound: no such device.

        """
        if module:
            check_id(module)
        with self._database.writing() as tx:
            if devices.one(tx, device) is None:
                raise _missing(device, "")
            held = identities.one(tx, device, module)
            if held is None or held.kind == NONE:
                self._put(tx, device, module, Wanted(kind="sas"), None if held is None else "*")
            return _known(tx, device, module)

    def remove(self, device: str, module: str, etag: str | None) -> None:
        """Delete a module, or a device with everything that is its own.

        Raises:
            NotFound: there is none.
            Stale: the etag is not the present one.

        """
        with self._database.writing() as tx:
            held = _known(tx, device, module)
            _check_etag(held.identity, etag)
            if module:
                identities.remove(tx, device, module)
                devices.remove_module(tx, device, module)
                changes.add(tx, "module.removed", f"{device}/{module}", self._clock(), before=_said(held.identity))
            else:
                rollouts.leave(tx, device)
                devices.remove(tx, device)
                changes.add(tx, "device.removed", device, self._clock(), before=_said(held.identity))

    def add_modules(self, tx: Connection, device: str, names: list[str], managed_by: str) -> None:
        """Make those of a device's modules that are not there yet.

        Args:
            tx: open for writing.
            device: its id; it is there.
            names: of modules.
            managed_by: who looks after them.

        """
        there = {one.module for one in identities.modules(tx, device)}
        for name in sorted(set(names) - there):
            check_id(name)
            self._put(tx, device, name, Wanted(kind="sas", managed_by=managed_by), None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _put(self, tx: Connection, device: str, module: str, wanted: Wanted, etag: str | None) -> tuple[Known, bool]:
        now, row, held = self._clock(), devices.one(tx, device), identities.one(tx, device, module)
        if module and row is None:
            raise _missing(device, "")
        there = held is not None or (row is not None and not module)
        if etag is None and held is not None:
            raise Conflict(f"there is an identity {_name(device, module)} already: send If-Match to change it")
        if etag is not None and not there:
            raise _missing(device, module)
        before = held or (Identity(device, module) if row is None else _plain(row, module))
        _check_etag(before, etag)
        after = _changed(before, wanted, now)
        if module and held is None:
            self._add_module(tx, after, now)
        elif row is None:
            devices.add(tx, twins.new(device, {}, now), _first_standing(wanted), now)
        elif not module:
            after = self._stand(tx, row, after, wanted, now)
        identities.put(tx, after)
        kind = "module" if module else "device"
        what = f"{kind}.identity" if there else f"{kind}.created"
        changes.add(tx, what, _name(device, module), now, before=held and _said(held), after=_said(after))
        if after.edge and not before.edge:
            self.add_modules(tx, device, list(EDGE), "iotEdge")
        return _known(tx, device, module), not there

    def _add_module(self, tx: Connection, identity: Identity, now: float) -> None:
        if identities.count_modules(tx, identity.device) >= MAX_MODULES:
            raise TooLarge(f"{identity.device} has {MAX_MODULES} modules; more are not possible")
        devices.add_twin(tx, twins.new(identity.device, {}, now, identity.module))

    def _stand(self, tx: Connection, row: Device, identity: Identity, wanted: Wanted, now: float) -> Identity:
        """Enable or disable a device, if that is not how it stands."""
        held = devices.standing(tx, row.id)
        assert held is not None
        enabled = held.state == ACCEPTED
        if wanted.enabled is None or (wanted.enabled == enabled and wanted.reason in {None, held.reason}):
            return identity
        if wanted.enabled != enabled:
            state = ACCEPTED if wanted.enabled else REVOKED
            held = replace(held, state=state, turn=0 if wanted.enabled else held.turn)
            identity = replace(identity, status_at=now)
        reason = wanted.reason or ("" if wanted.enabled else DISABLED)
        devices.set_standing(tx, row.id, replace(held, reason=reason))
        return identity


def etag_of(identity: Identity) -> str:
    """The etag in IoT Hub's form: base64 of decimal digits."""
    return base64.b64encode(str(identity.version).encode()).decode()


def check_id(name: str) -> str:
    """``name`` if devices and modules may be called so: IoT Hub's rule, without what would break topics.

    Raises:
        Invalid: they may not.

    """
    if not _ID.match(name):
        raise Invalid(f"bad id {name[:80]!r}: 1 to 128 of A-Z a-z 0-9 and - : . % _ * ? ! ( ) , = @ $ '")
    return name


def _known(tx: Connection, device: str, module: str) -> Known:
    row, twin = devices.one(tx, device), devices.twin(tx, device, module)
    found = identities.one(tx, device, module)
    if row is None or twin is None or (module and found is None):
        raise _missing(device, module)
    return Known(found or _plain(row), row, twin)


def _plain(row: Device, module: str = "") -> Identity:
    """What stands for the identity of a device that was given none."""
    return Identity(row.id, module, generation="" if module else str(int(row.created * 1e6)))


def _changed(before: Identity, wanted: Wanted, now: float) -> Identity:
    kind = wanted.kind or (before.kind if before.version else SAS)
    symmetric = kind == SAS
    return replace(
        before,
        generation=before.generation or str(int(now * 1e6)),
        version=before.version + 1,
        kind=kind,
        primary=_key(wanted.primary, before.primary) if symmetric else "",
        secondary=_key(wanted.secondary, before.secondary) if symmetric else "",
        edge=before.edge if wanted.edge is None else wanted.edge,
        managed_by=before.managed_by if wanted.managed_by is None else wanted.managed_by,
    )


def _key(given: str | None, held: str) -> str:
    """The key that was given; the one that stands, if nothing was said of it; otherwise a new one."""
    if given:
        return sas.check_key(given)
    return held if given is None and held else make_key()


def _first_standing(wanted: Wanted) -> Standing:
    if wanted.enabled is False:
        return Standing(None, REVOKED, wanted.reason or DISABLED)
    return Standing(None, ACCEPTED, wanted.reason or "")


def _check_etag(identity: Identity, etag: str | None) -> None:
    if etag is not None and etag.strip().strip('"') not in {"*", etag_of(identity)}:
        raise Stale("the identity was changed meanwhile: read it again")


def _said(identity: Identity) -> Identity:
    """For the audit log: without times."""
    return replace(identity, connection_at=None, active_at=None)


def _name(device: str, module: str) -> str:
    return f"{device}/{module}" if module else device


def _missing(device: str, module: str) -> NotFound:
    return NotFound(f"no device {device!r}" + (f" with a module {module!r}" if module else ""))
