import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mqtt.test_packets import EVERY, SAMPLES

from farshore.mqtt import packets, session
from farshore.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Reader,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from farshore.mqtt.session import Ended, Session, matches

HELLO = Connect("d", "hub/d/?api-version=1", b"token", 60)


class Client:
    """The other end of a session's wire, in memory."""

    def __init__(self, hello=HELLO, filters=(), expires=float("inf")):
        self.session, self.reader = Session(0.0), Reader()
        if hello is not None:
            assert self.say(hello) == [hello]
            self.session.accept(dict(filters), 0.0, expires)
            assert self.heard() == [Connack(0, present=bool(filters))]

    def say(self, *sent, now=0.0):
        self.session.feed(b"".join(packets.write(one) for one in sent), now)
        return self.events()

    def events(self):
        return list(iter(self.session.next, None))

    def heard(self):
        self.reader.feed(self.session.take())
        return list(iter(self.reader.next, None))


def test_nothing_is_read_before_the_connect_is_answered():
    client = Client(None)
    ask = Subscribe(1, (("a", 1),))
    assert client.say(HELLO, ask) == [HELLO]
    client.session.accept({}, 0.0)
    assert client.events() == [ask]
    client.session.granted(ask, [1])
    assert client.heard() == [Connack(0), Suback(1, (1,))]


@pytest.mark.parametrize("code", [3, 4, 5])
def test_a_refusal_is_sent_and_is_the_end(code):
    client = Client(None)
    client.say(HELLO, Pingreq())
    client.session.refuse(code, "because")
    assert client.events() == [Ended("because")]
    assert client.heard() == [Connack(code)]
    assert client.events() == []


def test_another_version_of_mqtt_gets_code_1():
    client = Client(None)
    client.session.feed(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a", 0.0)
    assert [type(one) for one in client.events()] == [Ended]
    assert client.heard() == [Connack(1)]


def test_a_publish_is_acknowledged_when_its_taker_says_so():
    client, sent = Client(), Publish("t", b"1", 1, 9)
    assert client.say(sent) == [sent]
    assert client.heard() == []
    client.session.taken(sent)
    assert client.heard() == [Puback(9)]
    client.session.taken(Publish("t", b"0"))
    assert client.heard() == []


def test_subscriptions_hold_from_their_answer_until_they_are_let_go():
    client = Client(filters={"old/#": 0})
    ask = Subscribe(1, (("a/#", 2), ("b", 1)))
    client.say(ask)
    client.session.granted(ask, [1, packets.REFUSED])
    assert client.session.filters == {"old/#": 0, "a/#": 1}
    assert (client.session.granted_for("a/x"), client.session.granted_for("b")) == (1, None)
    leave = Unsubscribe(2, ("a/#", "never"))
    assert client.say(leave) == [leave]
    client.session.released(leave)
    assert client.heard() == [Suback(1, (1, 0x80)), Unsuback(2)]
    assert client.session.filters == {"old/#": 0}


def test_messages_to_the_client_are_counted_until_acknowledged():
    client = Client()
    client.session.send("t", b"x", 5, dup=True)
    client.session.send("t", b"y")
    assert client.heard() == [Publish("t", b"x", 1, 5, dup=True), Publish("t", b"y")]
    assert client.session.room == session.WINDOW - 1
    assert client.say(Puback(5), Puback(6), Puback(5)) == [Puback(5)]
    assert client.session.room == session.WINDOW


def test_ping():
    client = Client()
    assert client.say(Pingreq()) == []
    assert client.heard() == [Pingresp()]


@pytest.mark.parametrize(
    ("keepalive", "patience"), [(60, 90.0), (0, session.MAX_KEEPALIVE), (65535, session.MAX_KEEPALIVE)]
)
def test_silence_ends_it_and_publishes_the_will(keepalive, patience):
    will = Will("devices/d/messages/events/", b"gone")
    client = Client(Connect("d", "u", b"p", keepalive, will=will))
    client.say(Pingreq(), now=10.0)
    assert client.session.due == 10.0 + patience
    client.session.check(10.0 + patience - 0.1)
    assert client.events() == []
    client.session.check(10.0 + patience)
    ended = client.events()[0]
    assert "keep-alive" in ended.reason and ended.will == will


def test_who_says_good_bye_leaves_no_will_and_who_hangs_up_does():
    hello = Connect("d", "u", b"p", will=Will("t", b"w"))
    client = Client(hello)
    assert client.say(Disconnect()) == [Ended("the client said good-bye")]
    client = Client(hello)
    client.session.feed(b"", 1.0)
    assert client.events() == [Ended("the client hung up", Will("t", b"w"))]


def test_a_connection_ends_with_its_token():
    client = Client(expires=30.0)
    client.say(Pingreq(), now=29.0)
    assert client.session.due == 30.0
    client.session.check(30.0)
    assert client.events() == [Ended("its token expired")]


def test_who_never_says_who_it_is_is_not_waited_for():
    client = Client(None)
    client.session.feed(b"\x10", 29.0)  # one byte now and then is no reason to wait longer
    client.session.check(session.CONNECT_SECONDS)
    assert client.events() == [Ended("no CONNECT in time")]


@pytest.mark.parametrize("sent", [Connack(0), Suback(1, (0,)), Pingresp(), Unsuback(1), HELLO], ids=repr)
def test_what_a_client_does_not_send_ends_it(sent):
    assert [type(one) for one in Client().say(sent)] == [Ended]


@pytest.mark.parametrize(
    "sent", [one for one in SAMPLES if not isinstance(one, Connect)], ids=lambda one: type(one).__name__
)
def test_what_comes_before_the_connect_ends_it(sent):
    assert [type(one) for one in Client(None).say(sent, HELLO)] == [Ended]


@settings(max_examples=300)
@given(st.booleans(), st.lists(st.binary(max_size=80) | EVERY.map(packets.write), max_size=12), st.integers(0, 3))
def test_whatever_comes_in_nothing_is_raised_and_little_is_held(known, chunks, grants):
    client = Client(HELLO if known else None)
    ended = 0
    for now, chunk in enumerate(chunks):
        client.session.feed(chunk, float(now))
        for event in client.events():
            if isinstance(event, Connect):
                client.session.accept({}, float(now))
            elif isinstance(event, Subscribe):
                client.session.granted(event, [min(qos, grants % 2) for _, qos in event.filters])
            elif isinstance(event, Unsubscribe):
                client.session.released(event)
            elif isinstance(event, Publish):
                client.session.taken(event)
            elif isinstance(event, Ended):
                ended += 1
        for event in client.events():
            ended += isinstance(event, Ended)
    client.heard()
    assert ended <= 1
    assert client.session._reader.held <= packets.MAX_PACKET


@pytest.mark.parametrize(
    ("name", "topic", "covers"),
    [
        ("a/#", "a", True), ("a/#", "a/b/c", True), ("a/+", "a/b", True), ("a/+", "a", False), ("a/+", "a/b/c", False),
        ("#", "a", True), ("#", "$iothub/x", False), ("+/x", "$iothub/x", False), ("$iothub/#", "$iothub/x", True),
        ("a", "a", True), ("a", "A", False), ("a/b", "a", False),
    ],
)  # fmt: skip
def test_filters(name, topic, covers):
    assert matches(name, topic) is covers
