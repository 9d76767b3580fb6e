"""IoT Hub identities: what a device or module is to clients that speak IoT Hub's dialect."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from farshore.hub.records.tables import identities

SAS, CERTIFICATE, NONE = "sas", "certificateAuthority", "none"


class Identity(Struct, frozen=True):
    """An identity's row. Whether it may speak at all is its device's :class:`~.devices.Standing`.

    Attributes:
        device: its id.
        module: name of a module of it; "" for the device itself.
        generation: differs between two that had the same name one after the other.
        version: grows with every change; makes the etag.
        kind: how it proves itself: ``sas`` by a key, ``certificateAuthority`` by a certificate in its name; ``none``: not here.
        primary, secondary: symmetric keys, base64; "" without.
        edge: whether the device is an IoT Edge one.
        managed_by: who made the module, e.g. ``iotEdge``.
        status_at: when it was last enabled or disabled here; None if never.
        connection_at: when it last came or went; None if never.
        active_at: when it last said anything; None if never.

    """

    device: str
    module: str = ""
    generation: str = ""
    version: int = 0
    kind: str = NONE
    primary: str = ""
    secondary: str = ""
    edge: bool = False
    managed_by: str = ""
    status_at: float | None = None
    connection_at: float | None = None
    active_at: float | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Those keys that prove it."""
        return tuple(key for key in (self.primary, self.secondary) if key) if self.kind == SAS else ()


def one(tx: Connection, device: str, module: str = "") -> Identity | None:
    """The identity of a device or module; None for those that have none, as Farshore's own devices until one is given."""
    row = tx.execute(select(identities).where(identities.c.device == device, identities.c.module == module)).first()
    return None if row is None else _identity(row)


def modules(tx: Connection, device: str) -> list[Identity]:
    """A device's modules, by name."""
    chosen = select(identities).where(identities.c.device == device, identities.c.module != "")
    return [_identity(row) for row in tx.execute(chosen.order_by(identities.c.module))]


def among(tx: Connection, devices: list[str]) -> dict[tuple[str, str], Identity]:
    """Identities of these devices and their modules, by both names."""
    rows = tx.execute(select(identities).where(identities.c.device.in_(devices)))
    return {(row.device, row.module): _identity(row) for row in rows}


def count_modules(tx: Connection, device: str) -> int:
    chosen = select(func.count()).where(identities.c.device == device, identities.c.module != "")
    return int(tx.execute(chosen).scalar_one())


def put(tx: Connection, identity: Identity) -> None:
    """Write an identity, new or known."""
    columns = _columns(identity)
    own = (identities.c.device == identity.device, identities.c.module == identity.module)
    if not tx.execute(update(identities).where(*own).values(**columns)).rowcount:
        tx.execute(insert(identities).values(device=identity.device, module=identity.module, **columns))


def remove(tx: Connection, device: str, module: str) -> bool:
    own = (identities.c.device == device, identities.c.module == module)
    return tx.execute(delete(identities).where(*own)).rowcount > 0


def note_connection(tx: Connection, device: str, module: str, at: float) -> None:
    """A client of it came or went."""
    own = (identities.c.device == device, identities.c.module == module)
    tx.execute(update(identities).where(*own).values(connection_at=at, active_at=at))


_NAMES = {"primary": "primary_key", "secondary": "secondary_key"}


def _columns(identity: Identity) -> dict[str, object]:
    values = structs.asdict(identity)
    return {_NAMES.get(name, name): value for name, value in values.items() if name not in {"device", "module"}}


def _identity(row: Row[Any]) -> Identity:
    return Identity(*row)
