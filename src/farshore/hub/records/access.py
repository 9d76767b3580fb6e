"""Enrolment tokens. Only hashes of them are here."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, delete, insert, select, update

from farshore.hub.records.tables import enrolments


class Enrolment(Struct, frozen=True):
    """A one-time token's row; ``device`` is "" when the token fixes none, ``used`` None until it was,
    ``approval`` whether an operator has yet to approve who used it, ``fleet`` whose operators may take it back.
    """

    id: str
    device: str
    tags: dict[str, Any]
    created: float
    expires: float
    used: float | None
    used_by: str
    approval: bool = False
    fleet: str = ""


def add_enrolment(tx: Connection, row: Enrolment, token: str) -> None:
    tx.execute(
        insert(enrolments).values(
            id=row.id,
            token=token,
            device=row.device,
            tags=row.tags,
            created=row.created,
            expires=row.expires,
            used=row.used,
            used_by=row.used_by,
            approval=row.approval,
            fleet=row.fleet,
        )
    )


def enrolment(tx: Connection, token: str) -> Enrolment | None:
    """The enrolment whose token has this hash."""
    row = tx.execute(select(enrolments).where(enrolments.c.token == token)).first()
    return None if row is None else _enrolment(row)


def enrolment_by_id(tx: Connection, key: str) -> Enrolment | None:
    row = tx.execute(select(enrolments).where(enrolments.c.id == key)).first()
    return None if row is None else _enrolment(row)


def all_enrolments(tx: Connection, limit: int) -> list[Enrolment]:
    rows = tx.execute(select(enrolments).order_by(enrolments.c.created.desc(), enrolments.c.id).limit(limit))
    return [_enrolment(row) for row in rows]


def use_enrolment(tx: Connection, key: str, device: str, now: float) -> None:
    tx.execute(update(enrolments).where(enrolments.c.id == key).values(used=now, used_by=device))


def remove_enrolment(tx: Connection, key: str) -> bool:
    return tx.execute(delete(enrolments).where(enrolments.c.id == key)).rowcount > 0


def forget_enrolments(tx: Connection, expired_before: float) -> None:
    tx.execute(delete(enrolments).where(enrolments.c.expires < expired_before))


def _enrolment(row: Row[Any]) -> Enrolment:
    return Enrolment(
        row.id, row.device, row.tags, row.created, row.expires, row.used, row.used_by, row.approval, row.fleet
    )
