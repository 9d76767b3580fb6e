"""Configurations: standing rules of what twins are told beside models, one row each."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, delete, insert, select, update

from farshore.hub.records.tables import configurations, deployments


class Configuration(Struct, frozen=True):
    """A configuration's row.

    Attributes:
        id: its name; no deployment has the same.
        selector: text of the condition; of modules it begins with ``FROM devices.modules WHERE``.
        priority: higher wins.
        content: ``deviceContent``, ``moduleContent`` or ``modulesContent``, as IoT Hub's clients send it.
        labels: the operator's words.
        metrics: queries, by name.
        created: seconds since the epoch; among equals the newest wins.
        changed: likewise.
        version: makes the etag.

    """

    id: str
    selector: str
    priority: int
    content: dict[str, Any]
    labels: dict[str, str]
    metrics: dict[str, str]
    created: float
    changed: float
    version: int = 1


class Manner(Struct, frozen=True):
    """What a deployment has of a configuration.

    Attributes:
        classic: module that is told in the classic contract; "" where devices are told in ours.
        labels: the operator's words.
        metrics: queries, by name.

    """

    classic: str = ""
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}


def one(tx: Connection, key: str) -> Configuration | None:
    row = tx.execute(select(configurations).where(configurations.c.id == key)).first()
    return None if row is None else Configuration(*row)


def every(tx: Connection) -> list[Configuration]:
    return [Configuration(*row) for row in tx.execute(select(configurations).order_by(configurations.c.id))]


def put(tx: Connection, row: Configuration) -> None:
    """Write a configuration, new or known."""
    values = structs.asdict(row)
    if not tx.execute(update(configurations).where(configurations.c.id == row.id).values(**values)).rowcount:
        tx.execute(insert(configurations).values(**values))


def remove(tx: Connection, key: str) -> bool:
    return tx.execute(delete(configurations).where(configurations.c.id == key)).rowcount > 0


def manners(tx: Connection) -> dict[str, Manner]:
    """Of deployments, by name."""
    rows = tx.execute(select(deployments.c.id, deployments.c.classic, deployments.c.labels, deployments.c.metrics))
    return {row.id: Manner(row.classic or "", row.labels or {}, row.metrics or {}) for row in rows}


def manner(tx: Connection, key: str) -> Manner:
    """Of one deployment; that of ours in everything if it is not there."""
    return manners(tx).get(key, Manner())


def set_manner(tx: Connection, key: str, manner: Manner) -> None:
    values = {"classic": manner.classic or None, "labels": manner.labels or None, "metrics": manner.metrics or None}
    tx.execute(update(deployments).where(deployments.c.id == key).values(**values))
