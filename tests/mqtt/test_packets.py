import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.mqtt import packets
from farshore.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Malformed,
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

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
TOPIC = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=40)
FILTER = TOPIC | TOPIC.map(lambda one: f"{one}/#") | TOPIC.map(lambda one: f"+/{one}") | st.sampled_from(["#", "+"])
NUMBER = st.integers(1, 65535)
WILL = st.builds(Will, TOPIC, st.binary(max_size=40), st.integers(0, 1), st.booleans())
CONNECT = st.builds(
    Connect, TEXT, TEXT, st.none() | st.binary(max_size=60), st.integers(0, 65535), st.booleans(), st.none() | WILL
)
PUBLISH = st.builds(
    Publish, TOPIC, st.binary(max_size=300), st.just(0), st.just(0), st.just(False), st.booleans()
) | st.builds(Publish, TOPIC, st.binary(max_size=300), st.just(1), NUMBER, st.booleans(), st.booleans())
EVERY = st.one_of(
    CONNECT,
    st.builds(Connack, st.integers(0, 5), st.booleans()),
    PUBLISH,
    st.builds(Puback, NUMBER),
    st.builds(Subscribe, NUMBER, st.lists(st.tuples(FILTER, st.integers(0, 2)), min_size=1, max_size=32).map(tuple)),
    st.builds(Suback, NUMBER, st.lists(st.sampled_from([0, 1, 128]), max_size=8).map(tuple)),
    st.builds(Unsubscribe, NUMBER, st.lists(TEXT, min_size=1, max_size=32).map(tuple)),
    st.builds(Unsuback, NUMBER),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)
SAMPLES = [
    Connect("d/m", "hub/d/m/?api-version=1", b"token", 60, will=Will("a/b", b"gone", 1)),
    Connack(5),
    Publish("devices/d/messages/events/", b"x" * 130, 1, 7, dup=True),
    Puback(1),
    Subscribe(2, (("$iothub/twin/res/#", 0), ("a/+", 1))),
    Suback(2, (0, 128)),
    Unsubscribe(3, ("a",)),
    Unsuback(3),
    Pingreq(),
    Pingresp(),
    Disconnect(),
]


def read(data, limit=packets.MAX_PACKET):
    reader = Reader(limit)
    reader.feed(data)
    found = []
    while (packet := reader.next()) is not None:
        found.append(packet)
    return found


