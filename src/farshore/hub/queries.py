"""Twins as IoT Hub's clients read them, one by one and by queries.

A query reads rows in the order of their ids and stops when it has looked at :data:`LOOKED` of them: an answer's page may be short, or
empty, and has a continuation where there may be more. What sums over all rows looks at all of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from farshore.core import documents, twin
from farshore.core.errors import FarshoreError, Invalid, NotFound
from farshore.hub import moments, query, twins
from farshore.hub.configuration import APPLIED, TARGETED
from farshore.hub.database import Database
from farshore.hub.query import Query
from farshore.hub.records import changes, devices, identities, messages
from farshore.hub.records.devices import ACCEPTED, Device, Twin
from farshore.hub.records.identities import Identity
from farshore.hub.resolution import Resolution
from farshore.hub.selector import Selector

NEVER = "0001-01-01T00:00:00Z"
PAGE = 500
LOOKED = 5000
MAX_ITEMS = 1000
MAX_TOKEN = 2048
KEPT = 1000
"""Counts that are remembered."""

Connected = Callable[[str, str], bool]
"""Whether a client of this device or module ("" for the device itself) is connected now."""


class Page(Struct, frozen=True):
    """Rows of an answer; ``more`` continues it, None at its end. ``raw`` rows are no whole twins."""

    rows: list[dict[str, Any]]
    raw: bool
    more: str | None


class _Place(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an answer goes on: behind which device and module, how many of ``TOP`` are left, and of which query."""

    of: str
    device: str = ""
    module: str = ""
    left: int | None = None
    skip: int = 0


