import hashlib

import pytest
from msgspec import structs

from farshore.core import documents
from farshore.hub import acting
from farshore.hub.acting import Actor
from farshore.hub.records import audit, changes


@pytest.fixture
def actor():
    held = acting.now.set(Actor("kari", "token:1"))
    yield
    acting.now.reset(held)


def test_what_somebody_changes_is_written_down(tx, actor):
    changes.add(tx, "twin.desired", "d", 5.0, before={"a": 1}, after={"a": 2})
    [line] = audit.newest(tx, 10)
    assert (line.serial, line.at, line.who, line.via) == (1, 5.0, "kari", "token:1")
    assert (line.action, line.subject) == ("twin.desired", "d")
    assert line.before == "sha256:" + hashlib.sha256(documents.canonical({"a": 1})).hexdigest() != line.after


def test_what_nobody_in_particular_does_is_not_but_what_devices_do_to_themselves_is(tx):
    changes.add(tx, "twin.reported", "d", 5.0)
    changes.add(tx, "device.quarantined", "d", 6.0)
    assert [(line.who, line.action) for line in audit.newest(tx, 10)] == [("device:d", "device.quarantined")]
    assert len(changes.after(tx, 0, 10)) == 2


def test_lines_in_order_and_in_pages(tx, actor):
    for number in range(5):
        changes.add(tx, "k", str(number), float(number))
    assert [line.subject for line in audit.newest(tx, 2)] == ["3", "4"]
    assert [line.subject for line in audit.after(tx, 1, 2)] == ["1", "2"]


def test_a_line_changed_left_out_or_put_in_shows(tx, actor):
    for number in range(4):
        changes.add(tx, "k", str(number), float(number), after=number)
    lines = audit.after(tx, 0, 10)

    def whole(lines):
        last = ""
        for line in lines:
            if audit.link(last, line) != line.chain:
                return False
            last = line.chain
        return True

    assert whole(lines)
    assert not whole(lines[:1] + lines[2:])
    for name in ("at", "who", "via", "action", "subject", "before", "after"):
        changed = structs.replace(lines[1], **{name: 9.0 if name == "at" else "x"})
        assert not whole([lines[0], changed, *lines[2:]]), name
