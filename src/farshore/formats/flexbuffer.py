"""The settings of custom LiteRT operators: a flexbuffer map of scalars (flatbuffers, ``flexbuffers.h``).

Only what such settings use is read: one map, whose values are integers, floats or booleans.
"""

from __future__ import annotations

import struct

from farshore.formats.bounds import Malformed

MAX_KEYS = 256
_MAP = 9
_INT, _UINT, _FLOAT, _BOOL = 1, 2, 3, 26
_INDIRECT = {6: _INT, 7: _UINT, 8: _FLOAT}
_CODES = {_INT: "bhiq", _UINT: "BHIQ", _BOOL: "BHIQ", _FLOAT: " efd"}
Scalar = int | float | bool


def scalars(data: bytes) -> dict[str, Scalar]:
    """The scalar members of the map that ``data`` holds; members of other types are left out.

    Raises:
        Malformed: it is no such map, or a value does not lie inside.

    """
    if len(data) < 3:
        raise Malformed("too short for a flexbuffer")
    width, packed = data[-1], data[-2]
    if packed >> 2 != _MAP or width not in {1, 2, 4, 8}:
        raise Malformed("not a flexbuffer map")
    size = 1 << (packed & 3)
    place = len(data) - 2 - width
    start = place - _uint(data, place, width)
    count = _uint(data, start - size, size)
    if count > MAX_KEYS:
        raise Malformed("a flexbuffer map with too many keys")
    keys_at = start - 3 * size
    keys, key_size = keys_at - _uint(data, keys_at, size), _uint(data, start - 2 * size, size)
    if key_size not in {1, 2, 4, 8}:
        raise Malformed("a flexbuffer map with broken keys")
    found: dict[str, Scalar] = {}
    for index in range(count):
        place = keys + index * key_size
        name = _text(data, place - _uint(data, place, key_size))
        kind = _uint(data, start + count * size + index, 1)
        value = _scalar(data, start + index * size, size, kind)
        if value is not None:
            found[name] = value
    return found


def _uint(data: bytes, position: int, size: int) -> int:
    if position < 0 or position + size > len(data):
        raise Malformed("a flexbuffer offset outside its bytes")
    return int.from_bytes(data[position : position + size], "little")


def _text(data: bytes, position: int) -> str:
    end = data.find(b"\0", position) if position >= 0 else -1
    if end < 0 or end - position > 256:
        raise Malformed("a flexbuffer key that does not end")
    return data[position:end].decode("utf-8", "replace")


def _scalar(data: bytes, position: int, size: int, packed: int) -> Scalar | None:
    kind = packed >> 2
    if kind in _INDIRECT:
        position -= _uint(data, position, size)
        kind, size = _INDIRECT[kind], 1 << (packed & 3)
    if kind not in _CODES:
        return None
    code = _CODES[kind][size.bit_length() - 1]
    if code == " ":
        return None
    _uint(data, position, size)
    value: Scalar = struct.unpack_from("<" + code, data, position)[0]
    return bool(value) if kind == _BOOL else value
