"""Messages from devices, kept for whoever reads them; messages to devices, kept until they are acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from farshore.hub.hub import Hub
from farshore.hub.iothub.batch import Batch
from farshore.hub.records import messages
from farshore.hub.records.messages import Received, Waiting
from farshore.mqtt.iothub import Identity

MAX_KEPT = 100_000
MAX_BYTES = 512 << 20
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

        def write(tx: Connection) -> None:
            messages.receive(tx, found)
            if full:
                messages.prune(tx, MAX_KEPT, MAX_BYTES)

        await self._batch.do(write)

    async def pending(self, who: Identity) -> list[Waiting]:
        """What waits for a client, the oldest first."""

        def read() -> list[Waiting]:
            with self._hub.database.reading() as tx:
                return messages.pending(tx, who.device, who.module, self._hub.clock())

        return await self._hub.threads(read)

    async def note_sent(self, message: Waiting) -> None:
        """A message goes out: the next time it does, it is marked as sent before."""
        await self._batch.do(lambda tx: messages.note_sent(tx, [message.serial]))

    async def taken(self, serial: int) -> None:
        """A message was acknowledged."""
        await self._batch.do(lambda tx: messages.taken(tx, [serial]))
