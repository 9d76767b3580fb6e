"""The SQL is one for both engines: everything compiles for PostgreSQL too."""

from unittest.mock import Mock

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from farshore.hub.records import changes, deployments, devices, models, tables


def compiled(statement):
    return str(statement.compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
def test_tables_for_postgresql(table):
    shown = compiled(CreateTable(table))
    if "serial" in table.c or "id" in table.c:
        assert "INTEGER PRIMARY KEY" not in shown
    for index in table.indexes:
        assert compiled(CreateIndex(index))


@pytest.mark.parametrize("statement", [devices._TWIN, models._VERSION, deployments._ALL, changes.counter("x").element])
def test_selects_for_postgresql(statement):
    assert compiled(statement).startswith("SELECT")


def test_upserts_for_postgresql():
    tx = Mock()
    tx.dialect.name = "postgresql"
    tables.upsert(tx, tables.counters, {"name": "x", "value": 1})
    [[statement], _] = tx.execute.call_args
    assert "ON CONFLICT (name) DO UPDATE SET value = excluded.value" in compiled(statement)


def test_json_is_canonical_text():
    column = tables.Json()
    assert column.process_bind_param({"b": 1, "a": [None]}, None) == '{"a":[null],"b":1}'
    assert column.process_result_value('{"a":[null]}', None) == {"a": [None]}
    assert column.process_bind_param(None, None) is None is column.process_result_value(None, None)
