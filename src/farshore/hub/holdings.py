"""Which versions a twin wants, and which it says it has: noted by digest, for tickets, counts, and refusing to delete what is in use.

A device speaks of models in Farshore's words. A module's twin is its own: of models it speaks, if at all, in the classic contract.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from farshore.core import wire
from farshore.hub import classic, deployment
from farshore.hub.records import devices
from farshore.hub.records.devices import Twin

REPORTED = (devices.CURRENT, devices.PREVIOUS, devices.TARGET)


def note_wanted(tx: Connection, row: Twin) -> None:
    """Note which versions ``row`` wants."""
    if row.module:
        bundle = classic.wanted(tx, row.desired.values)
        held = {} if bundle is None else {(bundle.model, devices.DESIRED): bundle.manifest}
    else:
        held = {(model, devices.DESIRED): one.digest for model, one in wire.desired_models(row.desired.values).items()}
        pinned = wire.desired_models(deployment.pins(row.manual))
        held |= {(model, devices.PINNED): one.digest for model, one in pinned.items()}
    devices.hold(tx, row.device, (devices.DESIRED, devices.PINNED), held, row.module)


def note_reported(tx: Connection, row: Twin, values: dict[str, Any]) -> dict[str, wire.ReportedModel]:
    """Note which versions a twin says it has.

    Args:
        tx: open for writing.
        row: the twin.
        values: its reported section.

    Returns:
        what a device says of its models; nothing of a module's.

    """
    said = {} if row.module else wire.reported_models(values)
    held: dict[tuple[str, str], str] = {}
    for model, state in said.items():
        for role, found in zip(REPORTED, (state.current, state.previous, state.target), strict=True):
            if found is not None:
                held[model, role] = found.digest
    running = classic.running(tx, values) if row.module else None
    if running is not None:
        held[running.model, devices.CURRENT] = running.digest
    devices.hold(tx, row.device, REPORTED, held, row.module)
    return said
