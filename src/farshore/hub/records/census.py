"""The fleet in figures: counted by the database, never device by device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Text, case, func, select, true, type_coerce

from farshore.hub.records.devices import ACCEPTED, CURRENT, DESIRED, TARGET
from farshore.hub.records.tables import devices, holdings, models, twins, versions

Whom = ColumnElement[bool]
"""A condition over ``devices``: of whom is asked."""

EVERYBODY: Whom = true()
CHUNK = 500
FAILED = '%"state":"failed"%'
"""In a canonical report of a device that gave a version up, and perhaps in others: look closer."""


class Share(Struct, frozen=True):
    """So many devices run a version of a model."""

    model: str
    version: int
    devices: int


class Late(Struct, frozen=True):
    """So many devices are told to run a version of a model and do not run it."""

    model: str
    version: int
    devices: int


def among(ids: Sequence[str]) -> Whom:
    """The condition that a device is one of these, at most some hundreds."""
    return devices.c.id.in_(ids)


def states(tx: Connection, whom: Whom) -> dict[str, int]:
    """Devices by state."""
    rows = tx.execute(select(devices.c.state, func.count().label("many")).where(whom).group_by(devices.c.state))
    return {row.state: row.many for row in rows}


def heard(tx: Connection, whom: Whom, since: float) -> tuple[int, int, int]:
    """Devices that may speak: heard since then, silent since then, and never heard of."""
    spoke = func.sum(case((devices.c.seen >= since, 1), else_=0))
    silent = func.sum(case((devices.c.seen < since, 1), else_=0))
    row = tx.execute(select(func.count(), spoke, silent).where(whom, devices.c.state == ACCEPTED)).one()
    return int(row[1] or 0), int(row[2] or 0), int(row[0]) - int(row[1] or 0) - int(row[2] or 0)


def shares(tx: Connection, whom: Whom) -> list[Share]:
    """Devices by the version that they run, the newest first."""
    return [Share(*one) for one in _held(tx, CURRENT, whom)]


def late(tx: Connection, whom: Whom) -> list[Late]:
    """Devices by the version that they are told to run and do not."""
    running = holdings.alias()
    same = (
        (running.c.device == holdings.c.device)
        & (running.c.module == holdings.c.module)
        & (running.c.model == holdings.c.model)
        & (running.c.role == CURRENT)
        & (running.c.digest == holdings.c.digest)
    )
    return [Late(*one) for one in _held(tx, DESIRED, whom, ~select(running.c.device).where(same).exists())]


def standing(tx: Connection, whom: Whom, states_: Sequence[str], limit: int) -> list[tuple[str, str, str]]:
    """Devices in one of these states: id, state, reason."""
    chosen = select(devices.c.id, devices.c.state, devices.c.reason).where(whom, devices.c.state.in_(states_))
    return [(row.id, row.state, row.reason) for row in tx.execute(chosen.order_by(devices.c.id).limit(limit))]


def silent(tx: Connection, whom: Whom, since: float, limit: int) -> list[tuple[str, float]]:
    """Devices that may speak and have not since then, the longest silent first: id, when they were last heard of."""
    chosen = select(devices.c.id, devices.c.seen).where(whom, devices.c.state == ACCEPTED, devices.c.seen < since)
    return [(row.id, row.seen) for row in tx.execute(chosen.order_by(devices.c.seen, devices.c.id).limit(limit))]


def failing(tx: Connection, whom: Whom, limit: int) -> list[tuple[str, dict[str, Any]]]:
    """Devices whose report may speak of a version that they gave up: id, report."""
    tried = select(holdings.c.device).where(holdings.c.role == TARGET)
    chosen = select(twins.c.device, twins.c.reported).join(devices, devices.c.id == twins.c.device)
    chosen = chosen.where(
        whom, twins.c.module == "", twins.c.device.in_(tried), type_coerce(twins.c.reported, Text).like(FAILED)
    )
    return [(row.device, row.reported) for row in tx.execute(chosen.order_by(twins.c.device).limit(limit))]


def _held(tx: Connection, role: str, whom: Whom, *more: ColumnElement[bool]) -> list[tuple[str, int, int]]:
    """How many devices hold a version in ``role``: model, number, devices. Counted first, and named then, as there are few versions."""
    many = func.count(holdings.c.device.distinct()).label("many")
    counted = select(holdings.c.digest, many).where(holdings.c.role == role, *more).group_by(holdings.c.digest)
    if whom is not EVERYBODY:
        counted = counted.where(holdings.c.device.in_(select(devices.c.id).where(whom)))
    counts = {row.digest: row.many for row in tx.execute(counted)}
    named = select(models.c.name, versions.c.number, versions.c.digest).join(models, models.c.id == versions.c.model_id)
    found = []
    for some in _batched(counts, CHUNK):
        rows = tx.execute(named.where(versions.c.digest.in_(some)))
        found += [(row.name, row.number, counts[row.digest]) for row in rows]
    return sorted(found, key=lambda one: (one[0], -one[1]))


def _batched(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """``values`` in lists of at most ``size``: a statement takes only so many."""
    left = list(values)
    for begin in range(0, len(left), size):
        yield left[begin : begin + size]
