"""The change feed, and counters that say "nothing new" in one read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, ScalarSelect, delete, func, insert, or_, select

from farshore.hub import acting
from farshore.hub.records import audit
from farshore.hub.records.tables import changes, counters, upsert

RULES = "rules"
"""Counts changes of deployments: while it stands still, compiled ones may be used again."""


BY_DEVICES = {"device.enrolled", "device.quarantined"}
"""What devices themselves bring about and operators have to find in the books."""


class Change(Struct, frozen=True):
    """One line of the feed: ``subject`` names what changed, ``kind`` says what that is, ``detail`` more in a few words."""

    serial: int
    at: float
    kind: str
    subject: str
    detail: str = ""


def add(
    tx: Connection, kind: str, subject: str, now: float, *, before: Any = None, after: Any = None, detail: str = ""
) -> None:
    """Write down that something changed: in the feed always, in the audit log when somebody in particular did it.

    Args:
        tx: the change's own transaction.
        kind: what happened.
        subject: to what.
        now: when.
        before: the subject as it was, for the audit log's digests; None if there was none.
        after: as it is.
        detail: what happened, in a few words.

    """
    tx.execute(insert(changes).values(kind=kind, subject=subject, at=now, detail=detail))
    actor = acting.now.get()
    if actor is not None:
        audit.add(tx, now, actor.name, actor.via, kind, subject, before, after)
        actor.noted = True
    elif kind in BY_DEVICES:
        audit.add(tx, now, f"device:{subject}", "", kind, subject, before, after)


def after(tx: Connection, serial: int, limit: int) -> list[Change]:
    rows = tx.execute(select(changes).where(changes.c.serial > serial).order_by(changes.c.serial).limit(limit))
    return [Change(row.serial, row.at, row.kind, row.subject, row.detail) for row in rows]


def about(tx: Connection, subject: str, kinds: Sequence[str], before: int | None, limit: int) -> list[Change]:
    """What happened to ``subject``, the newest first: lines whose kind begins with one of ``kinds``, from before a serial."""
    chosen = select(changes).where(
        changes.c.subject == subject, or_(*(changes.c.kind.startswith(one) for one in kinds))
    )
    if before is not None:
        chosen = chosen.where(changes.c.serial < before)
    rows = tx.execute(chosen.order_by(changes.c.serial.desc()).limit(limit))
    return [Change(row.serial, row.at, row.kind, row.subject, row.detail) for row in rows]


def newest(tx: Connection) -> int:
    return int(tx.execute(select(func.coalesce(func.max(changes.c.serial), 0))).scalar_one())


def prune(tx: Connection, keep: int) -> None:
    """Forget all but the newest ``keep`` lines."""
    tx.execute(delete(changes).where(changes.c.serial <= newest(tx) - keep))


def counter(name: str) -> ScalarSelect[int]:
    """A counter as part of a larger select; None while it never moved."""
    return select(counters.c.value).where(counters.c.name == name).scalar_subquery()


def count(tx: Connection, name: str) -> int:
    return int(tx.execute(select(counter(name))).scalar() or 0)


def bump(tx: Connection, name: str) -> None:
    upsert(tx, counters, {"name": name, "value": count(tx, name) + 1})
