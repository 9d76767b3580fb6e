"""One client's connection, as the server sees it: which packet may come when, who waits for what, when it is over.

Whoever holds the socket feeds bytes, takes what :meth:`Session.next` says, answers it by the method named for it, and writes
what :meth:`Session.take` gives. A PUBLISH is acknowledged when its taker says so, which is when it is on disk. Nothing that
comes in raises: the session ends instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from farshore.mqtt import packets
from farshore.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
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

MAX_KEEPALIVE = 1767.0
"""IoT Hub's: also who asks for more, or for none, is looked after."""
CONNECT_SECONDS = 30.0
"""Time from the first byte of a connection to its CONNECT."""
WINDOW = 16
"""Most QoS 1 messages to a client that wait for their acknowledgement."""

ACCEPTED, LEVEL, CLIENT, LATER, CREDENTIALS, FORBIDDEN = range(6)
"""Codes of a CONNACK. Clients come back by themselves after ``LATER`` and give up after the two that follow it."""


class Ended(Struct, frozen=True):
    """The connection is over; close it.

    Attributes:
        reason: one line for the log.
        will: to be published; None after a DISCONNECT.

    """

    reason: str
    will: Will | None = None


Event = Connect | Subscribe | Unsubscribe | Publish | Puback | Ended


class Session:
    """The server's side of one connection.

    Args:
        now: seconds on any clock that only goes forward; the same for all calls.

    Attributes:
        filters: what the client is subscribed to, with the QoS granted.
        accepted: whether its CONNECT was.

    """

    def __init__(self, now: float) -> None:
        self._reader = Reader(packets.MAX_CONNECT)
        self._out = bytearray()
        self._asked = False
        self.accepted = False
        self._over: Ended | None = None
        self._told = False
        self._last = now
        self._patience = CONNECT_SECONDS
        self._expires = float("inf")
        self._will: Will | None = None
        self._inflight: set[int] = set()
        self.filters: dict[str, int] = {}

    # -- from the client -------------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes that came in; empty when the client hung up."""
        if self._over is None:
            if not data:
                self.end("the client hung up")
                return
            if self.accepted:
                self._last = now
            self._reader.feed(data)

    def next(self) -> Event | None:
        """What is to be done now; None when more bytes are needed, or an answer to what was said before.

        :class:`Ended` comes once, after it nothing.
        """
        while self._over is None and self._asked == self.accepted:
            try:
                packet = self._reader.next()
            except Malformed as error:
                self.end(error.message)
                break
            if packet is None:
                return None
            found = self._received(packet)
            if found is not None:
                return found
        if self._over is None or self._told:
            return None
        self._told = True
        return self._over

    def _received(self, packet: Packet) -> Event | None:
        if isinstance(packet, Connect):
            return self._connect(packet)
        if not self.accepted:
            self.end("the first packet was no CONNECT")
        elif isinstance(packet, (Publish, Subscribe, Unsubscribe)):
            return packet
        elif isinstance(packet, Puback):
            if packet.packet in self._inflight:
                self._inflight.discard(packet.packet)
                return packet
        elif isinstance(packet, Pingreq):
            self._write(Pingresp())
        elif isinstance(packet, Disconnect):
            self._will = None
            self.end("the client said good-bye")
        else:
            self.end(f"a client sends no {type(packet).__name__.upper()}")
        return None

    def _connect(self, packet: Connect) -> Event | None:
        if self._asked:
            self.end("a second CONNECT")
            return None
        self._asked = True
        if packet.level != 4:
            self.refuse(LEVEL, "another version of MQTT")
            return None
        self._will = packet.will
        self._patience = min(packet.keepalive * 1.5 or MAX_KEEPALIVE, MAX_KEEPALIVE)
        return packet

    # -- answers ---------------------------------------------------------------------------------------------------

    def accept(self, filters: Mapping[str, int], now: float, expires: float = float("inf")) -> None:
        """Let the client in.

        Args:
            filters: what it is subscribed to from before.
            now: as ever.
            expires: when its credential does.

        """
        self.filters = dict(filters)
        self._last, self._expires, self.accepted = now, expires, True
        self._reader.limit = packets.MAX_PACKET
        self._write(Connack(ACCEPTED, present=bool(filters)))

    def refuse(self, code: int, reason: str) -> None:
        """Turn the client away; ``code`` is one of the codes above."""
        self._will = None
        self._write(Connack(code))
        self.end(reason)

    def granted(self, asked: Subscribe, codes: Iterable[int]) -> None:
        """Answer a SUBSCRIBE, when it is on disk: the QoS granted, or ``packets.REFUSED``, per filter."""
        given = tuple(codes)
        self.filters |= {
            name: code for (name, _), code in zip(asked.filters, given, strict=True) if code != packets.REFUSED
        }
        self._write(Suback(asked.packet, given))

    def released(self, asked: Unsubscribe) -> None:
        """Answer an UNSUBSCRIBE, when it is on disk."""
        for name in asked.filters:
            self.filters.pop(name, None)
        self._write(Unsuback(asked.packet))

    def taken(self, publish: Publish) -> None:
        """Acknowledge a PUBLISH, when what it means is on disk and its answer is sent."""
        if publish.qos:
            self._write(Puback(publish.packet))

    # -- to the client ---------------------------------------------------------------------------------------------

    def granted_for(self, topic: str) -> int | None:
        """The QoS granted for a topic; None without a subscription."""
        found = [qos for name, qos in self.filters.items() if matches(name, topic)]
        return max(found, default=None)

    @property
    def room(self) -> int:
        """QoS 1 messages that may be sent now."""
        return WINDOW - len(self._inflight)

    def send(self, topic: str, payload: bytes, packet: int = 0, *, dup: bool = False) -> None:
        """Publish to the client, with QoS 1 if a packet identifier is given: it comes back from :meth:`next` as a Puback."""
        if packet:
            self._inflight.add(packet)
        self._write(Publish(topic, payload, 1 if packet else 0, packet, dup))

    def take(self) -> bytes:
        """Bytes to write now."""
        out, self._out = bytes(self._out), bytearray()
        return out

    # -- the end ---------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When to call :meth:`check`, if nothing comes in before."""
        return min(self._last + self._patience, self._expires)

    def check(self, now: float) -> None:
        """End the connection if the client was silent for too long, or its credential has expired."""
        if now >= self._expires:
            self.end("its token expired")
        elif now >= self._last + self._patience:
            self.end("silent for longer than its keep-alive" if self.accepted else "no CONNECT in time")

    def end(self, reason: str) -> None:
        """End the connection from this side; the first reason holds."""
        if self._over is None:
            self._over = Ended(reason, self._will if self.accepted else None)

    def _write(self, packet: Packet) -> None:
        if self._over is None:
            self._out += packets.write(packet)


def matches(name: str, topic: str) -> bool:
    """Whether a filter covers a topic (MQTT 4.7)."""
    mine, its = name.split("/"), topic.split("/")
    if topic.startswith("$") and mine[0] in {"#", "+"}:
        return False
    for at, level in enumerate(mine):
        if level == "#":
            return True
        if at >= len(its) or level not in {"+", its[at]}:
            return False
    return len(mine) == len(its)
