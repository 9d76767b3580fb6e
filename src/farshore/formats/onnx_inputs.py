"""ONNX files of old exporters list every weight as an input, too; onnxruntime then treats weights as variables.

Nobody feeds them, so those inputs are taken out: a cut of byte ranges in the protobuf, nothing else is touched.
"""

from __future__ import annotations

from farshore.formats import protobuf
from farshore.formats.bounds import Budget, Malformed
from farshore.formats.protobuf import Field, Span, fields

_IR_VERSION, _GRAPH = 1, 7
_INITIALIZER, _INPUT = 5, 11
_NAME_OF_TENSOR, _NAME_OF_VALUE, _EXTERNAL = 8, 1, 13


def without_initializers(view: memoryview) -> bytes | None:
    """The file's bytes without inputs that are initializers.

    Args:
        view: an ONNX file.

    Returns:
        The changed bytes; None if the file can be loaded as it is: nothing to take out, weights in files beside it (those
        are only found when it is loaded by path), or not understood (the runtime will say what is wrong).

    """
    try:
        return _cut(view)
    except Malformed:
        return None


def _cut(view: memoryview) -> bytes | None:
    budget = Budget()
    graph: Field | None = None
    version: Field | None = None
    start = end = position = 0
    for entry in fields(view, Span(0, len(view)), budget):
        if entry.number == _GRAPH:
            if graph is not None:
                return None  # a message split in two: legal, never seen
            graph, start = entry, position
            end = entry.span.end
        elif entry.number == _IR_VERSION:
            version = entry
        position = entry.span.end if entry.wire != protobuf.VARINT else _after(view, position)
    if graph is None or version is None:
        return None
    spans = _graph_fields(view, graph, budget)
    kept = _kept(view, spans, budget)
    if kept is None:
        return None
    head = bytearray(view[:start])
    if version.value < 4:
        # Up to version 3 every initializer had to be an input; 4 only lifts that rule (onnx/docs/IR.md).
        at = _offset_of_version(view, start)
        if at is None:
            return None
        head[at] = 4
    body = b"".join(kept)
    return bytes(head) + bytes([_GRAPH << 3 | 2]) + _varint(len(body)) + body + bytes(view[end:])


def _graph_fields(view: memoryview, graph: Field, budget: Budget) -> list[tuple[int, int, Field]]:
    """Every field of the graph with the byte range that it was written in."""
    found, position = [], graph.value
    for entry in fields(view, graph.span, budget):
        end = entry.span.end if entry.wire != protobuf.VARINT else _after(view, position)
        found.append((position, end, entry))
        position = end
    return found


def _kept(view: memoryview, spans: list[tuple[int, int, Field]], budget: Budget) -> list[bytes] | None:
    names: set[bytes] = set()
    for _, _, entry in spans:
        if entry.number == _INITIALIZER:
            for part in fields(view, protobuf.message(entry), budget):
                if part.number == _EXTERNAL:
                    return None
                if part.number == _NAME_OF_TENSOR:
                    names.add(bytes(view[part.value : part.span.end]))
    kept = [
        bytes(view[start:end])
        for start, end, entry in spans
        if entry.number != _INPUT or _name(view, entry, budget) not in names
    ]
    return None if len(kept) == len(spans) else kept


def _name(view: memoryview, entry: Field, budget: Budget) -> bytes:
    for part in fields(view, protobuf.message(entry), budget):
        if part.number == _NAME_OF_VALUE:
            return bytes(view[part.value : part.span.end])
    return b""


def _after(view: memoryview, position: int) -> int:
    """The position behind a varint field that starts at ``position``."""
    _, position = protobuf.varint(view, position, len(view))
    _, position = protobuf.varint(view, position, len(view))
    return position


def _offset_of_version(view: memoryview, limit: int) -> int | None:
    """Where the one byte of ``ir_version`` stands, if it stands before the graph as every writer puts it."""
    return 1 if limit >= 2 and view[0] == _IR_VERSION << 3 and view[1] < 4 else None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
