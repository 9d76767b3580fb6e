"""Operators: who they are, and what they come with.

A person has a name and a password, chosen by a one-time setup link, and works in a session; a program has an API token, which
names its operator and can never do more than they. The first operator of a hub comes by the link that it prints at its first
start; on a machine of its own (loopback) a development token is made instead.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs
from sqlalchemy import Connection

from farshore.core.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from farshore.hub import acting, auth, moments, roles
from farshore.hub.acting import Actor
from farshore.hub.database import Database
from farshore.hub.idtokens import Person
from farshore.hub.passwords import Passwords
from farshore.hub.records import audit, changes
from farshore.hub.records import operators as records
from farshore.hub.records.operators import Operator, Session, Setup, Token
from farshore.hub.roles import Caller, Grant
from farshore.store import files

MAX_SECONDS = 366 * 24 * 3600
TOKEN_SECONDS = 90 * 24 * 3600
SETUP_SECONDS = 24 * 3600
SESSION_SECONDS = 12 * 3600
DEVELOPMENT = "development"
FIRST = "admin"
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}\Z")


class Operators:
    """Who may use the operator API.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database = database
        self._clock = clock
        self._passwords = Passwords(clock)

    # -- who asks --------------------------------------------------------------------------------------------------

    def by_token(self, secret: str) -> Caller:
        """Who comes with an API token: its operator, with what of the token's grants they still have.

        Raises:
            Unauthenticated: unknown, expired or revoked.

        """
        with self._database.reading() as tx:
            return _caller(tx, records.token(tx, auth.hashed(secret), self._clock()))

    def by_session(self, secret: str) -> Caller:
        """Who comes with a session.

        Raises:
            Unauthenticated: unknown or over.

        """
        with self._database.reading() as tx:
            found = records.session(tx, auth.hashed(secret), self._clock())
            if found is not None and found.token:
                return structs.replace(_caller(tx, records.token_by_id(tx, found.token)), via=f"session:{found.id}")
            owner = None if found is None else records.operator(tx, found.operator)
        if found is None or owner is None:
            raise Unauthenticated("this session is over: log in")
        return Caller(owner.name, owner.grants, f"session:{found.id}")

    # -- people ----------------------------------------------------------------------------------------------------

    def every(self) -> list[Operator]:
        with self._database.reading() as tx:
            return records.all_operators(tx)

    def invite(self, name: str, grants: Sequence[Grant], oidc: str | None = None) -> str:
        """A setup link's secret for a new operator, or one who forgot the password; their roles become ``grants``.

        Args:
            name: theirs.
            grants: their roles.
            oidc: subject or e-mail by which they come from the issuer, and then need no link ("" is given back); "" ends
                that, None leaves it. Another one than before ends their sessions and the link to who came.

        Raises:
            Invalid: bad name, or no role.
            Conflict: somebody else is expected by that subject or e-mail.

        """
        if not _NAME.match(name) or name == DEVELOPMENT:
            raise Invalid(f"bad name {name[:80]!r}: use a-z, 0-9 and ._@-")
        if not grants:
            raise Invalid("give at least one role")
        now, secret, wanted = self._clock(), auth.make_secret(), tuple(dict.fromkeys(grants))
        with self._database.writing() as tx:
            held = records.operator(tx, name)
            row = structs.replace(held, grants=wanted) if held else Operator(name, "", wanted, now)
            mark = None if oidc is None else oidc.lower() if "@" in oidc else oidc
            if mark is not None and mark != row.oidc:
                if mark and any(one.oidc == mark for one in records.all_operators(tx)):
                    raise Conflict(f"another operator is {mark[:80]!r} to the issuer already")
                row = structs.replace(row, oidc=mark, issuer="", subject="")
                records.end_sessions_of(tx, name)
            records.put_operator(tx, row)
            if mark:
                secret = ""
            else:
                records.add_setup(tx, Setup(auth.hashed(secret), name, wanted, now + SETUP_SECONDS))
            kind = "operator.changed" if held else "operator.added"
            changes.add(tx, kind, name, now, before=_shown(held), after=_shown(row))
        return secret

    def settle_password(self, secret: str, password: str) -> str:
        """Use a setup link up: its operator chooses a password, and all their sessions end. Their name.

        Raises:
            Denied: the link is unknown, used or too old.
            Invalid: the password is none to have.

        """
        now = self._clock()
        with self._database.reading() as tx:
            name = records.setup_of(tx, auth.hashed(secret), now)
        if name is None:
            raise Denied("this setup link was used, or is too old: ask an admin for a new one")
        kept = self._passwords.hash(name, password)
        acting.now.set(Actor(name, "setup"))
        with self._database.writing() as tx:
            link = records.use_setup(tx, auth.hashed(secret), now)
            owner = None if link is None else records.operator(tx, link.operator)
            if owner is None:
                raise Denied("this setup link was used, or is too old: ask an admin for a new one")
            records.put_operator(tx, structs.replace(owner, password=kept))
            records.end_sessions_of(tx, name)
            changes.add(tx, "operator.password", name, now)
        return name

    def remove(self, name: str) -> None:
        """Delete an operator; their tokens and sessions end at once.

        Raises:
            NotFound: there is none.
            Conflict: nobody else would be left who may make operators.

        """
        with self._database.writing() as tx:
            held = records.operator(tx, name)
            if held is None:
                raise NotFound(f"no operator {name!r}")
            others = [one for one in records.all_operators(tx) if one.name != name and (one.password or one.subject)]
            if _rules(held) and not any(_rules(one) for one in others):
                raise Conflict(f"{name} is the last admin: add another first")
            records.remove_operator(tx, name)
            changes.add(tx, "operator.removed", name, self._clock(), before=_shown(held))

    # -- sessions --------------------------------------------------------------------------------------------------

    def login(self, name: str, password: str, before: str = "") -> tuple[Caller, str]:
        """A new session, always with a secret of its own.

        Args:
            name: the operator's.
            password: theirs.
            before: secret of a session to end, whoever made it; "" for none.

        Raises:
            Unauthenticated: wrong name or password.
            Unavailable: too many wrong ones: wait.

        """
        with self._database.reading() as tx:
            owner = records.operator(tx, name[:64])
        self._passwords.check(name[:64], owner.password if owner else "", password)
        assert owner is not None
        with self._database.writing() as tx:
            return self._begin(tx, owner, before)

    def login_as(self, person: Person, before: str = "") -> tuple[Caller, str]:
        """A new session for whom an issuer stands for; the first time, they are linked to the operator that an admin expects.

        Args:
            person: as the issuer says.
            before: as for :meth:`login`.

        Raises:
            Denied: no operator is linked to them, or expects to be.

        """
        with self._database.writing() as tx:
            owner = records.operator_of(tx, person.issuer, person.subject)
            if owner is None:
                found = records.expected(tx, {person.subject, person.email} - {""})
                if len(found) != 1:
                    raise Denied(
                        "no operator here is expected by that account: ask an admin for farshore operator add --oidc"
                    )
                owner = structs.replace(found[0], issuer=person.issuer, subject=person.subject)
                records.put_operator(tx, owner)
                acting.now.set(Actor(owner.name, "oidc"))
                changes.add(tx, "operator.linked", owner.name, self._clock(), after=[person.issuer, person.subject])
            return self._begin(tx, owner, before)

    def login_by_token(self, token: str, before: str = "") -> tuple[Caller, str]:
        """A new session for whoever has an API token: it may do what the token may, and ends with it.

        Args:
            token: the secret.
            before: as for :meth:`login`.

        Raises:
            Unauthenticated: unknown, expired or revoked.

        """
        with self._database.writing() as tx:
            found = records.token(tx, auth.hashed(token), self._clock())
            return self._begin(tx, _caller(tx, found), before, found)

    def _begin(
        self, tx: Connection, owner: Operator | Caller, before: str, token: Token | None = None
    ) -> tuple[Caller, str]:
        now, secret = self._clock(), auth.make_secret()
        expires = now + SESSION_SECONDS
        if token is not None and token.expires is not None:
            expires = min(expires, token.expires)
        row = Session(auth.make_id(), auth.hashed(secret), owner.name, expires, token.id if token else "")
        if before:
            records.end_session(tx, auth.hashed(before))
        records.forget(tx, now)
        records.add_session(tx, row)
        audit.add(tx, now, owner.name, f"session:{row.id}", "session.begun", owner.name, None, None)
        return Caller(owner.name, owner.grants, f"session:{row.id}"), secret

    def logout(self, secret: str) -> None:
        """End a session."""
        with self._database.writing() as tx:
            records.end_session(tx, auth.hashed(secret))

    # -- programs --------------------------------------------------------------------------------------------------

    def create_token(
        self, caller: Caller, name: str, grants: Sequence[Grant] | None, seconds: int | None
    ) -> tuple[Token, str]:
        """A new token of the caller's, told only now.

        Args:
            caller: whose.
            name: for people.
            grants: what it may do; all that the caller may if None.
            seconds: life.

        Raises:
            Denied: the caller has not all of ``grants``.
            Invalid: too long a life.

        """
        seconds = TOKEN_SECONDS if seconds is None else seconds
        if not 0 < seconds <= MAX_SECONDS:
            raise Invalid(f"a token lives 1 to {MAX_SECONDS} seconds")
        for one in grants or ():
            caller.need(one.role, one.fleet)
        now, secret = self._clock(), auth.make_secret()
        given = caller.grants if grants is None else tuple(dict.fromkeys(grants))
        row = Token(auth.make_id(), name, caller.name, given, now, now + seconds)
        with self._database.writing() as tx:
            records.add_token(tx, row, auth.hashed(secret))
            changes.add(tx, "token.created", row.id, now, after=[str(one) for one in given])
        return row, secret

    def tokens(self, caller: Caller) -> list[Token]:
        """The caller's tokens that were not revoked; everybody's for an admin of everything."""
        everybody = caller.may("admin", roles.EVERY)
        with self._database.reading() as tx:
            return records.all_tokens(tx, None if everybody else caller.name)

    def revoke(self, caller: Caller, key: str) -> None:
        """Make a token worthless.

        Raises:
            NotFound: there is none with this id that the caller may revoke.

        """
        with self._database.writing() as tx:
            found = records.token_by_id(tx, key)
            mine = found is not None and (found.operator == caller.name or caller.may("admin", roles.EVERY))
            if not mine or not records.revoke_token(tx, key):
                raise NotFound(f"no token {key!r}")
            changes.add(tx, "token.revoked", key, self._clock())

    # -- the first -------------------------------------------------------------------------------------------------

    def settle_development(self, path: Path) -> None:
        """At the first start, put a token for whoever owns this machine into ``path``.

        The file is written before the row: a crash in between is mended here at the next start. A revoked one stays so.
        """
        with self._database.reading() as tx:
            first = not records.any_token(tx)
        if first and not path.exists():
            files.write_atomic(path, auth.make_secret().encode() + b"\n", mode=0o600)
        if path.exists():
            secret = auth.hashed(path.read_text().strip())
            with self._database.writing() as tx:
                if not records.knows_token(tx, secret):
                    row = Token(auth.make_id(), DEVELOPMENT, DEVELOPMENT, roles.ALL, self._clock(), None)
                    records.add_token(tx, row, secret)

    def end_development(self, path: Path) -> None:
        """A hub that others reach has no development token."""
        with self._database.writing() as tx:
            for one in records.all_tokens(tx, DEVELOPMENT):
                records.revoke_token(tx, one.id)
        files.remove(path)

    def first_link(self, *, anew: bool = False) -> str | None:
        """The secret of a setup link for the first admin, a new one at each start; None once somebody has a password, unless it is
        wanted ``anew``.
        """
        if not anew and any(one.password for one in self.every()):
            return None
        return self.invite(FIRST, roles.ALL)


def csrf_of(secret: str) -> str:
    """What a page must send beside the cookie of its session: whoever cannot read the page cannot know it."""
    return hashlib.sha256(f"farshore-csrf/1\n{secret}".encode()).hexdigest()


def _caller(tx: Connection, token: Token | None) -> Caller:
    """Who comes with a token: its operator, with what of its grants they still have.

    Raises:
        Unauthenticated: there is none, or no such operator any more.

    """
    owner = None if token is None else records.operator(tx, token.operator)
    if token is None or (owner is None and token.operator != DEVELOPMENT):
        raise Unauthenticated("unknown, expired or revoked token: get a new one")
    grants = token.grants if owner is None else roles.within(token.grants, owner.grants)
    return Caller(token.operator, grants, f"token:{token.id}")


def _rules(row: Operator) -> bool:
    return Caller(row.name, row.grants).may("admin", roles.EVERY)


def _shown(row: Operator | None) -> list[str] | None:
    return (
        None
        if row is None
        else [row.name, *([f"oidc {row.oidc}"] if row.oidc else []), *(str(one) for one in row.grants)]
    )
