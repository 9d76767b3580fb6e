"""JSON documents at the doors: checked decoding into types, canonical encoding for what is hashed or signed."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from farshore.core.errors import Invalid, TooLarge

T = TypeVar("T")
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MAX_DOCUMENT = 1 << 20
"""Bytes of the largest JSON document any door takes unless it states another limit."""

_encoder = msgspec.json.Encoder(order="sorted")


def canonical(value: Any) -> bytes:
    """``value`` as canonical JSON: UTF-8, keys sorted, no white space, shortest numbers. Equal values give equal bytes.

    Args:
        value: built-ins or msgspec structs. NaN and infinities are not JSON and are refused.

    Raises:
        Invalid: ``value`` holds a number that JSON cannot say.

    """
    plain = builtins(value)
    _refuse_nonfinite(plain)
    return _encoder.encode(plain)


def encode(value: Any) -> bytes:
    """``value`` as JSON for the wire: as :func:`canonical`, but parts that are JSON already (``msgspec.Raw``) pass as they are."""
    return _encoder.encode(value)


def builtins(value: Any) -> Any:
    """``value`` as dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value, order="sorted")


def decode(data: bytes | bytearray | memoryview | str, kind: type[T], *, what: str, limit: int = MAX_DOCUMENT) -> T:
    """Decode ``data`` into ``kind``, checking types, bounds and size. Depth is bounded by the parser itself.

    Args:
        data: JSON text in UTF-8.
        kind: a msgspec struct or any type msgspec understands.
        what: names the document in messages, e.g. ``"sync request"``.
        limit: largest size in bytes.

    Raises:
        TooLarge: ``data`` is longer than ``limit``.
        Invalid: not JSON, nested too deep, or not of ``kind``; the message has the path of the first fault.

    """
    if len(data) > limit:
        raise TooLarge(f"{what} is {len(data)} bytes; at most {limit} are taken")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{what}: {error}") from None


def convert(value: Any, kind: type[T], *, what: str) -> T:
    """Check built-in ``value`` (from TOML, say) against ``kind``.

    Raises:
        Invalid: it does not fit; the message has the path of the first fault.

    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Invalid(f"{what}: {error}") from None


def _refuse_nonfinite(value: Any) -> None:
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - the definition of NaN
            raise Invalid("NaN and infinities have no form in JSON")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse_nonfinite(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_nonfinite(item)
