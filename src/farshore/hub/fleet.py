"""The fleet: devices, their twins, and what each is told to run.

Effective desired is resolved when a device syncs or its twin is read: deployments × tags × what operators wrote by hand.
Nothing is written for a device when a deployment changes; its twin is written when it next asks and the answer differs.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection

from farshore.core import twin, wire
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, Invalid, NotFound, TooLarge, Unauthenticated
from farshore.hub import auth, deployment, holdings, ledger, moments, rollouts, selector, standing, timeline, twins, why
from farshore.hub.database import Database
from farshore.hub.director import Director
from farshore.hub.records import changes, devices, models
from farshore.hub.records import rollouts as rollout_rows
from farshore.hub.records.devices import Device, ModuleHolds, Twin
from farshore.hub.resolution import Resolution
from farshore.hub.why import Reason

log = logging.getLogger(__name__)
PAGE = 500


class Stale(Conflict):
    """The etag given is not the present one: read the twin again, then decide."""

    status = 412


@dataclass(frozen=True, slots=True)
class Told:
    """What a sync comes to: the device's twin, and whether its desired section is news to the device."""

    twin: Twin
    news: bool


class Fleet:
    """All devices.

    Args:
        database: open.
        director: sees to it that devices will take what they are told to run.
        clock: tells the time.

    Attributes:
        moved: called, from any thread, when what devices said has changed what runs where.
        resolution: says what devices are told.

    """

    def __init__(self, database: Database, director: Director, clock: moments.Clock) -> None:
        self.moved: Callable[[], None] = lambda: None
        self._database = database
        self._director = director
        self._clock = clock
        self.resolution = Resolution()
        self._seen: dict[str, float] = {}
        self._seen_lock = threading.Lock()

    # -- what devices ask ------------------------------------------------------------------------------------------

    def authenticate(self, credential: str) -> str:
        """The device with this credential.

        Raises:
            Unauthenticated: there is none (any more), or it has expired.
            Denied: the device may not speak.

        """
        with self._database.reading() as tx:
            return standing.bearer_of(tx, auth.hashed(credential), self._clock())

    def sync(self, credential: str, request: wire.SyncRequest) -> Told:
        """A device's sync: take its report, tell it its desired section if that is not what it has seen.

        Without news this is one indexed read and no write.

        Args:
            credential: the device's secret.
            request: what it says.

        Raises:
            Unauthenticated: no such device, or its credential has expired.
            Denied: the device may not speak.
            Invalid, TooLarge: the report breaks a rule; nothing was taken.

        """
        with self._database.reading() as tx:
            row = self._admitted(tx, credential)
            stale = self._is_stale(tx, row) or request.seen > row.desired.version
        self.saw(row.device)
        if stale or request.reported:
            row = self._update(row.device, request.reported or {}, request.seen, count=(request.series, request.number))
        return Told(row, news=row.desired.version != request.seen)

    def glance(self, credential: str, request: wire.SyncRequest) -> Told | None:
        """The answer to a sync that needs no write and no look at what is not compiled yet; None for every other one.

        It is one indexed read: where the database is a file at hand, that is over sooner than a thread could be asked.

        Raises:
            Unauthenticated, Denied: as :meth:`sync`.

        """
        if request.reported or not self._database.at_hand:
            return None
        with self._database.reading() as tx:
            row = self._admitted(tx, credential)
            if not self.resolution.ready(row) or request.seen > row.desired.version or self._is_stale(tx, row):
                return None
        self.saw(row.device)
        return Told(row, news=row.desired.version != request.seen)

    def saw(self, device: str) -> None:
        """A device said something, by whichever door."""
        with self._seen_lock:
            self._seen[device] = self._clock()

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

    def check_may_fetch(self, device: str) -> None:
        """Pass if a device may use the tickets that it got.

        Raises:
            Denied: it was deleted, or may not speak.

        """
        with self._database.reading() as tx:
            found = devices.standing(tx, device)
        if found is None:
            raise Denied("the device of this ticket was deleted")
        standing.admit(found)

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

    def devices(
        self, where: str, after: str, limit: int, *, state: str = "", model: str = "", version: int | None = None
    ) -> list[tuple[Device, Twin]]:
        """Devices by id, with their twins as they last knew them.

        Args:
            where: a selector; "" for all.
            after: the id that the page begins after; "" for the first page.
            limit: most devices to return.
            state: only those ``accepted``, ``pending``, ``quarantined`` or ``revoked``; "" for all.
            model: only those that run this model, in ``version`` if that is given; "" for all.
            version: a number.

        Raises:
            Invalid: the selector is malformed.

        """
        chosen, whom = selector.parse(where or "*"), devices.who(state, model, version)
        found: list[tuple[Device, Twin]] = []
        size = min(limit, PAGE)
        while len(found) < limit:
            with self._database.reading() as tx:
                page = devices.page(tx, after, size, chosen=chosen, whom=whom)
            found += [
                (self._fresh(one), row) for one, row in page if chosen.matches(one.id, row.tags, row.reported.values)
            ]
            if len(page) < size:
                break
            after, size = page[-1][0].id, PAGE
        return found[:limit]

    def remove(self, device: str) -> None:
        """Delete a device with its twin; its credential is worth nothing from now on.

        Raises:
            NotFound: no such device.

        """
        with self._database.writing() as tx:
            held = devices.standing(tx, device)
            rollouts.leave(tx, device)
            if not devices.remove(tx, device):
                raise _no_device(device)
            changes.add(tx, "device.removed", device, self._clock(), before=held)

    def modules(self, device: str) -> list[ModuleHolds]:
        """Versions that a device's modules hold, in the classic contract."""
        with self._database.reading() as tx:
            return devices.module_holdings(tx, device)

    def twin(self, device: str, module: str = "") -> Twin:
        """The twin of a device, or of one of its modules, resolved now.

        Raises:
            NotFound: no such device or module.

        """
        with self._database.reading() as tx:
            row = devices.twin(tx, device, module)
            if row is None:
                raise _no_device(device, module)
            stale = self._is_stale(tx, row)
        return self._update(device, {}, module=module) if stale else row

    def report(self, device: str, module: str, change: dict[str, Any]) -> Twin:
        """Merge what a device or module says into its reported section; desired is resolved as well.

        Args:
            device: its id.
            module: "" for the device itself.
            change: merge patch.

        Raises:
            Unauthenticated: it was deleted.
            Invalid, TooLarge: the report breaks a rule; nothing was taken.

        """
        return self._update(device, change, module=module)

    def change_twin(
        self, device: str, document: dict[str, Any], etag: str | None, *, replace: bool, module: str = ""
    ) -> Twin:
        """Patch or replace tags and desired, as IoT Hub's PATCH and PUT do.

        Args:
            device: its id.
            document: ``{"tags": …, "properties": {"desired": …}}``; other members, and ``$…`` ones, are ignored, so that
                a twin may be sent back as it was read.
            etag: value of ``If-Match``; None and ``*`` match always.
            replace: replace the sections given rather than merge into them.
            module: whose twin on the device; "" for the device's own.

        Raises:
            NotFound: no such device or module.
            Stale: the etag is not the present one.
            Invalid, TooLarge: the change breaks a rule; nothing was changed.

        """
        properties = document.get("properties", {})
        if not isinstance(properties, dict):
            raise Invalid("twin: properties must be an object")
        tags, desired = _section(document, "tags"), _section(properties, "desired")
        with self._director.writing() as tx:
            row = devices.twin(tx, device, module)
            if row is None:
                raise _no_device(device, module)
            if etag is not None and etag.strip().strip('"') not in {"*", twins.etag_of(row)}:
                raise Stale("the twin was changed meanwhile: read it again")
            now, changed = self._clock(), row
            if tags is not None:
                changed = twins.with_tags(changed, tags, replace=replace)
            if desired is not None:
                desired = twins.by_hand(row, desired, self.resolution.wanted(tx, row).values)
                changed = twins.with_desired(changed, desired, moments.text(now), replace=replace)
                if not module:
                    self._check_known(tx, row.manual, changed.manual)
            changed = self._settled(tx, changed, now, told=row.desired.version)
            changed = msgspec.structs.replace(changed, version=row.version + 1)
            holdings.note_wanted(tx, changed)
            devices.write_twin(tx, changed)
            before, after = ([one.tags, one.manual] for one in (row, changed))
            detail = _ordered(row, changed)
            changes.add(tx, "twin.desired", _subject(changed), now, before=before, after=after, detail=detail)
        return changed

    def why(self, device: str, model: str, interval: float) -> list[Reason]:
        """Why a device is on the version of a model that it is on; see :mod:`.why`.

        Args:
            device: its id.
            model: name.
            interval: seconds between two syncs of a device that waits.

        Raises:
            NotFound: no such device.

        """
        known, row = self.device(device)
        with self._database.reading() as tx:
            resolved = self.resolution.wanted(tx, row)
            rules = self.resolution.ruled(tx, row)  # once: other threads may read newer ones meanwhile
            settled = [dataclasses.replace(rule, rollout=None) for rule in rules]
            best = deployment.winners(settled, device, row.tags, reported=row.reported.values).get(model)
            rule = None if best is None else next(one for one in rules if one.id == best.rule.id)
            rolling = None if rule is None or rule.rollout is None else rollout_rows.one(tx, rule.rollout.id)
            tallies = [] if rolling is None else rollout_rows.tally(tx, rolling.serial, len(rolling.now.waves))
            last = rollout_rows.newest_of(tx, model, None if rule is None else rule.id)
            found = devices.standing(tx, device)
        told = row.desired.values.get("models", {}).get(twin.key_of(model), {})
        standing_ = "it was deleted" if found is None else found.state + (f": {found.reason}" if found.reason else "")
        return why.chain(
            why.Case(
                device=device,
                model=model,
                rule=rule,
                choice=resolved.won.get(model),
                counting=rule is not None and rule.rollout is not None and rule.rollout.id in resolved.counting,
                manual=row.manual.get("models", {}).get(twin.key_of(model)),
                told=told.get("version"),
                said=wire.reported_models(row.reported.values).get(model),
                seen=None if known.seen is None else max(self._clock() - known.seen, 0.0),
                interval=interval,
                standing=standing_,
                tallies=tallies,
                last=None if last is None else last.now,
                brought=0 if last is None else last.version,
            )
        )

    # -- the feed and the books ------------------------------------------------------------------------------------

    def timeline(self, device: str, before: int | None, limit: int) -> list[changes.Change]:
        """What happened to a device, the newest first, as far back as the feed goes.

        Args:
            device: its id.
            before: serial that the page begins before; None for the newest.
            limit: most lines.

        Raises:
            NotFound: no such device.

        """
        with self._database.reading() as tx:
            if devices.one(tx, device) is None:
                raise _no_device(device)
            return changes.about(tx, device, ("device.", "twin."), before, limit)

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

    def _update(
        self, device: str, report: dict[str, Any], seen: int = 0, module: str = "", count: tuple[str, int] = ("", 0)
    ) -> Twin:
        """Resolve desired, take a report; write only what is new.

        A hub that was restored from a backup meets devices that have ``seen`` more than it remembers to have said. They do not
        go back, so it goes on above.
        """
        with self._database.writing() as tx:
            row = devices.twin(tx, device, module)
            if row is None:
                raise Unauthenticated("this device was deleted: enrol it anew")
            now = self._clock()
            # What it says now is about what it was told before: no rollout that only now takes it in may count that.
            heard = twins.hear(row, *count) if report else None
            changed, moved = (row, False) if heard is None else self._reported(tx, heard, report, now)
            changed = row if changed == heard else changed
            changed = self._settled(tx, changed, now, told=max(row.desired.version, seen))
            if seen > changed.desired.version:
                section = msgspec.structs.replace(changed.desired, version=seen + 1)
                changed = msgspec.structs.replace(changed, desired=section)
            if changed.desired != row.desired:
                changed = msgspec.structs.replace(changed, version=row.version + 1)
                holdings.note_wanted(tx, changed)
                changes.add(tx, "twin.desired", _subject(row), now, detail=_ordered(row, changed))
            if changed != row:
                devices.write_twin(tx, changed)
        if moved:
            self.moved()
        return changed

    def _admitted(self, tx: Connection, credential: str) -> Twin:
        """The twin of the device with this bearer, if it may speak; errors as :meth:`sync`."""
        found = devices.twin_by_credential(tx, auth.hashed(credential))
        if found is None:
            raise Unauthenticated("unknown credential: renew it, or enrol this device")
        standing.check(found[1], self._clock())
        return found[0]

    def _is_stale(self, tx: Connection, row: Twin) -> bool:
        """Whether there is something to write: the device is to be told something new, or a rollout stops here."""
        wanted = self.resolution.wanted(tx, row)
        return wanted.values != row.desired.values or bool(wanted.refused)

    def _check_known(self, tx: Connection, before: dict[str, Any], manual: dict[str, Any]) -> None:
        known = wire.desired_models(deployment.pins(before))
        for model, wanted in wire.desired_models(deployment.pins(manual)).items():
            found = models.by_digest(tx, wanted.digest)
            if found is None or (found.model, found.number) != (model, wanted.version):
                raise Invalid(f"desired.models: there is no version {wanted.version} of {model!r} with {wanted.digest}")
            if known.get(model) != wanted:
                self._director.settle(tx, found)

    def _settled(self, tx: Connection, row: Twin, now: float, *, told: int) -> Twin:
        """``row`` with desired as it should be, its ``$version`` one above ``told`` if anything changed."""
        resolved = self.resolution.wanted(tx, row)
        for key, why_not in resolved.refused.items():
            rollouts.exhaust(tx, key, why_not, now)
        wanted, won = resolved.values, resolved.won
        difference = twin.difference(row.desired.values, wanted)
        if not difference:
            return row
        base = msgspec.structs.replace(row.desired, version=told)
        try:
            section = twin.patch(base, difference, moments.text(now), limit=twin.MAX_DESIRED, versioned=True)
        except TooLarge:
            log.warning("%s: deployments make its desired section too large; it keeps the old one", row.device)
            return row
        models = wanted.get("models", {})
        given = [one for name, one in won.items() if models.get(twin.key_of(name), {}).get("digest") == one.digest]
        rollouts.admit(tx, row.device, given, now, resolved.foreseen)
        return msgspec.structs.replace(row, desired=section)

    def _reported(self, tx: Connection, row: Twin, report: dict[str, Any], now: float) -> tuple[Twin, bool]:
        """``row`` with a report taken, and whether that moved a rollout."""
        section = twin.patch(row.reported, report, moments.text(now), limit=twin.MAX_REPORTED)
        if not twin.difference(row.reported.values, section.values):
            return row, False  # said before
        said = holdings.note_reported(tx, row, section.values)
        held_before = {} if row.module else wire.reported_models(row.reported.values)
        changes.add(tx, "twin.reported", _subject(row), now, detail=timeline.said(held_before, said))
        if row.module:  # rollouts and their books are about devices
            return msgspec.structs.replace(row, reported=section), False
        ledger.enter(tx, row.device, row.tags, held_before, said, now)
        moved = rollouts.hear(tx, row.device, said, now)
        return msgspec.structs.replace(row, reported=section), moved


def _ordered(before: Twin, after: Twin) -> str:
    if after.module:
        return ""
    return timeline.told(*(wire.desired_models(one.desired.values) for one in (before, after)))


def _subject(row: Twin) -> str:
    return f"{row.device}/{row.module}" if row.module else row.device


def _no_device(device: str, module: str = "") -> NotFound:
    return NotFound(f"no device {device!r}" + (f" with a module {module!r}" if module else ""))


def _section(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    found = document.get(name)
    if found is not None and not isinstance(found, dict):
        raise Invalid(f"twin: {name} must be an object")
    return found
