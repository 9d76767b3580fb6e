"""MQTT 3.1.1 packets, both directions, read as bytes come in (OASIS standard of 29 October 2014; section numbers below are its).

A size is checked when a packet's first bytes are there, before the rest is kept: what a peer can make the reader hold is
its limit and one chunk. QoS 2 does not exist here (IoT Hub has none); its packets are refused as malformed.
"""

from __future__ import annotations

from collections.abc import Callable, Sized

from msgspec import Struct

from farshore.core.errors import Invalid

MAX_PACKET = (256 << 10) + (16 << 10)
"""IoT Hub's largest message, and room for topic and headers."""
MAX_CONNECT = 32 << 10
"""Largest first packet: names, a token, a will."""
MAX_FILTERS = 32
"""Most filters in one SUBSCRIBE; a device has five kinds of them."""
REFUSED = 0x80

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14


class Malformed(Invalid):
    """The bytes are no MQTT 3.1.1: close the connection."""


class Will(Struct, frozen=True, gc=False):
    """What the server publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Connect(Struct, frozen=True, gc=False):
    """3.1. ``level`` is 4 for MQTT 3.1.1; ``keepalive`` in seconds, 0 for none; None where a field is absent."""

    client: str
    user: str | None = None
    password: bytes | None = None
    keepalive: int = 60
    clean: bool = False
    will: Will | None = None
    level: int = 4


class Connack(Struct, frozen=True, gc=False):
    """3.2. ``code`` 0 accepts; ``present`` says that the server remembers the session."""

    code: int = 0
    present: bool = False


class Publish(Struct, frozen=True, gc=False):
    """3.3. ``packet`` is 0 with QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    packet: int = 0
    dup: bool = False
    retain: bool = False


class Puback(Struct, frozen=True, gc=False):
    """3.4."""

    packet: int


class Subscribe(Struct, frozen=True, gc=False):
    """3.8. ``filters`` with the QoS asked for."""

    packet: int
    filters: tuple[tuple[str, int], ...]


class Suback(Struct, frozen=True, gc=False):
    """3.9. ``codes``: the QoS granted, or 0x80, per filter."""

    packet: int
    codes: tuple[int, ...]


class Unsubscribe(Struct, frozen=True, gc=False):
    """3.10."""

    packet: int
    filters: tuple[str, ...]


class Unsuback(Struct, frozen=True, gc=False):
    """3.11."""

    packet: int


class Pingreq(Struct, frozen=True, gc=False):
    """3.12."""


class Pingresp(Struct, frozen=True, gc=False):
    """3.13."""


class Disconnect(Struct, frozen=True, gc=False):
    """3.14."""


Packet = (
    Connect | Connack | Publish | Puback | Subscribe | Suback | Unsubscribe | Unsuback | Pingreq | Pingresp | Disconnect
)


