"""Messages from devices, kept for whoever reads them; messages to devices, kept until they are acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Connection

from farshore.hub.hub import Hub
from farshore.hub.iothub.batch import Batch
from farshore.hub.records import devices, identities, messages
from farshore.hub.records.messages import Received, Waiting
from farshore.mqtt import routes
from farshore.mqtt.iothub import Identity
from farshore.mqtt.routes import Route
from farshore.mqtt.session import WINDOW

log = logging.getLogger(__name__)

MAX_KEPT = 100_000
MAX_BYTES = 512 << 20
MAX_ROUTED = 1000
"""Messages that wait for one module of those which other modules sent; the oldest are dropped."""
ROUTED_SECONDS = 7200
"""IoT Edge's default of ``timeToLiveSecs``."""
EDGE_HUB = "$edgeHub"
PRUNE_COUNT, PRUNE_BYTES = 2_000, 32 << 20
"""How much may come in between two looks whether there is too much."""


class Mail:
    """See the module. Used from the event loop only.

    Args:
        hub: this one.
        batch: its writes.

    """

    def __init__(self, hub: Hub, batch: Batch) -> None:
        self._hub = hub
        self._batch = batch
        self._count = self._bytes = 0

    async def keep(self, found: Sequence[Received]) -> None:
        """Write messages down; durable when this returns.

        Raises:
            Unavailable: the database does not take them.

        """
        self._count += len(found)
        self._bytes += sum(len(one.body) for one in found)
        full = self._count >= PRUNE_COUNT or self._bytes >= PRUNE_BYTES
        if full:
            self._count = self._bytes = 0

        def write(tx: Connection) -> set[Identity]:
            routed = [_routed(tx, one) for one in found]
            messages.receive(tx, [one for one, (kept, _) in zip(found, routed, strict=True) if kept])
            if full:
                messages.prune(tx, MAX_KEPT, MAX_BYTES)
            return {who for _, receivers in routed for who in receivers}

        for who in await self._batch.do(write):
            self._hub.connected.deliver(who.device, who.module)

    async def pending(self, who: Identity) -> list[Waiting]:
        """What waits for a client, the oldest first: more than it may have unacknowledged."""

        def read() -> list[Waiting]:
            with self._hub.database.reading() as tx:
                return messages.pending(tx, who.device, who.module, self._hub.clock(), 2 * WINDOW)

        return await self._hub.threads(read)

    async def note_sent(self, message: Waiting) -> None:
        """A message goes out: the next time it does, it is marked as sent before."""
        await self._batch.do(lambda tx: messages.note_sent(tx, [message.serial]))

    async def taken(self, serial: int) -> None:
        """A message was acknowledged."""
        await self._batch.do(lambda tx: messages.taken(tx, [serial]))


def _routed(tx: Connection, message: Received) -> tuple[bool, set[Identity]]:
    """Send a module's message the ways that its device's routes name: whether one leads up here, and who got it.

    Without routes everything comes up here.
    """
    hub = devices.twin(tx, message.device, EDGE_HUB) if message.module else None
    ways, _ = routes.read(hub.desired.values) if hub is not None else ([], [])
    if not ways:
        return True, set()
    kept, receivers = False, set()
    for way in ways:
        if not way.takes(message.module, message.output):
            continue
        if not way.module:
            kept = True
        elif identities.one(tx, message.device, way.module) is not None:
            _forward(tx, message, way)
            receivers.add(Identity(message.device, way.module))
    return kept, receivers


def _forward(tx: Connection, message: Received, way: Route) -> None:
    dropped = messages.make_room(tx, message.device, way.module, MAX_ROUTED)
    if dropped:
        log.warning("%s/%s does not take its messages: the oldest are dropped", message.device, way.module)
    sender = {"$.cdid": message.device, "$.cmid": message.module}
    row = Waiting(
        0, message.device, way.module, way.input, 0, False, message.at, message.at + ROUTED_SECONDS,
        {**message.properties, **sender}, message.body,
    )  # fmt: skip
    messages.send(tx, row, MAX_ROUTED)
