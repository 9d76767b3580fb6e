"""Devices, their twins and their modules', and which versions each of them holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)

from farshore.core.twin import Section
from farshore.hub.records.changes import RULES, counter
from farshore.hub.records.narrowing import narrow
from farshore.hub.records.tables import devices, files, holdings, models, twins, versions
from farshore.hub.selector import Selector

CURRENT, PREVIOUS, TARGET = "current", "previous", "target"  # reported
DESIRED, PINNED = "desired", "pinned"  # wanted by the hub in the end; by an operator's own hand


ACCEPTED, PENDING, QUARANTINED, REVOKED = "accepted", "pending", "quarantined", "revoked"


class Device(Struct, frozen=True):
    """A device's row; ``seen`` is None until its first sync. The others are of its :class:`Standing`."""

    id: str
    created: float
    seen: float | None
    key: str | None = None
    state: str = ACCEPTED
    reason: str = ""


class Twin(Struct, frozen=True):
    """A twin's row.

    Attributes:
        device: its id.
        version: grows with every change of tags or desired.
        tags: the object.
        manual: desired as operators wrote it.
        desired: what the device is told: ``manual`` and deployments' models.
        reported: what the device said.
        rules: the counter of deployment changes when this row was read.
        module: whose twin it is on the device; "" for the device's own.
        heard: the newest report of each of the last series of reports, the newest series last; see :class:`farshore.core.wire.SyncRequest`.

    """

    device: str
    version: int
    tags: dict[str, Any]
    manual: dict[str, Any]
    desired: Section
    reported: Section
    rules: int
    module: str = ""
    heard: tuple[tuple[str, int], ...] = ()


class Standing(Struct, frozen=True):
    """How a device stands with the hub.

    Attributes:
        key: its public key; None for one that has none any more.
        state: ``accepted``, ``pending``, ``quarantined`` or ``revoked``.
        reason: why it is quarantined or revoked.
        turn: renewals of its bearer.
        credential: hash of its bearer; None until it has one.
        expires: when the bearer does.

    """

    key: str | None
    state: str = ACCEPTED
    reason: str = ""
    turn: int = 0
    credential: str | None = None
    expires: float = 0.0


def add(tx: Connection, twin: Twin, standing: Standing, now: float) -> None:
    """A new device with its twin."""
    tx.execute(insert(devices).values(id=twin.device, created=now, seen=None, **structs.asdict(standing)))
    add_twin(tx, twin)


def add_twin(tx: Connection, twin: Twin) -> None:
    """A further twin of a device: a module's."""
    tx.execute(insert(twins).values(device=twin.device, module=twin.module, **_columns(twin)))


def standing(tx: Connection, device: str) -> Standing | None:
    """How a device stands, or None if there is no such device."""
    row = tx.execute(select(devices).where(devices.c.id == device)).first()
    return None if row is None else _standing(row)


def set_standing(tx: Connection, device: str, standing: Standing) -> None:
    tx.execute(update(devices).where(devices.c.id == device).values(**structs.asdict(standing)))


def by_key(tx: Connection, key: str) -> str | None:
    """The device with this public key."""
    return tx.execute(select(devices.c.id).where(devices.c.key == key)).scalar()


def by_credential(tx: Connection, credential: str) -> tuple[str, Standing] | None:
    """The device whose bearer has this hash, and how it stands."""
    row = tx.execute(select(devices).where(devices.c.credential == credential)).first()
    return None if row is None else (row.id, _standing(row))


def twin(tx: Connection, device: str, module: str = "") -> Twin | None:
    """A device's twin, or that of one of its modules."""
    return _twin(tx.execute(_TWIN.where(twins.c.device == device, twins.c.module == module)).first())


def twin_by_credential(tx: Connection, credential: str) -> tuple[Twin, Standing] | None:
    """All that an idle sync needs, in one indexed read."""
    row = tx.execute(_TWIN_BY_CREDENTIAL, {"secret": credential}).first()
    found = _twin(row)
    return None if row is None or found is None else (found, _standing(row))


def write_twin(tx: Connection, twin: Twin) -> None:
    own = (twins.c.device == twin.device, twins.c.module == twin.module)
    tx.execute(update(twins).where(*own).values(**_columns(twin)))