class Reader:
    """Bytes in, packets out.

    Args:
        limit: bytes of the largest packet taken, its header included. May be changed between packets.

    """

    def __init__(self, limit: int = MAX_PACKET) -> None:
        self.limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what came in."""
        self._held += data

    @property
    def held(self) -> int:
        """Bytes that are kept and not yet read."""
        return len(self._held)

    def next(self) -> Packet | None:
        """The next packet; None until more bytes came in.

        Raises:
            Malformed: no packet can come out of this; the reader is of no more use.

        """
        size, start = 0, 1
        while True:  # 2.2.3: up to four bytes of seven bits, the lowest first
            if start >= len(self._held):
                self._check_kind()
                return None
            byte = self._held[start]
            size |= (byte & 0x7F) << 7 * (start - 1)
            start += 1
            if byte < 0x80:
                break
            if start > 4:
                raise Malformed("packet: its length has more than four bytes")
        self._check_kind()
        if start + size > self.limit:
            raise Malformed(f"packet: {start + size} bytes; at most {self.limit} are taken here")
        if len(self._held) < start + size:
            return None
        with memoryview(self._held) as view:
            head, body = view[0], bytes(view[start : start + size])
        del self._held[: start + size]
        return _READ[head >> 4](head & 0x0F, body)

    def _check_kind(self) -> None:
        """Refuse what cannot become a packet by its first byte: nothing more of it is kept."""
        if self._held:
            kind, flags = self._held[0] >> 4, self._held[0] & 0x0F
            if kind not in _READ or (kind != PUBLISH and flags != (2 if kind in {SUBSCRIBE, UNSUBSCRIBE} else 0)):
                raise Malformed(f"packet: {self._held[0]:#04x} begins none that is understood here")


def write(packet: Packet) -> bytes:
    """The packet as bytes.

    Raises:
        Invalid: a text or the whole is longer than MQTT can say.

    """
    head, body = _WRITE[type(packet)](packet)
    if len(body) > 268_435_455:
        raise Invalid("packet: too long")
    out, size = bytearray((head,)), len(body)
    while True:
        size, low = size >> 7, size & 0x7F
        out.append(low | 0x80 if size else low)
        if not size:
            return bytes(out + body)


class _Body:
    """The rest of a packet, read from its front."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def packet(self) -> int:
        found = self.number()
        if not found:
            raise Malformed("packet: identifier 0")
        return found

    def binary(self) -> bytes:
        return self._take(self.number())

    def text(self) -> str:
        """1.5.3: UTF-8 without surrogates or U+0000."""
        try:
            found = self.binary().decode()
        except UnicodeDecodeError:
            raise Malformed("packet: a text is not UTF-8") from None
        if "\0" in found:
            raise Malformed("packet: a text holds U+0000")
        return found

    def topic(self) -> str:
        found = self.text()
        if not found or "+" in found or "#" in found:
            raise Malformed("packet: a topic is not empty and has no wildcards")
        return found

    def rest(self) -> bytes:
        return self._take(len(self._data) - self._at)

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        if self.more:
            raise Malformed("packet: bytes are left over")

    def _take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise Malformed("packet: cut short")
        self._at += size
        return found


def _read_connect(_flags: int, data: bytes) -> Packet:
    body = _Body(data)
    protocol, level, flags = body.text(), body.byte(), body.byte()
    if protocol not in {"MQTT", "MQIsdp"}:
        raise Malformed("connect: this is a server for MQTT")
    keepalive = body.number()
    if level != 4:
        return Connect("", level=level)  # 3.1.2.2: it is answered with code 1; its fields may be others
    has_user, has_password, retain, qos, has_will, clean, reserved = (
        flags >> 7 & 1, flags >> 6 & 1, flags >> 5 & 1, flags >> 3 & 3, flags >> 2 & 1, flags >> 1 & 1, flags & 1
    )  # fmt: skip
    if reserved or qos == 3 or (not has_will and (qos or retain)) or (has_password and not has_user):
        raise Malformed("connect: flags that contradict each other")
    client = body.text()
    will = None
    if has_will:
        topic = body.topic()
        will = Will(topic, body.binary(), min(qos, 1), bool(retain))
    user = body.text() if has_user else None
    password = body.binary() if has_password else None
    body.end()
    return Connect(client, user, password, keepalive, bool(clean), will, level)


def _write_connect(packet: Connect) -> tuple[int, bytes]:
    will, flags = packet.will, packet.clean << 1
    parts = [_text(packet.client)]
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        parts += [_text(will.topic), _binary(will.payload)]
    if packet.user is not None:
        flags |= 0x80
        parts.append(_text(packet.user))
    if packet.password is not None:
        flags |= 0x40
        parts.append(_binary(packet.password))
    head = _text("MQTT") + bytes((packet.level, flags)) + _number(packet.keepalive)
    return CONNECT << 4, head + b"".join(parts)


def _read_connack(_flags: int, data: bytes) -> Packet:
    body = _Body(data)
    present, code = body.byte(), body.byte()
    body.end()
    if present > 1:
        raise Malformed("connack: reserved bits are set")
    return Connack(code, bool(present))


def _read_publish(flags: int, data: bytes) -> Packet:
    body, qos = _Body(data), flags >> 1 & 3
    if qos > 1 or (flags & 8 and not qos):
        raise Malformed("publish: QoS 0 or 1 is taken here, and only QoS 1 is sent again")
    topic = body.topic()
    packet = body.packet() if qos else 0
    return Publish(topic, body.rest(), qos, packet, bool(flags & 8), bool(flags & 1))


