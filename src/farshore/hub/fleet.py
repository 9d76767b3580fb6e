"""The fleet: devices, their twins, and what each is told to run.

Effective desired is resolved when a device syncs or its twin is read: deployments × tags × what operators wrote by hand.
Nothing is written for a device when a deployment changes; its twin is written when it next asks and the answer differs.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import msgspec
from sqlalchemy import Connection

from farshore.core import twin, wire
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, Invalid, NotFound, TooLarge, Unauthenticated
from farshore.hub import auth, deployment, moments, selector, twins
from farshore.hub.database import Database
from farshore.hub.deployment import Rule
from farshore.hub.records import changes, deployments, devices, models
from farshore.hub.records.devices import Device, Twin

log = logging.getLogger(__name__)
PAGE = 500
REPORTED = (devices.CURRENT, devices.PREVIOUS, devices.TARGET)


class Stale(Conflict):
    """The etag given is not the present one: read the twin again, then decide."""

    status = 412


class Fleet:
    """All devices.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database = database
        self._clock = clock
        self._rules: tuple[int, list[Rule]] = (-1, [])
        self._seen: dict[str, float] = {}
        self._seen_lock = threading.Lock()

    # -- what devices ask ------------------------------------------------------------------------------------------

    def authenticate(self, credential: str) -> str:
        """The device with this credential.

        Raises:
            Unauthenticated: there is none (any more).

        """
        with self._database.reading() as tx:
            device = devices.by_credential(tx, auth.hashed(credential))
        if device is None:
            raise Unauthenticated("unknown credential: enrol this device")
        return device

    def sync(self, credential: str, request: wire.SyncRequest) -> tuple[str, dict[str, Any] | None]:
        """A device's sync: take its report, tell it its desired section if that is not what it has seen.

        Without news this is one indexed read and no write.

        Args:
            credential: the device's secret.
            request: what it says.

        Returns:
            the device's id, and the desired section with ``$version``, or None if it has it.

        Raises:
            Unauthenticated: no such device.
            Invalid, TooLarge: the report breaks a rule; nothing was taken.

        """
        with self._database.reading() as tx:
            row = devices.twin_by_credential(tx, auth.hashed(credential))
            if row is None:
                raise Unauthenticated("unknown credential: enrol this device")
            stale = self._wanted(tx, row) != row.desired.values
        with self._seen_lock:
            self._seen[row.device] = self._clock()
        if stale or request.reported:
            row = self._update(row.device, request.reported or {})
        return row.device, None if row.desired.version == request.seen else twin.wire(row.desired)

    def check_wants_version(self, device: str, manifest: Digest) -> None:
        """Pass if the device's desired names the version with this manifest digest.

        Raises:
            Denied: it does not.

        """
        with self._database.reading() as tx:
            if not devices.should_have(tx, device, manifest):
                raise Denied(f"{manifest} is not desired on {device}: sync first")

    def check_needs_file(self, device: str, digest: Digest) -> None:
        """Pass if the blob belongs to a version that the device's desired names.

        Raises:
            Denied: it does not.

        """
        with self._database.reading() as tx:
            if not devices.needs_file(tx, device, digest):
                raise Denied(f"{digest} belongs to nothing that is desired on {device}: sync first")

    def exists(self, device: str) -> bool:
        with self._database.reading() as tx:
            return devices.one(tx, device) is not None

    # -- what operators ask ----------------------------------------------------------------------------------------

    def device(self, device: str) -> tuple[Device, Twin]:
        """A device and its twin, resolved now.

        Raises:
            NotFound: no such device.

        """
        row = self.twin(device)
        with self._database.reading() as tx:
            found = devices.one(tx, device)
        if found is None:
            raise _no_device(device)
        return self._fresh(found), row

    def devices(self, where: str, after: str, limit: int) -> list[tuple[Device, Twin]]:
        """Devices by id, with their twins as they last knew them.

        Args:
            where: a selector; "" for all.
            after: the id that the page begins after; "" for the first page.
            limit: most devices to return.

        Raises:
            Invalid: the selector is malformed.

        """
        chosen = selector.parse(where or "*")
        found: list[tuple[Device, Twin]] = []
        while len(found) < limit:
            with self._database.reading() as tx:
                page = devices.page(tx, after, PAGE)
            found += [(self._fresh(one), row) for one, row in page if chosen.matches(one.id, row.tags)]
            if len(page) < PAGE:
                break
            after = page[-1][0].id
        return found[:limit]

    def remove(self, device: str) -> None:
        """Delete a device with its twin; its credential is worth nothing from now on.

        Raises:
            NotFound: no such device.

        """
        with self._database.writing() as tx:
            if not devices.remove(tx, device):
                raise _no_device(device)
            changes.add(tx, "device.removed", device, self._clock())

    def twin(self, device: str) -> Twin:
        """A device's twin, resolved now.

        Raises:
            NotFound: no such device.

        """
        with self._database.reading() as tx:
            row = devices.twin(tx, device)
            if row is None:
                raise _no_device(device)
            stale = self._wanted(tx, row) != row.desired.values
        return self._update(device, {}) if stale else row

    def change_twin(self, device: str, document: dict[str, Any], etag: str | None, *, replace: bool) -> Twin:
        """Patch or replace tags and desired, as IoT Hub's PATCH and PUT do.

        Args:
            device: its id.
            document: ``{"tags": …, "properties": {"desired": …}}``; other members, and ``$…`` ones, are ignored, so that
                a twin may be sent back as it was read.
            etag: value of ``If-Match``; None and ``*`` match always.
            replace: replace the sections given rather than merge into them.

        Raises:
            NotFound: no such device.
            Stale: the etag is not the present one.
            Invalid, TooLarge: the change breaks a rule; nothing was changed.

        """
        properties = document.get("properties", {})
        if not isinstance(properties, dict):
            raise Invalid("twin: properties must be an object")
        tags, desired = _section(document, "tags"), _section(properties, "desired")
        with self._database.writing() as tx:
            row = devices.twin(tx, device)
            if row is None:
                raise _no_device(device)
            if etag is not None and etag.strip().strip('"') not in {"*", twins.etag_of(row)}:
                raise Stale("the twin was changed meanwhile: read it again")
            now, changed = self._clock(), row
            if tags is not None:
                changed = twins.with_tags(changed, tags, replace=replace)
            if desired is not None:
                changed = twins.with_desired(changed, desired, moments.text(now), replace=replace)
                _check_known(tx, changed.manual)
            changed = self._settled(tx, changed, now, told=row.desired.version)
            changed = msgspec.structs.replace(changed, version=row.version + 1)
            _index(tx, changed)
            devices.write_twin(tx, changed)
            changes.add(tx, "twin.desired", device, now)
        return changed

    # -- the feed and the books ------------------------------------------------------------------------------------

    def changes(self, after: int, limit: int) -> list[changes.Change]:
        with self._database.reading() as tx:
            return changes.after(tx, after, limit)

    def flush_seen(self) -> None:
        """Write down when devices were last seen: many syncs, one transaction."""
        with self._seen_lock:
            seen, self._seen = self._seen, {}
        if seen:
            with self._database.writing() as tx:
                devices.note_seen(tx, seen)

    def _fresh(self, device: Device) -> Device:
        seen = self._seen.get(device.id)
        return device if seen is None else msgspec.structs.replace(device, seen=seen)

    def _update(self, device: str, report: dict[str, Any]) -> Twin:
        """Resolve desired, take a report; write only what is new."""
        with self._database.writing() as tx:
            row = devices.twin(tx, device)
            if row is None:
                raise Unauthenticated("this device was deleted: enrol it anew")
            now = self._clock()
            changed = self._reported(tx, self._settled(tx, row, now, told=row.desired.version), report, now)
            if changed.desired != row.desired:
                changed = msgspec.structs.replace(changed, version=row.version + 1)
                _index(tx, changed)
                changes.add(tx, "twin.desired", device, now)
            if changed != row:
                devices.write_twin(tx, changed)
            return changed

    def _wanted(self, tx: Connection, row: Twin) -> dict[str, Any]:
        count, rules = self._rules
        if count != row.rules:
            rules = [
                Rule(one.id, selector.parse(one.selector), one.model, one.version, one.digest, one.priority, one.serial)
                for one in deployments.every(tx)
            ]
            self._rules = (row.rules, rules)
        return deployment.effective(row.manual, deployment.winners(rules, row.device, row.tags))

    def _settled(self, tx: Connection, row: Twin, now: float, *, told: int) -> Twin:
        """``row`` with desired as it should be, its ``$version`` one above ``told`` if anything changed."""
        difference = twin.difference(row.desired.values, self._wanted(tx, row))
        if not difference:
            return row
        base = msgspec.structs.replace(row.desired, version=told)
        try:
            section = twin.patch(base, difference, moments.text(now), limit=twin.MAX_DESIRED, versioned=True)
        except TooLarge:
            log.warning("%s: deployments make its desired section too large; it keeps the old one", row.device)
            return row
        return msgspec.structs.replace(row, desired=section)

    def _reported(self, tx: Connection, row: Twin, report: dict[str, Any], now: float) -> Twin:
        section = twin.patch(row.reported, report, moments.text(now), limit=twin.MAX_REPORTED)
        if not twin.difference(row.reported.values, section.values):
            return row  # said before: a repeated report costs no write
        held: dict[tuple[str, str], str] = {}
        for model, state in wire.reported_models(section.values).items():
            for role, found in zip(REPORTED, (state.current, state.previous, state.target), strict=True):
                if found is not None:
                    held[model, role] = found.digest
        devices.hold(tx, row.device, REPORTED, held)
        changes.add(tx, "twin.reported", row.device, now)
        return msgspec.structs.replace(row, reported=section)


def _index(tx: Connection, row: Twin) -> None:
    """Note which versions ``row`` wants, for tickets and for refusing to delete them."""
    held = {(model, devices.DESIRED): one.digest for model, one in wire.desired_models(row.desired.values).items()}
    held |= {
        (model, devices.PINNED): one.digest for model, one in wire.desired_models(deployment.pins(row.manual)).items()
    }
    devices.hold(tx, row.device, (devices.DESIRED, devices.PINNED), held)


def _check_known(tx: Connection, manual: dict[str, Any]) -> None:
    for model, wanted in wire.desired_models(deployment.pins(manual)).items():
        found = models.by_digest(tx, wanted.digest)
        if found is None or (found.model, found.number) != (model, wanted.version):
            raise Invalid(f"desired.models: there is no version {wanted.version} of {model!r} with {wanted.digest}")


def _no_device(device: str) -> NotFound:
    return NotFound(f"no device {device!r}")


def _section(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    found = document.get(name)
    if found is not None and not isinstance(found, dict):
        raise Invalid(f"twin: {name} must be an object")
    return found
