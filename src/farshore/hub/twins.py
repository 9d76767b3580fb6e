"""What operators do to a twin, as values: tags, desired by hand, etag, the document they read. Pure."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from farshore.core import documents, twin, wire
from farshore.hub import configuration, deployment, moments
from farshore.hub.records.devices import Twin


def new(device: str, tags: dict[str, Any], now: float, module: str = "") -> Twin:
    """The twin that a device, or one of its modules, begins with."""
    stamp = moments.text(now)
    return Twin(device, 1, tags, {}, twin.empty(stamp, versioned=True), twin.empty(stamp), 0, module)


SERIES = 8
"""Series of reports that are remembered: starts of an agent, while a report of an earlier one is still under way."""


def hear(row: Twin, series: str, number: int) -> Twin | None:
    """``row`` once it has heard a report; None if it came late or again, so that nothing it says is news.

    Args:
        row: the twin.
        series, number: as :class:`farshore.core.wire.SyncRequest` has them; "" and 0 are never late.

    """
    if not series:
        return row
    known = dict(row.heard)
    if series in known and (series != row.heard[-1][0] or number <= known[series]):
        return None
    kept = [one for one in row.heard if one[0] != series][-(SERIES - 1) :]
    return msgspec.structs.replace(row, heard=(*kept, (series, number)))


def check_tags(tags: dict[str, Any]) -> None:
    """Pass if a twin may begin with these.

    Raises:
        Invalid, TooLarge: it may not.

    """
    twin.check(tags, nulls=False)
    twin.check_size(tags, twin.MAX_TAGS)


def etag_of(row: Twin) -> str:
    """The etag in IoT Hub's form: base64 of an eight-byte counter."""
    return base64.b64encode(row.version.to_bytes(8, "big")).decode()


def document(row: Twin) -> dict[str, Any]:
    """The twin as operators see it."""
    return {
        "deviceId": row.device,
        "etag": etag_of(row),
        "version": row.version,
        "tags": row.tags,
        "properties": {"desired": twin.full(row.desired), "reported": twin.full(row.reported)},
    }


def with_tags(row: Twin, change: dict[str, Any], *, replace: bool) -> Twin:
    """``row`` with tags replaced by ``change``, or merged with it.

    Raises:
        Invalid, TooLarge: the result breaks a rule of twins.

    """
    return msgspec.structs.replace(row, tags=_changed(row.tags, change, twin.MAX_TAGS, replace=replace))


def with_desired(row: Twin, change: dict[str, Any], now: str, *, replace: bool) -> Twin:
    """``row`` with desired changed by an operator's hand; deployments' models are put back by who calls.

    Args:
        row: before.
        change: values or merge patch; ``$…`` members at its top are ignored.
        now: for ``$metadata``.
        replace: replace rather than merge.

    Raises:
        Invalid, TooLarge: the result breaks a rule of twins, or its ``models`` are malformed.

    """
    manual = _changed(row.manual, change, twin.MAX_DESIRED, replace=replace)
    if row.module:
        configuration.check_written(manual)
    else:
        _check_models(manual)
    alter = twin.replace if replace else twin.patch
    desired = alter(row.desired, change, now, limit=twin.MAX_DESIRED, versioned=True)
    return msgspec.structs.replace(row, manual=manual, desired=desired)


def by_hand(row: Twin, change: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``change`` without what only says what deployments, configurations and layers say anyway: a twin that is read, changed and sent
    back whole holds nothing against later ones. What was held before stays held. That it was read shows by its ``$version`` or
    ``$metadata``; without them an operator means what stands there, and may well hold a device where it is.

    Args:
        row: before.
        change: values or merge patch of desired.
        given: the desired values that hold now, with deployments' models.

    """
    models, held = change.get("models"), row.manual.get("models", {})
    if not {"$version", "$metadata"} & change.keys():
        return change
    rest = {key: value for key, value in change.items() if key != "models" or row.module}
    for values in (given, row.desired.values):
        rest = configuration.unsaid(rest, values, row.manual)
    if row.module or not isinstance(models, dict):
        return rest if row.module or "models" not in change else {**rest, "models": models}
    told = [values.get("models", {}) for values in (given, row.desired.values)]
    kept: dict[str, Any] = {}
    for key, entry in models.items():
        mine = held.get(key)
        free = mine is None or deployment.retries(mine)
        if free and isinstance(entry, dict) and any(entry == one.get(key) for one in told):
            if mine is not None:
                kept[key] = mine
        else:
            kept[key] = entry
    return {**rest, "models": kept} if kept else rest


def _check_models(manual: dict[str, Any]) -> None:
    """Every model's entry names a version, or says only ``retry``."""
    models = manual.get("models", {})
    if isinstance(models, dict):
        for entry in filter(deployment.retries, models.values()):
            documents.convert(entry.get("retry", 0), wire.Retry, what="desired.models: retry")
        manual = deployment.pins(manual)
    wire.desired_models(manual)
    wire.desired_settings(manual)


def _changed(values: dict[str, Any], change: dict[str, Any], limit: int, *, replace: bool) -> dict[str, Any]:
    change = {key: value for key, value in change.items() if not key.startswith("$")}
    twin.check(change, nulls=not replace)
    result: dict[str, Any] = change if replace else twin.merge(values, change)
    twin.check_size(result, limit)
    return result