def _write_publish(packet: Publish) -> tuple[int, bytes]:
    head = PUBLISH << 4 | packet.dup << 3 | packet.qos << 1 | packet.retain
    return head, _text(packet.topic) + (_number(packet.packet) if packet.qos else b"") + packet.payload


def _read_subscribe(_flags: int, data: bytes) -> Packet:
    body = _Body(data)
    packet, filters = body.packet(), []
    while body.more:
        name, qos = body.text(), body.byte()
        if qos > 2 or not _is_filter(name):
            raise Malformed("subscribe: a filter, and a QoS from 0 to 2")
        filters.append((name, qos))
        _check_count(filters)
    if not filters:
        raise Malformed("subscribe: no filter")
    return Subscribe(packet, tuple(filters))


def _write_subscribe(packet: Subscribe) -> tuple[int, bytes]:
    return SUBSCRIBE << 4 | 2, _number(packet.packet) + b"".join(
        _text(one) + bytes((qos,)) for one, qos in packet.filters
    )


def _read_suback(_flags: int, data: bytes) -> Packet:
    body = _Body(data)
    return Suback(body.packet(), tuple(body.rest()))


def _read_unsubscribe(_flags: int, data: bytes) -> Packet:
    body = _Body(data)
    packet, filters = body.packet(), []
    while body.more:
        filters.append(body.text())
        _check_count(filters)
    if not filters:
        raise Malformed("unsubscribe: no filter")
    return Unsubscribe(packet, tuple(filters))


def _read_number(kind: Callable[[int], Packet]) -> Callable[[int, bytes], Packet]:
    def read(_flags: int, data: bytes) -> Packet:
        body = _Body(data)
        packet = body.packet()
        body.end()
        return kind(packet)

    return read


def _read_empty(kind: Callable[[], Packet]) -> Callable[[int, bytes], Packet]:
    def read(_flags: int, data: bytes) -> Packet:
        _Body(data).end()
        return kind()

    return read


_READ: dict[int, Callable[[int, bytes], Packet]] = {
    CONNECT: _read_connect,
    CONNACK: _read_connack,
    PUBLISH: _read_publish,
    PUBACK: _read_number(Puback),
    SUBSCRIBE: _read_subscribe,
    SUBACK: _read_suback,
    UNSUBSCRIBE: _read_unsubscribe,
    UNSUBACK: _read_number(Unsuback),
    PINGREQ: _read_empty(Pingreq),
    PINGRESP: _read_empty(Pingresp),
    DISCONNECT: _read_empty(Disconnect),
}
_WRITE: dict[type, Callable[..., tuple[int, bytes]]] = {
    Connect: _write_connect,
    Connack: lambda one: (CONNACK << 4, bytes((one.present, one.code))),
    Publish: _write_publish,
    Puback: lambda one: (PUBACK << 4, _number(one.packet)),
    Subscribe: _write_subscribe,
    Suback: lambda one: (SUBACK << 4, _number(one.packet) + bytes(one.codes)),
    Unsubscribe: lambda one: (UNSUBSCRIBE << 4 | 2, _number(one.packet) + b"".join(map(_text, one.filters))),
    Unsuback: lambda one: (UNSUBACK << 4, _number(one.packet)),
    Pingreq: lambda _: (PINGREQ << 4, b""),
    Pingresp: lambda _: (PINGRESP << 4, b""),
    Disconnect: lambda _: (DISCONNECT << 4, b""),
}


def _is_filter(name: str) -> bool:
    """4.7.1: ``#`` stands last and alone in its level, ``+`` alone in its."""
    levels = name.split("/")
    return bool(name) and all(
        ("#" not in one and "+" not in one) or one == "+" or (one == "#" and at == len(levels) - 1)
        for at, one in enumerate(levels)
    )


def _check_count(filters: Sized) -> None:
    if len(filters) > MAX_FILTERS:
        raise Malformed(f"subscribe: at most {MAX_FILTERS} filters at a time")


def _number(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _text(value: str) -> bytes:
    return _binary(value.encode())


def _binary(value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise Invalid("packet: a text has at most 65535 bytes")
    return _number(len(value)) + value
