"""Messages from devices and modules (the newest are kept), and to them (kept until acknowledged)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from farshore.core.errors import Conflict
from farshore.hub.records.tables import received, waiting

MAX_WAITING = 50
"""IoT Hub's, per device; here per module too."""

Properties = dict[str, str | None]


class Received(Struct, frozen=True):
    """A message that came in.

    Attributes:
        serial: grows with every message; 0 before it is written.
        at: when it came.
        device, module: who sent it; module "" for the device itself.
        output: of the module; "" for none.
        message: the sender's own id; None for none.
        properties: all of them, system properties (``$.…``) included.
        body: as it was sent.

    """

    serial: int
    at: float
    device: str
    module: str
    output: str
    message: str | None
    properties: Properties
    body: bytes


class Waiting(Struct, frozen=True):
    """A message that waits for its receiver; ``packet`` names it in MQTT, ``sent`` says that it was on its way before."""

    serial: int
    device: str
    module: str
    input: str
    packet: int
    sent: bool
    at: float
    expires: float
    properties: Properties
    body: bytes


def receive(tx: Connection, found: Iterable[Received]) -> None:
    """Write messages down; one that its sender sent before, by its id, is left out."""
    engine: Any = postgresql if tx.dialect.name == "postgresql" else sqlite
    rows = [
        {name: value for name, value in structs.asdict(one).items() if name != "serial"} | {"size": len(one.body)}
        for one in found
    ]
    if rows:
        tx.execute(engine.insert(received).on_conflict_do_nothing(), rows)


def after(tx: Connection, serial: int, limit: int, device: str = "", module: str | None = None) -> list[Received]:
    """Messages from the first one after ``serial``, the oldest first; of one device or module if that is given."""
    chosen = select(received).where(received.c.serial > serial)
    if device:
        chosen = chosen.where(received.c.device == device)
    if module is not None:
        chosen = chosen.where(received.c.module == module)
    return [_received(row) for row in tx.execute(chosen.order_by(received.c.serial).limit(limit))]


def newest(tx: Connection) -> int:
    """Serial of the last message."""
    return int(tx.execute(select(func.coalesce(func.max(received.c.serial), 0))).scalar_one())


def prune(tx: Connection, count: int, size: int) -> None:
    """Forget the oldest messages until at most ``count`` are left, with bodies of at most ``size`` bytes."""
    sums = select(
        received.c.serial,
        func.row_number().over(order_by=received.c.serial.desc()).label("place"),
        func.sum(received.c.size).over(order_by=received.c.serial.desc()).label("total"),
    ).subquery()
    over = select(func.max(sums.c.serial)).where((sums.c.place > count) | (sums.c.total > size)).scalar_subquery()
    tx.execute(delete(received).where(received.c.serial <= over))


def send(tx: Connection, message: Waiting, most: int = MAX_WAITING) -> Waiting:
    """Put a message in its receiver's queue; its ``serial`` and ``packet`` are given here.

    Args:
        tx: open for writing.
        message: without them.
        most: that may wait.

    Raises:
        Conflict: the queue is full, or there is no such receiver.

    """
    own = (waiting.c.device == message.device, waiting.c.module == message.module)
    taken = set(tx.execute(select(waiting.c.packet).where(*own)).scalars())
    if len(taken) >= most:
        raise Conflict(f"{most} messages wait for {message.device!r} already: wait until it took some")
    last = tx.execute(select(waiting.c.packet).where(*own).order_by(waiting.c.serial.desc()).limit(1)).scalar() or 0
    packet = next(one for one in ((last + step) % 0x3FFF + 1 for step in range(most + 1)) if one not in taken)
    values = {name: value for name, value in structs.asdict(message).items() if name not in {"serial", "packet"}}
    serial = tx.execute(insert(waiting).values(packet=packet, **values)).inserted_primary_key
    assert serial is not None
    return structs.replace(message, packet=packet, serial=serial[0])


def pending(tx: Connection, device: str, module: str, now: float, limit: int = MAX_WAITING) -> list[Waiting]:
    """Messages that wait for a receiver, the oldest first, at most ``limit``."""
    own = (waiting.c.device == device, waiting.c.module == module, waiting.c.expires > now)
    return [_waiting(row) for row in tx.execute(select(waiting).where(*own).order_by(waiting.c.serial).limit(limit))]


def waiting_counts(tx: Connection, devices: list[str], now: float) -> dict[tuple[str, str], int]:
    """How many messages wait for these devices and their modules, by both names; none where none do."""
    chosen = select(waiting.c.device, waiting.c.module, func.count().label("many"))
    rows = tx.execute(
        chosen.where(waiting.c.device.in_(devices), waiting.c.expires > now).group_by(
            waiting.c.device, waiting.c.module
        )
    )
    return {(row.device, row.module): row.many for row in rows}


def make_room(tx: Connection, device: str, module: str, most: int) -> int:
    """Forget the oldest messages to a receiver until fewer than ``most`` wait; how many those were."""
    own = (waiting.c.device == device, waiting.c.module == module)
    chosen = select(waiting.c.serial).where(*own).order_by(waiting.c.serial.desc()).offset(most - 1)
    over = list(tx.execute(chosen).scalars())
    taken(tx, over)
    return len(over)


def note_sent(tx: Connection, serials: Iterable[int]) -> None:
    tx.execute(update(waiting).where(waiting.c.serial.in_(list(serials))).values(sent=True))


def taken(tx: Connection, serials: Iterable[int]) -> None:
    """The receiver acknowledged these."""
    tx.execute(delete(waiting).where(waiting.c.serial.in_(list(serials))))


def forget_expired(tx: Connection, now: float) -> None:
    tx.execute(delete(waiting).where(waiting.c.expires <= now))


def _received(row: Any) -> Received:
    return Received(
        row.serial, row.at, row.device, row.module, row.output, row.message, row.properties, bytes(row.body)
    )


def _waiting(row: Any) -> Waiting:
    names = ("serial", "device", "module", "input", "packet", "sent", "at", "expires", "properties")
    return Waiting(**{name: getattr(row, name) for name in names}, body=bytes(row.body))
