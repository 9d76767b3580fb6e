"""Twins: documents with Azure IoT Hub's meaning.

A section (``desired``, ``reported``; ``tags`` without version) is a JSON object with a ``$version`` that grows by one
with every accepted change and ``$metadata`` that says when each part last changed. Changes are JSON merge patches
(RFC 7396): null deletes, objects merge, everything else replaces. Limits are IoT Hub's
(https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-device-twins#device-twin-size).
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from farshore.core.errors import Invalid, TooLarge

MAX_DESIRED = MAX_REPORTED = 32 * 1024
MAX_TAGS = 8 * 1024
MAX_DEPTH = 10
MAX_KEY = 1024
MAX_STRING = 4 * 1024
MAX_INTEGER = 4503599627370495
MIN_INTEGER = -4503599627370496

_BAD_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f.$ #]")

Object = dict[str, Any]


class Section(Struct, frozen=True):
    """One section of a twin.

    Attributes:
        values: the object, without ``$`` members.
        metadata: same shape, each level with ``$lastUpdated`` (and ``$lastUpdatedVersion`` in desired).
        version: ``$version``; 1 for a new section.

    """

    values: Object
    metadata: Object
    version: int


def empty(now: str, *, versioned: bool = False) -> Section:
    """A new section: no values, version 1.

    Args:
        now: ISO 8601 in UTC, as IoT Hub writes it (``2026-01-02T03:04:05.1234567Z``).
        versioned: also note ``$lastUpdatedVersion`` (desired does).

    """
    return Section({}, _stamp(now, 1 if versioned else None), 1)


def patch(section: Section, change: Object, now: str, *, limit: int, versioned: bool = False) -> Section:
    """``section`` after merge patch ``change``: version grown by one, touched levels stamped with ``now``.

    Args:
        section: before.
        change: RFC 7396 merge patch; members that begin with ``$`` at its top are ignored, as IoT Hub does.
        now: see :func:`empty`.
        limit: size limit of the section in bytes.
        versioned: see :func:`empty`.

    Raises:
        Invalid, TooLarge: the change or the result breaks a limit; nothing is changed then.

    """
    change = {key: value for key, value in change.items() if not key.startswith("$")}
    check(change, nulls=True)
    values = merge(section.values, change)
    check_size(values, limit)
    version = section.version + 1
    stamp = _stamp(now, version if versioned else None)
    return Section(values, _merge_metadata(section.metadata, change, values, stamp), version)


def replace(section: Section, values: Object, now: str, *, limit: int, versioned: bool = False) -> Section:
    """``section`` with all its values replaced (IoT Hub's PUT). Nulls are refused here.

    Raises:
        Invalid, TooLarge: as :func:`patch`.

    """
    values = {key: value for key, value in values.items() if not key.startswith("$")}
    check(values, nulls=False)
    check_size(values, limit)
    version = section.version + 1
    stamp = _stamp(now, version if versioned else None)
    return Section(values, _merge_metadata(stamp, values, values, stamp), version)


def merge(target: Any, change: Any) -> Any:
    """RFC 7396: ``target`` after ``change``; neither is altered."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def difference(before: Object, after: Object) -> Object:
    """The smallest merge patch that turns ``before`` into ``after``; empty if equal. Neither may hold nulls."""
    change: Object = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            inner = difference(old, value)
            if inner:
                change[key] = inner
        elif key not in before or not _same(old, value):
            change[key] = value
    return change


def check(value: Any, *, nulls: bool, _depth: int = 1) -> None:
    """Hold IoT Hub's rules for keys, depth, strings and numbers over ``value``.

    Args:
        value: an object.
        nulls: whether null may stand as a member's value (in patches).

    Raises:
        Invalid: naming the key and the rule.

    """
    for key, item in value.items():
        if _BAD_KEY.search(key) or not 0 < len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY:
            raise Invalid(
                f"twin key {key[:60]!r}: 1 to {MAX_KEY} bytes without '.', '$', '#', space or control characters"
            )
        if item is None and not nulls:
            raise Invalid(f"twin key {key[:60]!r}: null is only allowed in a patch, where it deletes")
        _check_value(item, key, nulls=nulls, depth=_depth)


def size(value: Any) -> int:
    """Size as IoT Hub counts: keys + values; numbers 8, booleans 4, strings without control characters."""
    if isinstance(value, dict):
        return sum(_text_size(key) + size(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(size(item) for item in value)
    if isinstance(value, bool):
        return 4
    if isinstance(value, str):
        return _text_size(value)
    return 0 if value is None else 8


def check_size(values: Object, limit: int) -> None:
    """Raise :class:`TooLarge` when ``values`` count more than ``limit`` bytes."""
    total = size(values)
    if total > limit:
        raise TooLarge(f"twin section would be {total} bytes; at most {limit} are allowed")


def since(section: Section, version: int, before: Object | None = None) -> Object:
    """What to tell whoever knows the section as it was at an earlier ``$version``: a merge patch with all that was written
    since, whether it differs or not, as IoT Hub's notifications have it.

    Args:
        section: of a twin with ``$lastUpdatedVersion`` in its metadata (desired).
        version: the one known.
        before: the values at that version; without them what was deleted since is not told.

    """
    written = _written(section.values, section.metadata, version)
    return written if before is None else _both(written, difference(before, section.values))


def key_of(name: str) -> str:
    """A model's name as a twin key, which may not hold a dot: ``a.b`` → ``a%2Eb``."""
    return name.replace(".", "%2E")


def name_of(key: str) -> str:
    """Undo :func:`key_of`."""
    return key.replace("%2E", ".")


def wire(section: Section) -> Object:
    """The section as devices see it: values and ``$version``."""
    return {**section.values, "$version": section.version}


def full(section: Section) -> Object:
    """The section as operators see it: values, ``$metadata`` and ``$version``."""
    return {**section.values, "$metadata": section.metadata, "$version": section.version}


def _check_value(item: Any, key: str, *, nulls: bool, depth: int) -> None:
    if isinstance(item, dict):
        if depth >= MAX_DEPTH:
            raise Invalid(f"twin key {key[:60]!r}: nested deeper than {MAX_DEPTH} levels")
        check(item, nulls=nulls, _depth=depth + 1)
    elif isinstance(item, list):
        if depth >= MAX_DEPTH:
            raise Invalid(f"twin key {key[:60]!r}: nested deeper than {MAX_DEPTH} levels")
        for element in item:
            if element is None:
                raise Invalid(f"twin key {key[:60]!r}: an array may not hold null")
            _check_value(element, key, nulls=nulls, depth=depth + 1)
    elif isinstance(item, str):
        if len(item.encode("utf-8", "surrogatepass")) > MAX_STRING:
            raise Invalid(f"twin key {key[:60]!r}: a string may have at most {MAX_STRING} bytes")
    elif isinstance(item, int) and not isinstance(item, bool) and not MIN_INTEGER <= item <= MAX_INTEGER:
        raise Invalid(f"twin key {key[:60]!r}: integers lie between {MIN_INTEGER} and {MAX_INTEGER}")


def _merge_metadata(metadata: Object, change: Object, values: Object, stamp: Object) -> Object:
    """Metadata after ``change``: every level it passes through is stamped, deleted ones vanish."""
    result = {**metadata, **stamp}
    for key, item in change.items():
        if item is None or key not in values:
            result.pop(key, None)
            continue
        inner, value = result.get(key, {}), values[key]
        if isinstance(item, dict) and isinstance(value, dict):
            known = inner if isinstance(inner, dict) else {}
            known = {name: entry for name, entry in known.items() if name.startswith("$") or name in value}
            result[key] = _merge_metadata(known, item, value, stamp)
        else:
            result[key] = dict(stamp)
    return result


def _written(values: Object, metadata: Object, version: int) -> Object:
    """The parts of ``values`` that were written after ``version``."""
    found: Object = {}
    for key, value in values.items():
        known = metadata.get(key)
        if not isinstance(known, dict) or known.get("$lastUpdatedVersion", 0) <= version:
            continue
        found[key] = _written(value, known, version) if isinstance(value, dict) else value
    return found


def _both(left: Object, right: Object) -> Object:
    """Two merge patches in one; where they contradict each other the second holds."""
    found = dict(left)
    for key, value in right.items():
        inner = found.get(key)
        found[key] = _both(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


def _stamp(now: str, version: int | None) -> Object:
    return {"$lastUpdated": now} if version is None else {"$lastUpdated": now, "$lastUpdatedVersion": version}


def _text_size(text: str) -> int:
    printable = "".join(char for char in text if ord(char) >= 32 and not 0x7F <= ord(char) <= 0x9F)
    return len(printable.encode("utf-8", "surrogatepass"))


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 and True differ, and so do 1 and 1.0 in print, but not in meaning."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
