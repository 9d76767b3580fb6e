"""Layers of settings, made and changed by operators. What holds on a device in the end: :mod:`.layering`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from farshore.core import documents, wire
from farshore.core.errors import Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.core.wire import DesiredSettings
from farshore.hub import moments, selector
from farshore.hub.database import Database
from farshore.hub.records import changes, layers
from farshore.hub.records.layers import Layer

MOST = 1000
"""Layers of a hub: each is asked whenever a device's desired section is resolved."""


class Layers:
    """All layers. Each costs a constant number of writes, whatever the fleet's size.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database, self._clock = database, clock

    def every(self) -> list[Layer]:
        with self._database.reading() as tx:
            return layers.every(tx)

    def put(self, key: str, where: str, priority: int, settings: dict[str, Any]) -> Layer:
        """Make or change a layer: devices that match ``where`` heed ``settings``.

        Raises:
            Invalid: name, selector or settings malformed; or there are :data:`MOST` already.

        """
        check_name(key)
        selector.parse(where)
        row = Layer(key, where, priority, checked(settings), self._clock())
        with self._database.writing() as tx:
            held = {one.id: one for one in layers.every(tx)}
            if key not in held and len(held) >= MOST:
                raise Invalid(f"there are {MOST} layers of settings already: delete some, or widen a selector")
            layers.put(tx, row)
            _changed(tx, key, row.changed, held.get(key), row)
        return row

    def remove(self, key: str) -> None:
        """Delete a layer.

        Raises:
            NotFound: there is none.

        """
        with self._database.writing() as tx:
            held = layers.one(tx, key)
            if not layers.remove(tx, key):
                raise NotFound(f"no settings {key!r}")
            _changed(tx, key, self._clock(), held, None)


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` as devices take them.

    Raises:
        Invalid: a name that devices do not know, or a bad value.

    """
    unknown = sorted({*settings} - {*DesiredSettings.__struct_fields__})
    if unknown:
        raise Invalid(f"no setting {unknown[0]!r}: use {', '.join(DesiredSettings.__struct_fields__)}")
    found = wire.desired_settings({"settings": settings})
    return {name: documents.builtins(getattr(found, name)) for name in settings}


def _changed(tx: Connection, key: str, now: float, before: Layer | None, after: Layer | None) -> None:
    kind = "settings.removed" if after is None else "settings.changed"
    changes.bump(tx, changes.RULES)
    changes.add(tx, kind, key, now, before=before, after=after)
