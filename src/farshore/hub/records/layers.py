"""Layers of settings, one row each."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, delete, select

from farshore.hub.records.tables import layers, upsert


class Layer(Struct, frozen=True):
    """Settings for the devices that a selector matches; of several the one with the higher priority wins, setting by setting."""

    id: str
    selector: str
    priority: int
    settings: dict[str, Any]
    changed: float


def every(tx: Connection) -> list[Layer]:
    return [
        Layer(row.id, row.selector, row.priority, row.settings, row.changed)
        for row in tx.execute(select(layers).order_by(layers.c.id))
    ]


def one(tx: Connection, key: str) -> Layer | None:
    return next((row for row in every(tx) if row.id == key), None)


def put(tx: Connection, row: Layer) -> None:
    upsert(tx, layers, structs.asdict(row))


def remove(tx: Connection, key: str) -> bool:
    return tx.execute(delete(layers).where(layers.c.id == key)).rowcount > 0
