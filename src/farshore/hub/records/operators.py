"""Operators, and what they come with: passwords, setup links, sessions, API tokens. Only hashes of secrets are here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from farshore.hub.records.tables import operators, sessions, setups, tokens, uploads, upsert
from farshore.hub.roles import Grant


class Operator(Struct, frozen=True):
    """An operator's row; ``password`` is Argon2's own text, "" until one was chosen; ``oidc`` the subject or e-mail by which they may
    come from an issuer, and ``issuer`` and ``subject`` who they turned out to be there, "" until they came.
    """

    name: str
    password: str
    grants: tuple[Grant, ...]
    created: float
    oidc: str = ""
    issuer: str = ""
    subject: str = ""


class Token(Struct, frozen=True):
    """An API token's row; ``expires`` None for never."""

    id: str
    name: str
    operator: str
    grants: tuple[Grant, ...]
    created: float
    expires: float | None


class Session(Struct, frozen=True):
    """A session's row; ``secret`` is a hash, ``token`` the id of the API token that it was begun with, "" for none."""

    id: str
    secret: str
    operator: str
    expires: float
    token: str = ""


class Setup(Struct, frozen=True):
    """A one-time link by which an operator chooses a password; ``secret`` is a hash."""

    secret: str
    operator: str
    grants: tuple[Grant, ...]
    expires: float


def put_operator(tx: Connection, row: Operator) -> None:
    upsert(tx, operators, {**msgspec.structs.asdict(row), "grants": _plain(row.grants)})


def operator(tx: Connection, name: str) -> Operator | None:
    row = tx.execute(select(operators).where(operators.c.name == name)).first()
    return None if row is None else _operator(row)


def operator_of(tx: Connection, issuer: str, subject: str) -> Operator | None:
    """The operator who was linked to this subject of this issuer."""
    chosen = select(operators).where(operators.c.issuer == issuer, operators.c.subject == subject)
    row = tx.execute(chosen).first()
    return None if row is None else _operator(row)


def expected(tx: Connection, names: Collection[str]) -> list[Operator]:
    """Operators that an admin expects under one of these names of an issuer, and who have not come yet."""
    chosen = select(operators).where(operators.c.oidc.in_(names), operators.c.oidc != "", operators.c.subject == "")
    return [_operator(row) for row in tx.execute(chosen)]


def all_operators(tx: Connection) -> list[Operator]:
    return [_operator(row) for row in tx.execute(select(operators).order_by(operators.c.name))]


def remove_operator(tx: Connection, name: str) -> bool:
    """Delete an operator, with all that they may come with."""
    for table in (tokens, sessions, setups, uploads):
        tx.execute(delete(table).where(table.c.operator == name))
    return tx.execute(delete(operators).where(operators.c.name == name)).rowcount > 0


def add_setup(tx: Connection, row: Setup) -> None:
    """Give an operator a setup link; earlier ones end."""
    tx.execute(delete(setups).where(setups.c.operator == row.operator))
    tx.execute(
        insert(setups).values(secret=row.secret, operator=row.operator, grants=_plain(row.grants), expires=row.expires)
    )


def setup_of(tx: Connection, secret: str, now: float) -> str | None:
    """Whose link has this hash; it stays good."""
    chosen = select(setups.c.operator).where(setups.c.secret == secret, setups.c.expires > now)
    return tx.execute(chosen).scalar()


def use_setup(tx: Connection, secret: str, now: float) -> Setup | None:
    """The link with this hash; it is used up by that."""
    row = tx.execute(select(setups).where(setups.c.secret == secret, setups.c.expires > now)).first()
    tx.execute(delete(setups).where(setups.c.secret == secret))
    return None if row is None else Setup(row.secret, row.operator, _grants(row.grants), row.expires)


def add_session(tx: Connection, row: Session) -> None:
    tx.execute(insert(sessions).values(**msgspec.structs.asdict(row)))


def session(tx: Connection, secret: str, now: float) -> Session | None:
    row = tx.execute(select(sessions).where(sessions.c.secret == secret, sessions.c.expires > now)).first()
    return None if row is None else Session(row.id, row.secret, row.operator, row.expires, row.token)


def end_session(tx: Connection, secret: str) -> None:
    tx.execute(delete(sessions).where(sessions.c.secret == secret))


def end_sessions_of(tx: Connection, operator: str) -> None:
    tx.execute(delete(sessions).where(sessions.c.operator == operator))


def forget(tx: Connection, now: float) -> None:
    """Drop sessions and setup links that have expired."""
    for table in (sessions, setups):
        tx.execute(delete(table).where(table.c.expires <= now))


def add_token(tx: Connection, row: Token, token: str) -> None:
    values = {**msgspec.structs.asdict(row), "grants": _plain(row.grants)}
    tx.execute(insert(tokens).values(token=token, revoked=False, **values))


def token(tx: Connection, token: str, now: float) -> Token | None:
    """The valid token with this hash."""
    row = tx.execute(
        select(tokens).where(
            tokens.c.token == token, ~tokens.c.revoked, or_(tokens.c.expires.is_(None), tokens.c.expires > now)
        )
    ).first()
    return None if row is None else _token(row)


def token_by_id(tx: Connection, key: str) -> Token | None:
    row = tx.execute(select(tokens).where(tokens.c.id == key, ~tokens.c.revoked)).first()
    return None if row is None else _token(row)


def knows_token(tx: Connection, token: str) -> bool:
    """Whether there ever was a token with this hash, revoked and expired ones included."""
    return tx.execute(select(tokens.c.id).where(tokens.c.token == token)).first() is not None


def any_token(tx: Connection) -> bool:
    return tx.execute(select(tokens.c.id).limit(1)).first() is not None


def all_tokens(tx: Connection, operator: str | None) -> list[Token]:
    """Tokens that were not revoked: an operator's, or everybody's."""
    chosen = select(tokens).where(~tokens.c.revoked).order_by(tokens.c.created, tokens.c.name)
    if operator is not None:
        chosen = chosen.where(tokens.c.operator == operator)
    return [_token(row) for row in tx.execute(chosen)]


def revoke_token(tx: Connection, key: str) -> bool:
    changed = tx.execute(update(tokens).where(tokens.c.id == key, ~tokens.c.revoked).values(revoked=True))
    return changed.rowcount > 0


def note_upload(tx: Connection, operator: str, digest: str) -> None:
    """Remember that an operator held these bytes."""
    if not uploaded(tx, operator, digest):
        tx.execute(insert(uploads).values(operator=operator, digest=digest))


def uploaded(tx: Connection, operator: str, digest: str) -> bool:
    chosen = select(uploads.c.digest).where(uploads.c.operator == operator, uploads.c.digest == digest)
    return tx.execute(chosen).first() is not None


def _plain(grants: tuple[Grant, ...]) -> list[dict[str, str]]:
    return [msgspec.structs.asdict(one) for one in grants]


def _grants(value: Any) -> tuple[Grant, ...]:
    return msgspec.convert(value, tuple[Grant, ...])


def _operator(row: Row[Any]) -> Operator:
    return Operator(row.name, row.password, _grants(row.grants), row.created, row.oidc, row.issuer, row.subject)


def _token(row: Row[Any]) -> Token:
    return Token(row.id, row.name, row.operator, _grants(row.grants), row.created, row.expires)
