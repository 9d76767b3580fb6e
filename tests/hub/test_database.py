import threading

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text

from farshore.core.errors import Conflict, Invalid, Unavailable
from farshore.hub.database import MIGRATIONS, Database
from farshore.hub.records import devices
from farshore.hub.records.tables import counters, files, metadata


@pytest.fixture
def database(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'hub.sqlite3'}")
    opened.migrate()
    yield opened
    opened.close()


def test_migrations_lead_to_the_tables_of_the_program(database):
    with database.reading() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    database.migrate()  # again is fine


def test_what_was_there_survives_migrations_both_ways(database):
    def at(tx, revision, way):
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = tx
        way(config, revision)

    with database.writing() as tx:
        at(tx, "0002", alembic.command.downgrade)
        tx.execute(text("INSERT INTO devices (id, credential, created) VALUES ('d', 'hash', 5)"))
        tx.execute(text("INSERT INTO twins VALUES ('d', 1, '{}', '{}', '{}', '{}', 1, '{}', '{}', 1)"))
        tx.execute(text("INSERT INTO holdings VALUES ('d', 'm', 'current', 'sha256:0')"))
        for revision, way in (("head", alembic.command.upgrade), ("0002", alembic.command.downgrade)):
            at(tx, revision, way)
            found = tx.execute(text("SELECT credential, created FROM devices JOIN twins ON device = id")).all()
            assert found == [("hash", 5.0)]
            assert tx.execute(text("SELECT count(*) FROM holdings")).scalar() == 1
        at(tx, "head", alembic.command.upgrade)
        assert devices.standing(tx, "d") == devices.Standing(None, credential="hash")  # it has to enrol anew


def test_sqlite_is_durable_and_checks_references(database):
    with database.reading() as tx:
        asked = {
            name: tx.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert asked == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with pytest.raises(Conflict), database.writing() as tx:
        tx.execute(insert(files).values(version_id=1, path="x", role="model", digest="none", size=1))


def test_a_failed_block_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.writing() as tx:
        1 / tx.execute(insert(counters).values(name="x", value=1)).rowcount.__sub__(1)
    with database.reading() as tx:
        assert tx.execute(select(counters)).all() == []


def test_writers_take_turns_and_lose_nothing(database):
    with database.writing() as tx:
        tx.execute(insert(counters).values(name="x", value=0))

    def add():
        for _ in range(25):
            with database.writing() as tx:
                value = tx.execute(select(counters.c.value)).scalar()
                tx.execute(counters.update().values(value=value + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        assert tx.execute(select(counters.c.value)).scalar() == 100


def test_a_reader_sees_one_state(database):
    with database.writing() as tx:
        tx.execute(insert(counters).values(name="x", value=0))
    with database.reading() as tx:
        before = tx.execute(select(counters.c.value)).scalar()
        with database.writing() as other:
            other.execute(counters.update().values(value=7))
        assert tx.execute(select(counters.c.value)).scalar() == before == 0


def test_a_newer_database_is_refused(database):
    with database.writing() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="newer"):
        database.migrate()


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(Invalid):
        Database("nonsense")
    (tmp_path / "not.sqlite3").write_bytes(b"no database at all" * 100)
    broken = Database(f"sqlite:///{tmp_path / 'not.sqlite3'}")
    with pytest.raises(Unavailable):
        broken.migrate()
    broken.close()
