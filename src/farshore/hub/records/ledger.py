"""Links and their prices, and what was moved over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, literal_column, select, update

from farshore.hub.records.tables import ledger, links, upsert

KEYS = ("day", "device", "model", "version", "rollout", "link")
SUMS = ("month", *KEYS)
"""What sums can be made by: the columns, and the month that a day lies in, ``2026-11``."""


class Link(Struct, frozen=True):
    """A link.

    Attributes:
        name: as devices name it in their tag ``link``.
        price: of 1 000 000 bytes.
        currency: of the price.
        rate: bytes a second that devices may use; 0 if not known.
        windows: times of day in which devices may move bytes; none for always.
        day, month: bytes that a device may move in a day and in a month; 0 for any.

    """

    name: str
    price: float = 0.0
    currency: str = ""
    rate: int = 0
    windows: tuple[str, ...] = ()
    day: int = 0
    month: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What it asks of devices, in the words of their desired section."""
        asked: dict[str, Any] = {"rate": self.rate, "windows": list(self.windows), "day": self.day, "month": self.month}
        asked = {name: value for name, value in asked.items() if value}
        return {"link": self.name, **asked} if asked else {}


class Brought(Struct, frozen=True):
    """What ``devices`` fetched of a version, in sum."""

    model: str
    version: int
    devices: int
    bytes: int


class Moved(Struct, frozen=True):
    """What was moved: sums over all that the members that are None stand for."""

    bytes: int
    money: float
    currency: str
    month: str | None = None
    day: str | None = None
    device: str | None = None
    model: str | None = None
    version: int | None = None
    rollout: str | None = None
    link: str | None = None


def every_link(tx: Connection) -> list[Link]:
    return [_link(row) for row in tx.execute(select(links).order_by(links.c.name))]


def link(tx: Connection, name: str) -> Link:
    """The link of this name; one without price if there is none."""
    row = tx.execute(select(links).where(links.c.name == name)).first()
    return Link(name) if row is None else _link(row)


def put_link(tx: Connection, row: Link) -> None:
    values = msgspec.structs.asdict(row)
    upsert(tx, links, values | {name: values[name] or None for name in ("windows", "day", "month")})


def remove_link(tx: Connection, name: str) -> bool:
    return tx.execute(delete(links).where(links.c.name == name)).rowcount > 0


def add(tx: Connection, key: Mapping[str, Any], count: int, money: float, currency: str) -> None:
    """Enter ``count`` bytes under ``key``, which has all of :data:`KEYS`."""
    same = [ledger.c[name] == key[name] for name in KEYS]
    unpriced = ledger.c.currency == ""  # the link had no price when the day began
    changed = {
        "bytes": ledger.c.bytes + count,
        "money": ledger.c.money + money,
        "currency": case((unpriced, currency), else_=ledger.c.currency),
    }
    if not tx.execute(update(ledger).where(*same).values(**changed)).rowcount:
        upsert(tx, ledger, {**key, "bytes": count, "money": money, "currency": currency})


def moved(tx: Connection, device: str, rollout: str) -> tuple[int, float]:
    """Bytes and money that a device moved for a rollout."""
    chosen = select(func.coalesce(func.sum(ledger.c.bytes), 0), func.coalesce(func.sum(ledger.c.money), 0.0))
    row = tx.execute(chosen.where(ledger.c.rollout == rollout, ledger.c.device == device)).one()
    return int(row[0]), float(row[1])


def used(tx: Connection, month: str) -> dict[tuple[str, str], int]:
    """Bytes that were moved in a month, ``2026-11``, by device and link; of links alone that have a cap."""
    total = func.sum(ledger.c.bytes).label("total")
    chosen = select(ledger.c.device, ledger.c.link, total).join(links, links.c.name == ledger.c.link)
    chosen = chosen.where(links.c.month.is_not(None), ledger.c.day >= f"{month}-01", ledger.c.day <= f"{month}-31")
    return {
        (row.device, row.link): int(row.total) for row in tx.execute(chosen.group_by(ledger.c.device, ledger.c.link))
    }


def sums(
    tx: Connection, by: Sequence[str], where: Mapping[str, str], since: str, until: str, limit: int
) -> list[Moved]:
    """What was moved, in sums by some of :data:`SUMS`; the largest first, or by day where that is asked.

    Args:
        tx: open for reading.
        by: names of :data:`SUMS`.
        where: values that some of them must have.
        since: first day, ``2026-11-22``; "" for all.
        until: last day; "" for all.
        limit: most sums to return.

    """
    columns = [_column(name) for name in by]
    total = func.sum(ledger.c.bytes)
    chosen = select(*columns, ledger.c.currency, total.label("bytes"), func.sum(ledger.c.money).label("money"))
    chosen = chosen.where(*(_column(name) == value for name, value in where.items()))
    if since:
        chosen = chosen.where(ledger.c.day >= since)
    if until:
        chosen = chosen.where(ledger.c.day <= until)
    order = [_column(name) for name in ("month", "day") if name in by]
    rows = tx.execute(chosen.group_by(*columns, ledger.c.currency).order_by(*order, total.desc()).limit(limit))
    return [Moved(**row) for row in rows.mappings()]


def brought(tx: Connection, since: str, until: str, limit: int) -> list[Brought]:
    """What was moved of each version, and to how many devices, the most bytes first; days as in :func:`sums`."""
    total = func.sum(ledger.c.bytes).label("bytes")
    chosen = select(ledger.c.model, ledger.c.version, func.count(ledger.c.device.distinct()).label("devices"), total)
    if since:
        chosen = chosen.where(ledger.c.day >= since)
    if until:
        chosen = chosen.where(ledger.c.day <= until)
    rows = tx.execute(chosen.group_by(ledger.c.model, ledger.c.version).order_by(total.desc()).limit(limit))
    return [Brought(**row) for row in rows.mappings()]


def _column(name: str) -> ColumnElement[Any]:
    if name != "month":
        return ledger.c[name]
    # Written out: PostgreSQL takes an expression in GROUP BY for the selected one only if no parameter stands in either.
    return func.substr(ledger.c.day, literal_column("1"), literal_column("7")).label("month")


def _link(row: Row[Any]) -> Link:
    return Link(row.name, row.price, row.currency, row.rate, tuple(row.windows or ()), row.day or 0, row.month or 0)
