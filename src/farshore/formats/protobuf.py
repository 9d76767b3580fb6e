"""Protobuf's wire format, read where it lies (protobuf.dev/programming-guides/encoding).

No schema, no objects, no copies: fields come out as numbers and byte ranges.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from farshore.formats.bounds import MAX_NAME, Budget, Malformed

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Span(NamedTuple):
    """A byte range, absolute in the file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


NOWHERE = Span(0, 0)
"""The span of what is not there."""


class Field(NamedTuple):
    """One field as it is written.

    Attributes:
        number: the field's number.
        wire: ``VARINT``, ``FIXED64``, ``BYTES`` or ``FIXED32``.
        value: the unsigned integer of a varint; else the offset of the field's content.
        length: bytes of content; 0 for a varint.

    """

    number: int
    wire: int
    value: int
    length: int

    @property
    def span(self) -> Span:
        return Span(self.value, self.length)


def varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """An unsigned integer of at most 64 bits and the position behind it.

    Raises:
        Malformed: it does not end before ``end``, or is longer than ten bytes.

    """
    result = shift = 0
    while position < end and shift < 70:
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise Malformed("a number that does not end")


def fields(view: memoryview, span: Span, budget: Budget) -> Iterator[Field]:
    """The fields of the message that ``span`` holds, in order of writing.

    Raises:
        Malformed: a field does not lie inside the message, or is of a kind that proto3 never writes (groups).

    """
    position, end = span.offset, span.end
    while position < end:
        budget.spend(1)
        key, position = varint(view, position, end)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise Malformed("a field number out of range")
        if wire == VARINT:
            value, position = varint(view, position, end)
            yield Field(number, wire, value, 0)
            continue
        if wire == BYTES:
            length, position = varint(view, position, end)
        elif wire == FIXED32:
            length = 4
        elif wire == FIXED64:
            length = 8
        else:
            raise Malformed("a field of unknown wire type")
        if length > end - position:
            raise Malformed("a field longer than its message")
        yield Field(number, wire, position, length)
        position += length


def signed(value: int) -> int:
    """A varint's unsigned 64 bits as the int64 (or sign-extended int32) that was written."""
    return value - (1 << 64) if value >= 1 << 63 else value


def integers(view: memoryview, field: Field, budget: Budget) -> list[int]:
    """Values of a repeated int32/int64 field: one, or a packed run.

    Raises:
        Malformed: as :func:`varint`; or the field is neither a varint nor a packed run.

    """
    if field.wire == VARINT:
        return [signed(field.value)]
    if field.wire != BYTES:
        raise Malformed("an integer field of another wire type")
    values: list[int] = []
    position, end = field.value, field.value + field.length
    while position < end:
        budget.spend(1)
        value, position = varint(view, position, end)
        values.append(signed(value))
    return values


def text(view: memoryview, field: Field, limit: int = MAX_NAME) -> str:
    """A string field, cut at ``limit`` bytes; what is not UTF-8 is replaced.

    Raises:
        Malformed: not a length-delimited field.

    """
    return str(content(view, field, limit), "utf-8", "replace")


def content(view: memoryview, field: Field, limit: int) -> bytes:
    """The first ``limit`` bytes of a length-delimited field.

    Raises:
        Malformed: not a length-delimited field.

    """
    return bytes(view[field.value : field.value + min(message(field).length, limit)])


def message(field: Field) -> Span:
    """The span of a sub-message.

    Raises:
        Malformed: not a length-delimited field.

    """
    if field.wire != BYTES:
        raise Malformed("a message field of another wire type")
    return field.span


def float32(view: memoryview, field: Field) -> float:
    """A ``float`` field.

    Raises:
        Malformed: of another wire type.

    """
    if field.wire != FIXED32:
        raise Malformed("a float field of another wire type")
    value: float = struct.unpack_from("<f", view, field.value)[0]
    return value
