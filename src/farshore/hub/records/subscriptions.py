"""What IoT Hub's clients are subscribed to: their sessions, as far as they outlive a connection."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, delete, select, update

from farshore.hub.records.tables import subscriptions, upsert


class Subscriptions(Struct, frozen=True):
    """A client's row.

    Attributes:
        filters: MQTT filters with the QoS granted.
        told: ``$version`` of desired that the client was last told; 0 for none.

    """

    filters: dict[str, int] = {}
    told: int = 0


def one(tx: Connection, device: str, module: str) -> Subscriptions:
    """What a client is subscribed to; nothing if it was never here."""
    chosen = select(subscriptions).where(subscriptions.c.device == device, subscriptions.c.module == module)
    row = tx.execute(chosen).first()
    return Subscriptions() if row is None else Subscriptions(row.filters, row.told)


def put(tx: Connection, device: str, module: str, found: Subscriptions) -> None:
    upsert(tx, subscriptions, {"device": device, "module": module, "filters": found.filters, "told": found.told})


def note_told(tx: Connection, device: str, module: str, version: int) -> None:
    own = (subscriptions.c.device == device, subscriptions.c.module == module)
    tx.execute(update(subscriptions).where(*own).values(told=version))


def remove(tx: Connection, device: str, module: str) -> None:
    own = (subscriptions.c.device == device, subscriptions.c.module == module)
    tx.execute(delete(subscriptions).where(*own))
