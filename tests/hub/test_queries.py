"""Answers page by page, whatever the sizes of pages; counts that are remembered as long as they hold."""

import pytest

from farshore.core.errors import Invalid
from farshore.hub import queries
from farshore.hub.identities import Wanted

DEVICES = 23


@pytest.fixture
def fleet(hub):
    for number in range(DEVICES):
        name = f"d{number:02d}"
        hub.identities.put(name, "", Wanted(), None)
        hub.fleet.change_twin(name, {"tags": {"third": number % 3 == 0}}, None, replace=False)
        for module in ("a", "b")[: number % 3]:
            hub.identities.put(name, module, Wanted(), None)
    return hub.queries


def every(asked, text, limit):
    """All rows, page by page, and how many pages there were."""
    rows, more, pages = [], None, 0
    while True:
        page = asked.ask(text, limit, more)
        assert len(page.rows) <= limit
        rows, more, pages = rows + page.rows, page.more, pages + 1
        if more is None:
            return rows, pages


@pytest.mark.parametrize(("looked", "size"), [(1, 1), (2, 5), (7, 2), (100, 100)])
@pytest.mark.parametrize("limit", [1, 4, 100])
def test_pages_leave_nothing_out_and_say_nothing_twice(fleet, monkeypatch, looked, size, limit):
    monkeypatch.setattr(queries, "LOOKED", looked)
    monkeypatch.setattr(queries, "PAGE", size)
    rows, pages = every(fleet, "SELECT deviceId FROM devices WHERE tags.third = true", limit)
    assert [row["deviceId"] for row in rows] == [f"d{number:02d}" for number in range(0, DEVICES, 3)]
    assert pages >= DEVICES // max(looked, limit * 3)
    rows, _ = every(fleet, "SELECT * FROM devices.modules WHERE moduleId = 'b'", limit)
    assert [row["deviceId"] for row in rows] == [f"d{number:02d}" for number in range(2, DEVICES, 3)]
    assert len(every(fleet, "SELECT TOP 5 * FROM devices", limit)[0]) == 5
    groups, _ = every(fleet, "SELECT tags.third, COUNT() AS n FROM devices GROUP BY tags.third", limit)
    assert groups == [{"third": True, "n": 8}, {"third": False, "n": 15}]


def test_a_device_that_goes_between_two_pages_takes_no_other_with_it(fleet, hub):
    first = fleet.ask("SELECT deviceId FROM devices", 5, None)
    hub.identities.remove("d04", "", None)
    hub.identities.remove("d05", "", None)
    second = fleet.ask("SELECT deviceId FROM devices", 2, first.more)
    assert [row["deviceId"] for row in second.rows] == ["d06", "d07"]


def test_a_continuation_is_its_own_querys(fleet):
    more = fleet.ask("SELECT deviceId FROM devices", 5, None).more
    for text in ("SELECT * FROM devices", "SELECT deviceId FROM devices.modules"):
        with pytest.raises(Invalid, match="another query"):
            fleet.ask(text, 5, more)


def test_counts_hold_until_something_changes(fleet, hub, monkeypatch):
    text = "SELECT deviceId FROM devices WHERE tags.third = true"
    assert fleet.count(text) == fleet.count("SELECT COUNT() AS n FROM devices WHERE tags.third = true") == 8
    looked = []
    monkeypatch.setattr(fleet, "_document", lambda *given: looked.append(given))
    assert fleet.count(text) == 8 and not looked
    monkeypatch.undo()
    hub.fleet.change_twin("d01", {"tags": {"third": True}}, None, replace=False)
    assert fleet.count(text) == 9
    assert fleet.count("no query") == 0
    assert fleet.targeted("tags.third = true") == 9 and fleet.targeted("FROM devices.modules WHERE moduleId = 'b'") == 7


def test_who_is_connected_is_asked_of_the_door(fleet):
    fleet.connected = lambda device, module: (device, module) in {("d01", ""), ("d02", "b")}
    where = "connectionState = 'Connected'"
    assert fleet.count(f"SELECT deviceId FROM devices WHERE {where}") == 1
    assert fleet.count(f"SELECT deviceId FROM devices.modules WHERE {where}") == 1
    fleet.connected = lambda device, module: not module
    assert fleet.count(f"SELECT deviceId FROM devices WHERE {where}") == DEVICES
