"""Deployments: standing rules, one row each."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row, delete, insert, select, update

from farshore.hub.records.tables import deployments, models, versions


class Deployment(Struct, frozen=True):
    """A deployment's row with the version it resolved to.

    Attributes:
        serial: grows with every deployment made: breaks ties of priority and time.
        id: its name.
        selector: text of the condition.
        ref: as the operator wrote it, e.g. ``detector@champion``.
        model: name of the model.
        version: number that ``ref`` meant when it was resolved.
        digest: of that version's manifest.
        priority: higher wins.
        created: seconds since the epoch.
        changed: likewise.
        version_id: row of the version.
        rollout: serial of the rollout by which the version reaches devices; None when it holds for all.
        activate: times of day in which devices may switch to the version; none for always.

    """

    serial: int
    id: str
    selector: str
    ref: str
    model: str
    version: int
    digest: str
    priority: int
    created: float
    changed: float
    version_id: int
    rollout: int | None = None
    activate: tuple[str, ...] = ()


def add(tx: Connection, row: Deployment) -> None:
    """Write a new deployment; ``row.serial`` is ignored."""
    values = {"id": row.id, "created": row.created, **_columns(row)}
    tx.execute(insert(deployments).values(**values))


def change(tx: Connection, row: Deployment) -> None:
    tx.execute(update(deployments).where(deployments.c.id == row.id).values(**_columns(row)))


def set_activate(tx: Connection, key: str, activate: tuple[str, ...]) -> None:
    """Let a deployment's devices switch to its version at these times of day only."""
    tx.execute(update(deployments).where(deployments.c.id == key).values(activate=list(activate) or None))


def roll(tx: Connection, key: str, ref: str, version_id: int, rollout: int | None, now: float) -> None:
    """Let a deployment name a version, by a rollout or for all."""
    values = {"ref": ref, "version_id": version_id, "rollout": rollout, "changed": now}
    tx.execute(update(deployments).where(deployments.c.id == key).values(**values))


def remove(tx: Connection, key: str) -> bool:
    return tx.execute(delete(deployments).where(deployments.c.id == key)).rowcount > 0


def one(tx: Connection, key: str) -> Deployment | None:
    row = tx.execute(_ALL.where(deployments.c.id == key)).first()
    return None if row is None else _deployment(row)


def every(tx: Connection) -> list[Deployment]:
    return [_deployment(row) for row in tx.execute(_ALL.order_by(deployments.c.serial))]


def naming(tx: Connection, version_id: int, limit: int) -> list[str]:
    """Deployments of a version."""
    rows = select(deployments.c.id).where(deployments.c.version_id == version_id).order_by(deployments.c.id)
    return list(tx.execute(rows.limit(limit)).scalars())


def numbers(tx: Connection, model: str) -> set[int]:
    """Version numbers of a model that deployments name."""
    chosen = select(versions.c.number).join(deployments, deployments.c.version_id == versions.c.id)
    return set(
        tx.execute(chosen.join(models, models.c.id == versions.c.model_id).where(models.c.name == model)).scalars()
    )


_ALL = (
    select(deployments, models.c.name.label("model"), versions.c.number, versions.c.digest)
    .join(versions, versions.c.id == deployments.c.version_id)
    .join(models, models.c.id == versions.c.model_id)
)


def _columns(row: Deployment) -> dict[str, Any]:
    return {
        "selector": row.selector,
        "ref": row.ref,
        "version_id": row.version_id,
        "priority": row.priority,
        "changed": row.changed,
        "rollout": row.rollout,
        "activate": list(row.activate) or None,
    }


def _deployment(row: Row[Any]) -> Deployment:
    return Deployment(
        serial=row.serial,
        id=row.id,
        selector=row.selector,
        ref=row.ref,
        model=row.model,
        version=row.number,
        digest=row.digest,
        priority=row.priority,
        created=row.created,
        changed=row.changed,
        version_id=row.version_id,
        rollout=row.rollout,
        activate=tuple(row.activate or ()),
    )
