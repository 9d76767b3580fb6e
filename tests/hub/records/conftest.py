import pytest

from farshore.core import twin
from farshore.hub.database import Database
from farshore.hub.records import devices

NOW = "2026-01-02T03:04:05.0000000Z"


@pytest.fixture
def tx(tmp_path):
    """An open transaction in a fresh database."""
    database = Database(f"sqlite:///{tmp_path / 'hub.sqlite3'}")
    database.migrate()
    with database.writing() as opened:
        yield opened
    database.close()


@pytest.fixture
def add_device(tx):
    def add(name, **tags):
        row = devices.Twin(name, 1, tags, {}, twin.empty(NOW, versioned=True), twin.empty(NOW), 0)
        devices.add(tx, row, devices.Standing(f"key-of-{name}", credential=f"hash-of-{name}"), 5.0)
        return row

    return add
