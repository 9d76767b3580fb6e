"""Rollouts, their members, and the sums that spare counting them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, delete, insert, select, update

from farshore.hub import gate
from farshore.hub.gate import Gate, Tally
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.tables import deployments, members, models, rollouts, tallies, upsert, versions
from farshore.hub.rollout import ENDED, Rollout, Terms, Wave

_TALLY = {field.name: field.type for field in msgspec.structs.fields(Tally) if field.type in {int, float}}


class Entry(Struct, frozen=True):
    """A rollout's row.

    Attributes:
        serial: grows with every rollout made.
        deployment: id of the deployment whose version it brings.
        model: name of the model.
        version, digest: number and manifest of the version it brings.
        version_id: its row.
        before, before_digest: number and manifest of the version that the deployment named before; None if it is new.
        before_id: its row.
        ref: the version as it was asked for.
        selector: of its deployment when it was started; None if that is not known.
        now: the rollout as it stands.
        created, changed: seconds since the epoch.

    """

    serial: int
    deployment: str
    model: str
    version: int
    digest: str
    version_id: int
    before: int | None
    before_digest: str | None
    before_id: int | None
    ref: str
    selector: str | None
    now: Rollout
    created: float
    changed: float


class Member(Struct, frozen=True):
    """A device in a rollout: ``state`` is ``admitted``, ``ready``, ``confirmed`` or ``failed``; ``evidence`` its share of the tally."""

    rollout: int
    device: str
    wave: int
    state: str
    evidence: dict[str, float]
    at: float


_BEFORE = versions.alias()
_ALL = (
    select(
        rollouts,
        models.c.name.label("model"),
        versions.c.number,
        versions.c.digest,
        _BEFORE.c.number.label("before_number"),
        _BEFORE.c.digest.label("before_digest"),
    )
    .join(versions, versions.c.id == rollouts.c.version_id)
    .join(models, models.c.id == versions.c.model_id)
    .outerjoin(_BEFORE, _BEFORE.c.id == rollouts.c.before_id)
)
_LIVE = rollouts.c.state.not_in(ENDED)
_STANDING = rollouts.c.serial.in_(select(deployments.c.rollout).where(deployments.c.rollout.is_not(None)))
"""A deployment goes by it, still: those that have not ended, and those that were aborted and not settled."""


def add(tx: Connection, row: Deployment, version_id: int, ref: str, now: Rollout, at: float, *, new: bool) -> int:
    """A new rollout; returns its serial.

    Args:
        tx: open for writing.
        row: its deployment as it was before, or as it is made when it is ``new``.
        version_id: row of the version that it brings.
        ref: that as it was asked for.
        now: the rollout.
        at: seconds since the epoch.
        new: the deployment is made for it.

    """
    values = {"deployment": row.id, "version_id": version_id, "before_id": None if new else row.version_id}
    values |= {"id": now.id, "created": at, "ref": ref, "selector": row.selector}
    made = tx.execute(insert(rollouts).values(**values, **_columns(now, at)).returning(rollouts.c.serial))
    return int(made.scalar_one())


def change(tx: Connection, serial: int, now: Rollout, at: float) -> None:
    tx.execute(update(rollouts).where(rollouts.c.serial == serial).values(**_columns(now, at)))


def one(tx: Connection, key: str) -> Entry | None:
    row = tx.execute(_ALL.where(rollouts.c.id == key)).first()
    return None if row is None else _row(row)


def by_serial(tx: Connection, serial: int) -> Entry | None:
    row = tx.execute(_ALL.where(rollouts.c.serial == serial)).first()
    return None if row is None else _row(row)


def live(tx: Connection) -> list[Entry]:
    """Those that have not ended."""
    return [_row(row) for row in tx.execute(_ALL.where(_LIVE).order_by(rollouts.c.serial))]


def newest(tx: Connection, limit: int) -> list[Entry]:
    return [_row(row) for row in tx.execute(_ALL.order_by(rollouts.c.serial.desc()).limit(limit))]


def of_model(tx: Connection, model: str, limit: int) -> list[Entry]:
    """Rollouts that brought versions of a model, the newest first."""
    chosen = _ALL.where(models.c.name == model).order_by(rollouts.c.serial.desc())
    return [_row(row) for row in tx.execute(chosen.limit(limit))]


def newest_of(tx: Connection, model: str, deployment: str | None) -> Entry | None:
    """The newest rollout of a model, by a deployment or by any."""
    chosen = _ALL.where(models.c.name == model)
    if deployment is not None:
        chosen = chosen.where(rollouts.c.deployment == deployment)
    row = tx.execute(chosen.order_by(rollouts.c.serial.desc()).limit(1)).first()
    return None if row is None else _row(row)


def tally(tx: Connection, serial: int, waves: int) -> list[Tally]:
    """What the members have said, one tally a wave."""
    found: list[dict[str, Any]] = [{} for _ in range(waves)]
    counts: list[dict[str, float]] = [{} for _ in range(waves)]
    for row in tx.execute(select(tallies).where(tallies.c.rollout == serial)):
        if row.wave < waves and row.name in _TALLY:
            found[row.wave][row.name] = row.value if _TALLY[row.name] is float else round(row.value)
        elif row.wave < waves:
            counts[row.wave][row.name] = row.value
    return [Tally(**values, **gate.sketched(count)) for values, count in zip(found, counts, strict=True)]


def count(tx: Connection, serial: int, wave: int, changes: Mapping[str, float]) -> None:
    """Add to a wave's tally."""
    for name, value in changes.items():
        if value:
            key = [tallies.c.rollout == serial, tallies.c.wave == wave, tallies.c.name == name]
            more = update(tallies).where(*key).values(value=tallies.c.value + value)
            if not tx.execute(more).rowcount:
                upsert(tx, tallies, {"rollout": serial, "wave": wave, "name": name, "value": value})


