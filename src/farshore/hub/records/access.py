"""Who may speak: enrolment tokens and operators' API tokens. Only hashes of secrets are here."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from farshore.hub.records.tables import enrolments, tokens


class Enrolment(Struct, frozen=True):
    """A one-time token's row; ``device`` is "" when the token fixes none, ``used`` None until it was."""

    id: str
    device: str
    tags: dict[str, Any]
    created: float
    expires: float
    used: float | None
    used_by: str


class Token(Struct, frozen=True):
    """An operator's API token's row; ``expires`` None for never."""

    id: str
    name: str
    created: float
    expires: float | None


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
        )
    )


def enrolment(tx: Connection, token: str) -> Enrolment | None:
    """The enrolment whose token has this hash."""
    row = tx.execute(select(enrolments).where(enrolments.c.token == token)).first()
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


def add_token(tx: Connection, row: Token, token: str) -> None:
    tx.execute(
        insert(tokens).values(
            id=row.id, name=row.name, token=token, created=row.created, expires=row.expires, revoked=False
        )
    )


def token(tx: Connection, token: str, now: float) -> Token | None:
    """The valid token with this hash."""
    row = tx.execute(
        select(tokens).where(
            tokens.c.token == token, ~tokens.c.revoked, or_(tokens.c.expires.is_(None), tokens.c.expires > now)
        )
    ).first()
    return None if row is None else _token(row)


def knows_token(tx: Connection, token: str) -> bool:
    """Whether there ever was a token with this hash, revoked and expired ones included."""
    return tx.execute(select(tokens.c.id).where(tokens.c.token == token)).first() is not None


def any_token(tx: Connection) -> bool:
    return tx.execute(select(tokens.c.id).limit(1)).first() is not None


def all_tokens(tx: Connection) -> list[Token]:
    rows = tx.execute(select(tokens).where(~tokens.c.revoked).order_by(tokens.c.created, tokens.c.name))
    return [_token(row) for row in rows]


def revoke_token(tx: Connection, key: str) -> bool:
    changed = tx.execute(update(tokens).where(tokens.c.id == key, ~tokens.c.revoked).values(revoked=True))
    return changed.rowcount > 0


def _enrolment(row: Row[Any]) -> Enrolment:
    return Enrolment(row.id, row.device, row.tags, row.created, row.expires, row.used, row.used_by)


def _token(row: Row[Any]) -> Token:
    return Token(row.id, row.name, row.created, row.expires)
