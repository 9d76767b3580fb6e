"""The database: how it is opened, migrated and asked. What is asked stands in ``records``.

SQLite runs with WAL, ``synchronous=FULL`` (an answered request survives a power cut), foreign keys, and writers that take
the write lock at their first statement. One writer at a time also waits here, in a fair queue, rather than in SQLite's
sleeping retries.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from farshore.core.errors import Conflict, Invalid, Unavailable

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_MS = 10_000
_WRITES = "farshore_writes"


class Database:
    """An engine with two doors: :meth:`reading` and :meth:`writing`.

    Args:
        url: SQLAlchemy URL, ``sqlite:///…`` or ``postgresql+…``.

    Attributes:
        at_hand: it is a file in reach, not a server: a small read takes no longer than asking a thread for it.

    Raises:
        Invalid: no such kind of database.

    """

    def __init__(self, url: str) -> None:
        try:
            self.engine = _engine(url)
        except (ArgumentError, ImportError) as error:
            raise Invalid(f"database {url.rpartition('@')[2]!r}: {error}") from error
        self._queue = threading.Lock()
        self.at_hand = self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database.

        Raises:
            Unavailable: the database does not answer.

        """
        with _translated(), self.engine.connect() as tx, tx.begin():
            yield tx

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; durable when the block is left without an exception, undone otherwise.

        Raises:
            Unavailable: the database does not answer, or the disk is full.
            Conflict: a constraint forbids what the block wrote.

        """
        with _translated(), self._queue, self.engine.connect() as plain:
            tx = plain.execution_options(**{_WRITES: True})
            with tx.begin():
                yield tx

    def migrate(self) -> None:
        """Bring the schema to what this program knows.

        Raises:
            Conflict: the database was made by a newer program.
            Unavailable: as :meth:`writing`.

        """
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.writing() as tx:
            config.attributes["connection"] = tx
            try:
                alembic.command.upgrade(config, "head")
            except alembic.util.CommandError as error:
                raise Conflict(f"database: made by a newer program? {error}") from error

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite:"):
        return sqlalchemy.create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ")
    engine = sqlalchemy.create_engine(url, pool_size=16, max_overflow=32, connect_args={"timeout": BUSY_MS / 1000})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves: the driver would do so only before a write
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"database: {error.orig}") from error
    except (DBAPIError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        raise Unavailable(f"database: {cause}") from error