def member(tx: Connection, serial: int, device: str) -> Member | None:
    row = tx.execute(select(members).where(members.c.rollout == serial, members.c.device == device)).first()
    return None if row is None else Member(row.rollout, row.device, row.wave, row.state, row.evidence, row.at)


def memberships(tx: Connection, device: str) -> list[tuple[Member, Entry]]:
    """Rollouts not ended that gave ``device`` their version."""
    chosen = _ALL.join(members, members.c.rollout == rollouts.c.serial).where(members.c.device == device, _LIVE)
    rows = tx.execute(chosen.add_columns(members.c.wave.label("member_wave"), members.c.state.label("member_state"),
                                         members.c.evidence, members.c.at))  # fmt: skip
    return [
        (Member(row.serial, device, row.member_wave, row.member_state, row.evidence, row.at), _row(row)) for row in rows
    ]


def giver(tx: Connection, device: str, digest: str) -> str:
    """The id of the newest rollout, ended or not, that gave ``device`` the version with this manifest; "" if none did."""
    chosen = (
        select(rollouts.c.id)
        .join(members, members.c.rollout == rollouts.c.serial)
        .join(versions, versions.c.id == rollouts.c.version_id)
        .where(members.c.device == device, versions.c.digest == digest)
    )
    return tx.execute(chosen.order_by(rollouts.c.serial.desc()).limit(1)).scalar() or ""


def write_member(tx: Connection, row: Member) -> None:
    upsert(tx, members, msgspec.structs.asdict(row))


def members_in(tx: Connection, serial: int, states: tuple[str, ...], limit: int) -> list[Member]:
    """Members in one of these states, by device."""
    chosen = select(members).where(members.c.rollout == serial, members.c.state.in_(states))
    rows = tx.execute(chosen.order_by(members.c.device).limit(limit))
    return [Member(row.rollout, row.device, row.wave, row.state, row.evidence, row.at) for row in rows]


def naming(tx: Connection, version_id: int, limit: int) -> list[str]:
    """Rollouts that bring or replace a version, and that have not ended or that a deployment goes by."""
    meant = (rollouts.c.version_id == version_id) | (rollouts.c.before_id == version_id)
    return list(
        tx.execute(select(rollouts.c.id).where(meant, _LIVE | _STANDING).order_by(rollouts.c.id).limit(limit)).scalars()
    )


def forget(tx: Connection, before: float) -> None:
    """Delete ended rollouts that changed last before ``before``, save those that a deployment goes by."""
    tx.execute(delete(rollouts).where(~_LIVE, ~_STANDING, rollouts.c.changed < before))


def _columns(now: Rollout, at: float) -> dict[str, Any]:
    return {
        "waves": msgspec.to_builtins(now.waves),
        "gate": msgspec.to_builtins(now.gate),
        "state": now.state,
        "wave": now.wave,
        "opened": now.opened,
        "good_since": now.good_since,
        "reason": now.reason,
        "changed": at,
        "terms": msgspec.to_builtins(now.terms),
        "held": now.held,
    }


def _row(row: Row[Any]) -> Entry:
    now = Rollout(
        id=row.id,
        waves=msgspec.convert(row.waves, tuple[Wave, ...]),
        gate=msgspec.convert(row.gate, Gate),
        state=row.state,
        wave=row.wave,
        opened=row.opened,
        good_since=row.good_since,
        reason=row.reason,
        terms=msgspec.convert(row.terms or {}, Terms),
        held=bool(row.held),
    )
    return Entry(
        serial=row.serial,
        deployment=row.deployment,
        model=row.model,
        version=row.number,
        digest=row.digest,
        version_id=row.version_id,
        before=row.before_number,
        before_digest=row.before_digest,
        before_id=row.before_id,
        ref=row.ref or f"{row.model}@{row.number}",
        selector=row.selector,
        now=now,
        created=row.created,
        changed=row.changed,
    )