def remove_module(tx: Connection, device: str, module: str) -> None:
    """Forget a module's twin, and what it held."""
    for table in (twins, holdings):
        tx.execute(delete(table).where(table.c.device == device, table.c.module == module))


def one(tx: Connection, device: str) -> Device | None:
    row = tx.execute(select(devices).where(devices.c.id == device)).first()
    return None if row is None else _device(row)


def modules(tx: Connection, device: str) -> list[Twin]:
    """The twins of a device's modules, by name."""
    rows = tx.execute(_TWIN.where(twins.c.device == device, twins.c.module != "").order_by(twins.c.module))
    return [found for row in rows if (found := _twin(row)) is not None]


class ModuleHolds(Struct, frozen=True):
    """A version that a module of a device is told of, or says it has."""

    module: str
    role: str
    model: str
    version: int


def module_holdings(tx: Connection, device: str) -> list[ModuleHolds]:
    """What a device's modules hold, in the classic contract."""
    chosen = (
        select(holdings.c.module, holdings.c.role, holdings.c.model, versions.c.number)
        .join(versions, versions.c.digest == holdings.c.digest)
        .where(holdings.c.device == device, holdings.c.module != "")
    )
    return [ModuleHolds(*row) for row in tx.execute(chosen.order_by(holdings.c.module, holdings.c.role))]


def module_page(tx: Connection, after: tuple[str, str], limit: int) -> list[Twin]:
    """Twins of modules, by device and name, from the first one after ``after``."""
    device, module = after
    later = or_(twins.c.device > device, and_(twins.c.device == device, twins.c.module > module))
    rows = tx.execute(_TWIN.where(twins.c.module != "", later).order_by(twins.c.device, twins.c.module).limit(limit))
    return [found for row in rows if (found := _twin(row)) is not None]


def page(
    tx: Connection, after: str, limit: int, *, chosen: Selector | None = None, whom: ColumnElement[bool] | None = None
) -> list[tuple[Device, Twin]]:
    """Devices with their twins, by id, from the first one after ``after``.

    Args:
        tx: open for reading.
        after: "" for the first page.
        limit: most devices to return.
        chosen: leaves out devices that it cannot match; whether it matches those that are left, ask itself.
        whom: a further condition over ``devices``.

    """
    both = _TWIN.add_columns(devices.c.id, devices.c.created, devices.c.seen, *_STANDING)
    both = both.join(devices, devices.c.id == twins.c.device).where(_OWN)
    if chosen is not None:
        both = both.where(narrow(tx, chosen))
    if whom is not None:
        both = both.where(whom)
    rows = tx.execute(both.where(devices.c.id > after).order_by(devices.c.id).limit(limit))
    return [(_device(row), found) for row in rows if (found := _twin(row)) is not None]


def who(state: str, model: str, version: int | None) -> ColumnElement[bool]:
    """The condition that a device is in a state, "" for any, and runs a model, "" for any, in this version if one is given."""
    asked = [devices.c.state == state] if state else []
    if model:
        run = select(holdings.c.device).where(holdings.c.model == model, holdings.c.role == CURRENT)
        if version is not None:
            named = select(versions.c.digest).join(models, models.c.id == versions.c.model_id)
            named = named.where(models.c.name == model, versions.c.number == version)
            run = run.where(holdings.c.digest == named.scalar_subquery())
        asked.append(devices.c.id.in_(run))
    return and_(true(), *asked)


def remove(tx: Connection, device: str) -> bool:
    return tx.execute(delete(devices).where(devices.c.id == device)).rowcount > 0


def note_seen(tx: Connection, seen: dict[str, float]) -> None:
    """Write down when devices were last seen, all in one statement."""
    if seen:
        statement = update(devices).where(devices.c.id == bindparam("device")).values(seen=bindparam("at"))
        tx.execute(statement, [{"device": device, "at": at} for device, at in seen.items()])


def hold(tx: Connection, device: str, roles: Iterable[str], held: dict[tuple[str, str], str], module: str = "") -> None:
    """Replace what a device, or one of its modules, holds in ``roles``.

    Args:
        tx: open for writing.
        device: its id.
        roles: roles that are known anew; what stood there is forgotten.
        held: (model, role) → manifest digest.
        module: "" for the device itself.

    """
    own = (holdings.c.device == device, holdings.c.module == module)
    tx.execute(delete(holdings).where(*own, holdings.c.role.in_(list(roles))))
    rows = [
        {"device": device, "module": module, "model": model, "role": role, "digest": digest}
        for (model, role), digest in held.items()
    ]
    if rows:
        tx.execute(insert(holdings), rows)


