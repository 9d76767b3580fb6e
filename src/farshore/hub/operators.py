"""Operators: API tokens, hashed at rest."""

from __future__ import annotations

from pathlib import Path

from farshore.core.errors import Invalid, NotFound, Unauthenticated
from farshore.hub import auth, moments
from farshore.hub.database import Database
from farshore.hub.records import access
from farshore.hub.records.access import Token
from farshore.store import files

MAX_SECONDS = 10 * 366 * 24 * 3600


class Operators:
    """Who may use the operator API.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database = database
        self._clock = clock

    def authenticate(self, token: str) -> Token:
        """The token's row.

        Raises:
            Unauthenticated: unknown, expired or revoked.

        """
        with self._database.reading() as tx:
            found = access.token(tx, auth.hashed(token), self._clock())
        if found is None:
            raise Unauthenticated("unknown, expired or revoked token: get a new one")
        return found

    def create(self, name: str, seconds: int | None) -> tuple[Token, str]:
        """A new token, told only now.

        Args:
            name: for people.
            seconds: life; None for ever.

        Raises:
            Invalid: too long a life.

        """
        if seconds is not None and not 0 < seconds <= MAX_SECONDS:
            raise Invalid(f"a token lives 1 to {MAX_SECONDS} seconds, or for ever")
        now, secret = self._clock(), auth.make_secret()
        row = Token(auth.make_id(), name, now, None if seconds is None else now + seconds)
        with self._database.writing() as tx:
            access.add_token(tx, row, auth.hashed(secret))
        return row, secret

    def every(self) -> list[Token]:
        """All that were not revoked."""
        with self._database.reading() as tx:
            return access.all_tokens(tx)

    def revoke(self, key: str) -> None:
        """Make a token worthless.

        Raises:
            NotFound: there is none with this id.

        """
        with self._database.writing() as tx:
            if not access.revoke_token(tx, key):
                raise NotFound(f"no token {key!r}")

    def settle_admin(self, path: Path) -> None:
        """At the first start, put a token for the operator of this machine into ``path``.

        The file is written before the row: a crash in between is mended here at the next start. A revoked one stays so.
        """
        with self._database.reading() as tx:
            first = not access.any_token(tx)
        if first and not path.exists():
            files.write_atomic(path, auth.make_secret().encode() + b"\n", mode=0o600)
        if path.exists():
            secret = auth.hashed(path.read_text().strip())
            with self._database.writing() as tx:
                if not access.knows_token(tx, secret):
                    access.add_token(tx, Token(auth.make_id(), "admin", self._clock(), None), secret)
