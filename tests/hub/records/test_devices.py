import msgspec

from farshore.core import twin
from farshore.hub.records import changes, devices
from farshore.hub.records.devices import CURRENT, DESIRED, PREVIOUS

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_a_twin_comes_back_as_it_was_written(tx, add_device):
    row = add_device("d", site="oslo")
    assert devices.twin(tx, "d") == row
    assert devices.twin_by_credential(tx, "hash-of-d") == (row, devices.standing(tx, "d"))
    changed = msgspec.structs.replace(row, version=2, desired=twin.Section({"a": {"b": 1.5}}, {"$lastUpdated": "x"}, 7))
    devices.write_twin(tx, changed)
    assert devices.twin(tx, "d") == changed
    changes.bump(tx, changes.RULES)
    assert devices.twin(tx, "d").rules == 1
    assert devices.twin(tx, "absent") is None
    assert devices.twin_by_credential(tx, "absent") is None


def test_standings(tx, add_device):
    add_device("d")
    held = devices.Standing("key-of-d", credential="hash-of-d")
    assert devices.standing(tx, "d") == held and devices.standing(tx, "absent") is None
    assert devices.by_credential(tx, "hash-of-d") == ("d", held)
    assert (devices.by_key(tx, "key-of-d"), devices.by_key(tx, "absent")) == ("d", None)
    changed = devices.Standing("key-of-d", devices.REVOKED, "stolen", 7, "new", 9.0)
    devices.set_standing(tx, "d", changed)
    assert devices.standing(tx, "d") == changed
    assert (devices.by_credential(tx, "new"), devices.by_credential(tx, "hash-of-d")) == (("d", changed), None)
    assert devices.one(tx, "d") == devices.Device("d", 5.0, None, "key-of-d", devices.REVOKED, "stolen")


def test_what_a_device_holds_is_replaced_by_role(tx, add_device):
    for name in ("d", "e"):
        add_device(name)
    devices.hold(tx, "d", [CURRENT, PREVIOUS], {("m", CURRENT): TWO, ("m", PREVIOUS): ONE})
    devices.hold(tx, "d", [DESIRED], {("m", DESIRED): TWO})
    devices.hold(tx, "e", [CURRENT], {("m", CURRENT): ONE})
    assert devices.holders(tx, ONE, [CURRENT, PREVIOUS], 9) == ["d", "e"]
    assert devices.holders(tx, ONE, [CURRENT], 9) == ["e"]
    assert devices.holder_counts(tx, TWO) == {CURRENT: 1, DESIRED: 1}
    assert devices.should_have(tx, "d", TWO) and not devices.should_have(tx, "d", ONE)
    devices.hold(tx, "d", [CURRENT, PREVIOUS], {("m", CURRENT): ONE})
    assert devices.holder_counts(tx, ONE) == {CURRENT: 2}
    assert devices.should_have(tx, "d", TWO)
    assert devices.remove(tx, "d") and not devices.remove(tx, "d")
    assert devices.holder_counts(tx, TWO) == {}


def test_pages_and_last_seen(tx, add_device):
    for name in ("c", "a", "b"):
        add_device(name, label=name)
    devices.note_seen(tx, {"a": 7.0, "b": 8.0, "gone": 9.0})
    devices.note_seen(tx, {})
    first = devices.page(tx, "", 2)
    assert [(one.id, one.seen, row.tags["label"]) for one, row in first] == [("a", 7.0, "a"), ("b", 8.0, "b")]
    assert [one.id for one, _ in devices.page(tx, "b", 2)] == ["c"]
    assert devices.one(tx, "c") == devices.Device("c", 5.0, None, "key-of-c")