class Queries:
    """Reads twins.

    Args:
        database: open.
        resolution: says which configurations hold.
        clock: tells the time.

    Attributes:
        connected: who is; the door that clients come through says so.

    """

    def __init__(self, database: Database, resolution: Resolution, clock: moments.Clock) -> None:
        self.connected: Connected = lambda _device, _module: False
        self._database = database
        self._resolution = resolution
        self._clock = clock
        self._counts: dict[str, tuple[int, int]] = {}

    def document(self, row: Twin) -> dict[str, Any]:
        """A twin as IoT Hub's clients read it.

        Raises:
            NotFound: it was deleted meanwhile.

        """
        with self._database.reading() as tx:
            device = devices.one(tx, row.device)
            if device is None:
                raise NotFound(f"no device {row.device!r}")
            many = messages.waiting_counts(tx, [row.device], self._clock())
            known = identities.one(tx, row.device, row.module)
            return self._document(tx, device, row, known, many.get((row.device, row.module), 0))

    def ask(self, text: str, limit: int, more: str | None) -> Page:
        """A page of a query's answer.

        Args:
            text: the query.
            limit: most rows.
            more: of the page before; None for the first.

        Raises:
            Invalid: no query, or no continuation of it.

        """
        asked = query.parse(text)
        place = _Place(_named(text), left=asked.top) if more is None else _read(text, more)
        limit = max(1, min(limit, MAX_ITEMS))
        if asked.sums:
            return self._summed(asked, place, limit)
        return self._rows(asked, place, limit)

    def targeted(self, text: str) -> int:
        """How many devices, or modules, a configuration's target condition meets."""
        return self._counted(f"target {text}", lambda: sum(1 for _ in self.target(text)))

    def count(self, text: str) -> int:
        """How many rows a query's answer has; 0 for what is no query.

        A sum of its own is believed: ``SELECT COUNT() AS n`` counts what it counts. As long as the feed stands still, the
        count does.

        """
        return self._counted(text, lambda: self._count(text))

    def target(self, text: str) -> Iterator[tuple[str, str]]:
        """Devices, or modules, that a target condition meets; a module's name is "" for devices.

        Raises:
            Invalid: it is none.

        """
        wanted = query.target(text)
        if isinstance(wanted, Query):
            for found in self._all(wanted):
                yield found["deviceId"], found["moduleId"]
            return
        for row in self._that_may_match(wanted):
            if wanted.matches(row.device, row.tags, row.reported.values):
                yield row.device, ""

    # -- inside ----------------------------------------------------------------------------------------------------

    def _counted(self, text: str, count: Callable[[], int]) -> int:
        with self._database.reading() as tx:
            newest = changes.newest(tx)
        known = self._counts.get(text)
        if known is not None and known[0] == newest and "connectionState" not in text:  # of which the feed says nothing
            return known[1]
        found = count()
        if len(self._counts) >= KEPT:
            self._counts.clear()
        self._counts[text] = newest, found
        return found

    def _count(self, text: str) -> int:
        try:
            asked = query.parse(text)
            found = query.answer(asked, self._all(asked))
            if asked.sums and not asked.group:
                value = next(iter(next(found).values()), 0)
                return int(value) if isinstance(value, int | float) else 0
            return sum(1 for _ in found)
        except FarshoreError:
            return 0

    def _rows(self, asked: Query, place: _Place, limit: int) -> Page:
        if place.left is not None:
            limit = min(limit, place.left)
        rows: list[dict[str, Any]] = []
        last = place.device, place.module
        for looked, found in enumerate(self._from(asked, place.device, place.module), 1):
            last = found["deviceId"], found.get("moduleId", "")
            if asked.matches(found):
                rows += query.answer(asked, [found])
            if len(rows) >= limit or looked >= LOOKED:
                break
        else:
            return Page(rows, asked.raw, None)
        left = None if place.left is None else place.left - len(rows)
        more = None if left == 0 else _written(_Place(place.of, *last, left))
        return Page(rows, asked.raw, more)

    def _summed(self, asked: Query, place: _Place, limit: int) -> Page:
        found = query.answer(asked, self._all(asked))
        rows = list(islice(found, place.skip, place.skip + limit + 1))
        more = _written(_Place(place.of, skip=place.skip + limit)) if len(rows) > limit else None
        return Page(rows[:limit], asked.raw, more)

    def _all(self, asked: Query) -> Iterable[dict[str, Any]]:
        return (found for found in self._from(asked, "", "") if asked.matches(found))

    def _from(self, asked: Query, device: str, module: str) -> Iterator[dict[str, Any]]:
        """All twins that a query is over, behind a place."""
        return self._of_devices(device) if asked.source == "devices" else self._of_modules(device, module)

    def _of_devices(self, after: str) -> Iterator[dict[str, Any]]:
        size = MAX_ITEMS // 10
        while True:
            with self._database.reading() as tx:
                rows = devices.page(tx, after, size)
                known = identities.among(tx, [device.id for device, _ in rows])
                many = messages.waiting_counts(tx, [device.id for device, _ in rows], self._clock())
                found = [
                    self._document(tx, device, row, known.get(own := (device.id, "")), many.get(own, 0))
                    for device, row in rows
                ]
            yield from found
            if len(rows) < size:
                return
            after, size = rows[-1][0].id, PAGE

    def _of_modules(self, device: str, module: str) -> Iterator[dict[str, Any]]:
        after = device, module
        while True:
            with self._database.reading() as tx:
                rows = devices.module_page(tx, after, PAGE)
                known = identities.among(tx, sorted({row.device for row in rows}))
                owners = {name: devices.one(tx, name) for name in {row.device for row in rows}}
                many = messages.waiting_counts(tx, sorted(owners), self._clock())
                found = [
                    self._document(tx, owner, row, known.get(own := (row.device, row.module)), many.get(own, 0))
                    for row in rows
                    if (owner := owners[row.device]) is not None
                ]
            yield from found
            if len(rows) < PAGE:
                return
            after = rows[-1].device, rows[-1].module

    def _that_may_match(self, wanted: Selector) -> Iterator[Twin]:
        """Twins of devices that a selector does not leave out for certain."""
        after = ""
        while True:
            with self._database.reading() as tx:
                rows = devices.page(tx, after, PAGE, chosen=wanted)
            for _, row in rows:
                yield row
            if len(rows) < PAGE:
                return
            after = rows[-1][0].id

    def _document(
        self, tx: Connection, device: Device, row: Twin, known: Identity | None, waiting: int
    ) -> dict[str, Any]:
        identity = known or Identity(row.device, row.module)
        connected = self.connected(row.device, row.module)
        found = {
            **twins.document(row),
            "status": "enabled" if device.state == ACCEPTED else "disabled",
            "statusUpdateTime": when(identity.status_at),
            "connectionState": "Connected" if connected else "Disconnected",
            "lastActivityTime": when(identity.active_at if row.module else device.seen or identity.active_at),
            "cloudToDeviceMessageCount": waiting,
            "authenticationType": identity.kind,
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
            "deviceEtag": base64.b64encode(str(identity.version).encode()).decode(),
            "configurations": {key: {"status": state} for key, state in self._states(tx, row).items()},
        }
        own = {"moduleId": row.module} if row.module else {"capabilities": {"iotEdge": identity.edge}}
        return {**found, **own} | ({"statusReason": device.reason} if device.reason else {})

    def _states(self, tx: Connection, row: Twin) -> dict[str, str]:
        """Configurations that are meant for a twin, deployments of models among them, and whether they hold."""
        found = dict(self._resolution.given(tx, row).states)
        if not row.module:
            models = row.desired.values.get("models", {})
            for rule in self._resolution.ruled(tx, row):
                if rule.selector.matches(row.device, row.tags, row.reported.values):
                    entry = models.get(twin.key_of(rule.model))
                    told = isinstance(entry, dict) and entry.get("digest") == rule.digest
                    found[rule.id] = APPLIED if told else TARGETED
        return found


def when(moment: float | None) -> str:
    """A time in IoT Hub's form; what never happened, did so at the beginning of the calendar."""
    return NEVER if moment is None else moments.text(moment)


def _named(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _written(place: _Place) -> str:
    return base64.urlsafe_b64encode(documents.encode(place)).decode()


def _read(text: str, more: str) -> _Place:
    try:
        if len(more) > MAX_TOKEN:
            raise Invalid("continuation: too long")
        place = documents.decode(base64.b64decode(more, b"-_", validate=True), _Place, what="continuation")
    except (ValueError, FarshoreError):
        raise Invalid("this is no continuation: send back x-ms-continuation as it came") from None
    if place.of != _named(text) or place.skip < 0 or (place.left is not None and place.left < 1):
        raise Invalid("this continuation is another query's: begin anew")
    return place
