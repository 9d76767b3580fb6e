"""What operators do to a twin, as values: tags, desired by hand, etag, the document they read. Pure."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from farshore.core import documents, twin, wire
from farshore.hub import deployment
from farshore.hub.records.devices import Twin


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
    _check_models(manual)
    alter = twin.replace if replace else twin.patch
    desired = alter(row.desired, change, now, limit=twin.MAX_DESIRED, versioned=True)
    return msgspec.structs.replace(row, manual=manual, desired=desired)


def _check_models(manual: dict[str, Any]) -> None:
    """Every model's entry names a version, or says only ``retry``."""
    models = manual.get("models", {})
    if isinstance(models, dict):
        for entry in filter(deployment.retries, models.values()):
            documents.convert(entry.get("retry", 0), wire.Retry, what="desired.models: retry")
        manual = deployment.pins(manual)
    wire.desired_models(manual)


def _changed(values: dict[str, Any], change: dict[str, Any], limit: int, *, replace: bool) -> dict[str, Any]:
    change = {key: value for key, value in change.items() if not key.startswith("$")}
    twin.check(change, nulls=not replace)
    result: dict[str, Any] = change if replace else twin.merge(values, change)
    twin.check_size(result, limit)
    return result
