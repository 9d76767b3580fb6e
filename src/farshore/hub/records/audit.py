"""The audit log: every change that somebody made, in order; nothing here is ever changed or forgotten.

Each line holds the hash of the one before, so that a line changed, left out or put in between shows.
"""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, func, insert, or_, select

from farshore.core import documents
from farshore.hub.records.tables import audit


class Line(Struct, frozen=True):
    """One line.

    Attributes:
        serial: its place.
        at: when.
        who: the operator; ``device:<id>`` or ``hub`` where none acted.
        via: the token or session they came with.
        action: what was done.
        subject: to what.
        before, after: digests of the subject as canonical JSON; "" where there was, or is, none.
        chain: hash of this line and all before it.

    """

    serial: int
    at: float
    who: str
    via: str
    action: str
    subject: str
    before: str
    after: str
    chain: str


def add(tx: Connection, at: float, who: str, via: str, action: str, subject: str, before: Any, after: Any) -> None:
    """Write a line, in the transaction of the change itself; ``before`` and ``after`` are values, None for nothing."""
    last = tx.execute(select(audit.c.serial, audit.c.chain).order_by(audit.c.serial.desc()).limit(1)).first()
    line = Line(
        1 if last is None else last.serial + 1, at, who, via, action, subject, _digest(before), _digest(after), ""
    )
    chained = structs.replace(line, chain=link("" if last is None else last.chain, line))
    tx.execute(insert(audit).values(**structs.asdict(chained)))


def link(before: str, line: Line) -> str:
    """What ``chain`` must be in a line that follows one with ``before``."""
    said = documents.canonical([before, line.serial, line.at, *structs.astuple(line)[2:8]])
    return hashlib.sha256(said).hexdigest()


def after(tx: Connection, serial: int, limit: int) -> list[Line]:
    """Lines behind ``serial``, oldest first."""
    rows = tx.execute(select(audit).where(audit.c.serial > serial).order_by(audit.c.serial).limit(limit))
    return [Line(*row) for row in rows]


def newest(tx: Connection, limit: int, *, before: int | None = None, search: str = "") -> list[Line]:
    """The last lines, oldest first.

    Args:
        tx: open for reading.
        limit: most lines.
        before: serial that they stand before; None for the end.
        search: part of who, what was done, or to what, whatever its case; "" for all.

    """
    chosen = select(audit) if before is None else select(audit).where(audit.c.serial < before)
    if search:
        columns = (audit.c.who, audit.c.via, audit.c.action, audit.c.subject)
        found = [func.lower(column).contains(search.lower(), autoescape=True) for column in columns]
        chosen = chosen.where(or_(*found))
    rows = tx.execute(chosen.order_by(audit.c.serial.desc()).limit(limit)).all()
    return [Line(*row) for row in reversed(rows)]


def _digest(value: Any) -> str:
    return "" if value is None else "sha256:" + hashlib.sha256(documents.canonical(value)).hexdigest()