@pytest.mark.parametrize(
    ("packet", "data"),
    [
        (Connect("d", None, None, 60, clean=True), b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01d"),
        (Connect("d", "u", b"p", 10), b"\x10\x13\x00\x04MQTT\x04\xc0\x00\x0a\x00\x01d\x00\x01u\x00\x01p"),
        (Connack(3), b"\x20\x02\x00\x03"),
        (Connack(0, present=True), b"\x20\x02\x01\x00"),
        (Publish("a/b", b"hi", 1, 258), b"\x32\x09\x00\x03a/b\x01\x02hi"),
        (Publish("a/b", b"hi"), b"\x30\x07\x00\x03a/bhi"),
        (Puback(258), b"\x40\x02\x01\x02"),
        (Subscribe(1, (("a", 1),)), b"\x82\x06\x00\x01\x00\x01a\x01"),
        (Suback(1, (1,)), b"\x90\x03\x00\x01\x01"),
        (Unsubscribe(1, ("a",)), b"\xa2\x05\x00\x01\x00\x01a"),
        (Unsuback(1), b"\xb0\x02\x00\x01"),
        (Pingreq(), b"\xc0\x00"),
        (Pingresp(), b"\xd0\x00"),
        (Disconnect(), b"\xe0\x00"),
    ],
)
def test_bytes_as_the_standard_has_them(packet, data):
    assert packets.write(packet) == data
    assert read(data) == [packet]


@given(st.lists(EVERY, max_size=6), st.data())
def test_what_is_written_is_read_however_it_is_cut(sent, data):
    stream = b"".join(packets.write(one) for one in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = Reader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        while (packet := reader.next()) is not None:
            found.append(packet)
    assert found == sent
    assert reader.held == 0


@pytest.mark.parametrize("packet", SAMPLES, ids=lambda one: type(one).__name__)
def test_truncated_at_each_byte_it_waits_or_refuses(packet):
    whole = packets.write(packet)
    for size in range(len(whole)):
        assert read(whole[:size]) == []
    # The same, with a length that says the shorter body were whole: never an error of another kind.
    start = 2 if whole[1] < 128 else 3
    for size in range(len(whole) - start):
        short = whole[:1] + _length(size) + whole[start : start + size]
        try:
            found = read(short)
        except Malformed:
            continue
        assert len(found) == 1


def _length(size):
    out = bytearray()
    while True:
        size, low = size >> 7, size & 127
        out.append(low | 128 if size else low)
        if not size:
            return bytes(out)


@settings(max_examples=600)
@given(st.integers(0, 255), st.integers(0, 300), st.binary(max_size=300))
@example(0x10, 12, b"\x00\x04MQTT\x05\x02\x00\x3c")
def test_every_type_and_length_is_read_or_refused(head, size, body):
    reader = Reader()
    reader.feed(bytes((head,)) + _length(size) + body)
    try:
        while reader.next() is not None:
            pass
    except Malformed:
        pass


@given(st.binary(max_size=400), st.sampled_from(SAMPLES), st.integers(0, 500), st.integers(0, 255))
def test_noise_and_flipped_bytes_are_read_or_refused(noise, packet, at, byte):
    whole = bytearray(packets.write(packet))
    whole[at % len(whole)] = byte
    for data in (noise, bytes(whole) + noise):
        try:
            read(data)
        except Malformed:
            continue


@pytest.mark.parametrize("kind", range(16))
def test_a_size_is_refused_before_the_bytes_come(kind):
    reader = Reader(1024)
    reader.feed(bytes((kind << 4 | (2 if kind in {8, 10} else 0),)) + _length(1022))
    with pytest.raises(Malformed):
        reader.next()


def test_what_a_peer_can_make_a_reader_hold_is_its_limit():
    reader, chunk = Reader(2048), b"\0" * 512
    tracemalloc.start()
    try:
        reader.feed(b"\x30" + _length(2040))
        for _ in range(3):
            reader.feed(chunk)
            assert reader.next() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2048


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x80\x80\x80\x80\x01",  # five bytes of length
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
        b"\x38\x03\x00\x01a",  # DUP with QoS 0
        b"\x32\x05\x00\x01a\x00\x00",  # identifier 0
        b"\x30\x03\x00\x01+",  # a wildcard in a topic
        b"\x30\x03\x00\x01\0",  # U+0000
        b"\x30\x03\x00\x01\xff",  # no UTF-8
        b"\x80\x06\x00\x01\x00\x01a\x01",  # flags of SUBSCRIBE
        b"\x82\x02\x00\x01",  # no filter
        b"\x82\x07\x00\x01\x00\x02a#\x01",  # a filter that is none
        b"\x82\x06\x00\x01\x00\x01a\x03",  # QoS 3
        b"\x50\x02\x00\x01",  # PUBREC
        b"\xf0\x00",
        b"\x00\x00",
        b"\xc0\x01\x00",  # left over
    ],
)
def test_what_the_standard_forbids(data):
    with pytest.raises(Malformed):
        read(data)


def test_the_number_of_filters_is_bounded():
    many = tuple((f"f{number}", 0) for number in range(packets.MAX_FILTERS + 1))
    with pytest.raises(Malformed, match="at most"):
        read(packets.write(Subscribe(1, many)))


def test_another_level_is_read_so_that_it_can_be_answered():
    assert read(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a")[0].level == 5


def test_texts_that_mqtt_cannot_say():
    with pytest.raises(Invalid):
        packets.write(Publish("a" * 70000, b""))