def holders(tx: Connection, digest: str, roles: Iterable[str], limit: int) -> list[str]:
    """Devices that hold a version in one of ``roles``."""
    chosen = select(holdings.c.device).where(holdings.c.digest == digest, holdings.c.role.in_(list(roles)))
    return list(tx.execute(chosen.distinct().order_by(holdings.c.device).limit(limit)).scalars())


def held_numbers(tx: Connection, model: str) -> set[int]:
    """Version numbers of a model that some device runs, keeps, or should run."""
    chosen = select(versions.c.number).join(holdings, holdings.c.digest == versions.c.digest)
    return set(tx.execute(chosen.where(holdings.c.model == model).distinct()).scalars())


def holder_counts(tx: Connection, digest: str) -> dict[str, int]:
    """How many devices hold a version, by role."""
    rows = tx.execute(
        select(holdings.c.role, func.count(holdings.c.device.distinct()).label("devices"))
        .where(holdings.c.digest == digest)
        .group_by(holdings.c.role)
    )
    return {row.role: row.devices for row in rows}


def holders_of(tx: Connection, digests: Sequence[str]) -> dict[str, dict[str, int]]:
    """Manifest digest → how many devices hold that version, by role."""
    rows = tx.execute(
        select(holdings.c.digest, holdings.c.role, func.count().label("devices"))
        .where(holdings.c.digest.in_(digests))
        .group_by(holdings.c.digest, holdings.c.role)
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.digest, {})[row.role] = row.devices
    return found


def should_have(tx: Connection, device: str, manifest: str) -> bool:
    """Whether a device's desired names the version with this manifest digest."""
    return _exists(tx, _wanted(device).where(holdings.c.digest == manifest))


def needs_file(tx: Connection, device: str, digest: str) -> bool:
    """Whether a blob belongs to a version that a device's desired names."""
    joined = _wanted(device).join(versions, versions.c.digest == holdings.c.digest)
    return _exists(tx, joined.join(files, files.c.version_id == versions.c.id).where(files.c.digest == digest))


_TWIN = select(twins, counter(RULES).label("rules"))
_OWN = twins.c.module == literal_column("''")  # the device's, not a module's
_STANDING = tuple(devices.c[name] for name in Standing.__struct_fields__)
_TWIN_BY_CREDENTIAL = (
    _TWIN.add_columns(*_STANDING)
    .join(devices, devices.c.id == twins.c.device)
    .where(devices.c.credential == bindparam("secret"), _OWN)
)


def _wanted(device: str) -> Any:
    return select(holdings.c.digest).where(holdings.c.device == device, holdings.c.role == DESIRED)


def _exists(tx: Connection, statement: Any) -> bool:
    return tx.execute(statement.limit(1)).first() is not None


def _columns(twin: Twin) -> dict[str, Any]:
    return {
        "version": twin.version,
        "tags": twin.tags,
        "manual": twin.manual,
        "desired": twin.desired.values,
        "desired_metadata": twin.desired.metadata,
        "desired_version": twin.desired.version,
        "reported": twin.reported.values,
        "reported_metadata": twin.reported.metadata,
        "reported_version": twin.reported.version,
        "heard": twin.heard,
    }


def _twin(row: Row[Any] | None) -> Twin | None:
    if row is None:
        return None
    return Twin(
        device=row.device,
        version=row.version,
        tags=row.tags,
        manual=row.manual,
        desired=Section(row.desired, row.desired_metadata, row.desired_version),
        reported=Section(row.reported, row.reported_metadata, row.reported_version),
        rules=row.rules or 0,
        module=row.module,
        heard=tuple((series, number) for series, number in row.heard or ()),
    )


def _device(row: Row[Any]) -> Device:
    return Device(row.id, row.created, row.seen, row.key, row.state, row.reason)


def _standing(row: Row[Any]) -> Standing:
    return Standing(row.key, row.state, row.reason, row.turn, row.credential, row.expires)
