"""Flatbuffers, read where they lie (flatbuffers.dev/internals), every offset and length checked.

Tables may be shared, so a small file can describe a huge tree: each step is paid from the file's budget.
"""

from __future__ import annotations

import struct

from farshore.formats.bounds import MAX_NAME, OBJECT, Budget, Malformed
from farshore.formats.protobuf import NOWHERE, Span

_I8, _U8, _U16, _I32, _U32, _I64, _U64 = (struct.Struct("<" + code) for code in "bBHiIqQ")


class Flat:
    """A flatbuffer.

    Args:
        view: the bytes it lies in, from its own first byte; offsets count from there.
        budget: what reading may cost.

    All methods raise :class:`Malformed` when what they are asked for does not lie inside ``view``. A table is named by
    its position; a missing table, vector or string has position 0, which is never a valid one.

    """

    __slots__ = ("budget", "size", "view")

    def __init__(self, view: memoryview, budget: Budget) -> None:
        self.view = view
        self.size = len(view)
        self.budget = budget

    def _read(self, kind: struct.Struct, position: int) -> int:
        if position < 0 or position + kind.size > self.size:
            raise Malformed("an offset outside the file")
        value: int = kind.unpack_from(self.view, position)[0]
        return value

    def root(self) -> int:
        """The root table."""
        return self._table(self._read(_U32, 0))

    def _table(self, position: int) -> int:
        self.budget.spend(OBJECT)
        start = position - self._read(_I32, position)
        length = self._read(_U16, start)
        if length < 4 or length % 2 or start + length > self.size:
            raise Malformed("a table without a valid vtable")
        return position

    def _slot(self, table: int, field: int) -> int:
        """Position of a field's inline value; 0 if the field is not set."""
        start = table - self._read(_I32, table)
        entry = 4 + 2 * field
        if entry + 2 > self._read(_U16, start):
            return 0
        offset = self._read(_U16, start + entry)
        return table + offset if offset else 0

    def _follow(self, table: int, field: int) -> int:
        position = self._slot(table, field)
        return position + self._read(_U32, position) if position else 0

    def _scalar(self, kind: struct.Struct, table: int, field: int, default: int) -> int:
        position = self._slot(table, field)
        return self._read(kind, position) if position else default

    def i8(self, table: int, field: int, default: int = 0) -> int:
        return self._scalar(_I8, table, field, default)

    def u8(self, table: int, field: int, default: int = 0) -> int:
        return self._scalar(_U8, table, field, default)

    def i32(self, table: int, field: int, default: int = 0) -> int:
        return self._scalar(_I32, table, field, default)

    def u32(self, table: int, field: int, default: int = 0) -> int:
        return self._scalar(_U32, table, field, default)

    def u64(self, table: int, field: int, default: int = 0) -> int:
        return self._scalar(_U64, table, field, default)

    def table(self, table: int, field: int) -> int:
        """A sub-table; 0 if not set."""
        position = self._follow(table, field)
        return self._table(position) if position else 0

    def vector(self, table: int, field: int, item: int) -> Span:
        """The bytes of a vector's elements, ``item`` bytes each; an empty span if not set."""
        position = self._follow(table, field)
        if not position:
            return NOWHERE
        length = self._read(_U32, position) * item
        if length > self.size - position - 4:
            raise Malformed("a vector that ends outside the file")
        return Span(position + 4, length)

    def tables(self, table: int, field: int) -> list[int]:
        """The tables of a vector of tables."""
        span = self.vector(table, field, 4)
        self.budget.spend(span.length // 4)
        return [self._table(at + self._read(_U32, at)) for at in range(span.offset, span.end, 4)]

    def text(self, table: int, field: int, limit: int = MAX_NAME) -> str:
        """A string, cut at ``limit`` bytes; "" if not set. What is not UTF-8 is replaced."""
        return str(self._bytes(self.vector(table, field, 1), limit), "utf-8", "replace")

    def texts(self, table: int, field: int) -> list[str]:
        """The strings of a vector of strings."""
        span = self.vector(table, field, 4)
        self.budget.spend(span.length // 4)
        found = []
        for at in range(span.offset, span.end, 4):
            position = at + self._read(_U32, at)
            length = self._read(_U32, position)
            if length > self.size - position - 4:
                raise Malformed("a string that ends outside the file")
            found.append(str(self._bytes(Span(position + 4, length), MAX_NAME), "utf-8", "replace"))
        return found

    def _bytes(self, span: Span, limit: int) -> bytes:
        length = min(span.length, limit)
        self.budget.spend(1 + length // 8)  # strings may be shared: the sum of their lengths has no other bound
        return bytes(self.view[span.offset : span.offset + length])

    def values(self, span: Span, code: str) -> tuple[float, ...]:
        """Elements of a vector of scalars, ``code`` as in :mod:`struct`."""
        count = span.length // struct.calcsize("<" + code)
        self.budget.spend(count)
        return struct.unpack_from(f"<{count}{code}", self.view, span.offset)

    def integers(self, table: int, field: int) -> tuple[int, ...]:
        """A vector of int32."""
        return tuple(int(value) for value in self.values(self.vector(table, field, 4), "i"))
