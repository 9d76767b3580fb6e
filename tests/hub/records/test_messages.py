import pytest

from farshore.core.errors import Conflict
from farshore.hub import twins
from farshore.hub.records import devices, identities, messages, subscriptions
from farshore.hub.records.devices import Standing
from farshore.hub.records.identities import Identity
from farshore.hub.records.messages import Received, Waiting
from farshore.hub.records.subscriptions import Subscriptions


@pytest.fixture
def known(tx):
    devices.add(tx, twins.new("d", {}, 1.0), Standing(None), 1.0)
    for module in ("", "m"):
        identities.put(tx, Identity("d", module, "1", 1, "sas", "k", "k"))
    return tx


def received(message, body=b"x", module=""):
    return Received(0, 5.0, "d", module, "", message, {"a": None, "b": "c"}, body)


def waiting(body=b"x", expires=99.0, module=""):
    return Waiting(0, "d", module, "in" if module else "", 0, False, 5.0, expires, {"k": "v"}, body)


def test_what_came_in_comes_out_once(known):
    messages.receive(known, [received("1"), received(None, b"y"), received("1"), received(None, b"y")])
    messages.receive(known, [received("1"), received("1", module="m")])
    found = messages.after(known, 0, 10)
    assert [(one.message, one.module, one.body) for one in found] == [
        ("1", "", b"x"), (None, "", b"y"), (None, "", b"y"), ("1", "m", b"x"),
    ]  # fmt: skip
    assert found[0].properties == {"a": None, "b": "c"}
    assert messages.after(known, found[1].serial, 1) == [found[2]]
    assert messages.after(known, 0, 9, "d", "m") == [found[3]] and messages.after(known, 0, 9, "e") == []
    assert messages.newest(known) == found[3].serial


@pytest.mark.parametrize(
    ("count", "size", "left"), [(10, 10_000, 6), (2, 10_000, 2), (10, 35, 3), (10, 5, 0), (0, 10_000, 0)]
)
def test_the_oldest_are_forgotten_by_number_and_by_bytes(known, count, size, left):
    messages.receive(known, [received(None, bytes([number]) * 10) for number in range(6)])
    messages.prune(known, count, size)
    assert [one.body[0] for one in messages.after(known, 0, 10)] == list(range(6 - left, 6))


def test_messages_outlive_their_sender_and_those_to_it_do_not(known):
    messages.receive(known, [received("1")])
    messages.send(known, waiting())
    subscriptions.put(known, "d", "", Subscriptions({"a": 1}, 4))
    devices.remove(known, "d")
    assert len(messages.after(known, 0, 10)) == 1
    assert messages.pending(known, "d", "", 6.0) == []
    assert subscriptions.one(known, "d", "") == Subscriptions()


def test_a_queue_keeps_its_order_its_bound_and_its_numbers(known):
    sent = [messages.send(known, waiting(str(number).encode()), 3) for number in range(3)]
    with pytest.raises(Conflict):
        messages.send(known, waiting(), 3)
    assert messages.pending(known, "d", "", 6.0) == sent
    assert len({one.packet for one in sent}) == 3 and all(0 < one.packet < 1 << 16 for one in sent)
    messages.note_sent(known, [sent[0].serial])
    messages.taken(known, [sent[1].serial])
    last = messages.send(known, waiting(b"last"), 3)
    assert last.packet not in {sent[0].packet, sent[2].packet}
    assert [(one.body, one.sent) for one in messages.pending(known, "d", "", 6.0)] == [
        (b"0", True),
        (b"2", False),
        (b"last", False),
    ]
    assert [one.body for one in messages.pending(known, "d", "", 6.0, 1)] == [b"0"]


def test_numbers_begin_again_without_meeting_one_that_waits(known):
    first = messages.send(known, waiting(b"stays"))
    seen = set()
    for _ in range(0x3FFF + 20):
        one = messages.send(known, waiting())
        assert one.packet != first.packet
        seen.add(one.packet)
        messages.taken(known, [one.serial])
    assert len(seen) < 0x3FFF + 1


def test_room_is_made_by_forgetting_the_oldest(known):
    for number in range(5):
        messages.send(known, waiting(str(number).encode(), module="m"))
    assert messages.make_room(known, "d", "m", 3) == 3
    assert [one.body for one in messages.pending(known, "d", "m", 6.0)] == [b"3", b"4"]
    assert messages.make_room(known, "d", "m", 3) == 0


def test_what_waited_too_long_is_gone(known):
    messages.send(known, waiting(expires=10.0))
    assert messages.pending(known, "d", "", 10.0) == []
    messages.forget_expired(known, 10.0)
    messages.send(known, waiting(b"new"), 1)


def test_subscriptions(known):
    assert subscriptions.one(known, "d", "m") == Subscriptions()
    subscriptions.put(known, "d", "m", Subscriptions({"a/#": 1}, 2))
    subscriptions.note_told(known, "d", "m", 7)
    assert subscriptions.one(known, "d", "m") == Subscriptions({"a/#": 1}, 7)
    subscriptions.remove(known, "d", "m")
    assert subscriptions.one(known, "d", "m") == Subscriptions()
