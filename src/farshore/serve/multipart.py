"""multipart/form-data (RFC 7578): the files of a form, in their order. Bytes in, views of them out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from farshore.core.errors import Invalid

MAX_PARTS = 64
MAX_PART_HEAD = 8 << 10

_BOUNDARY = re.compile(rb'(?:^|;)\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))\s*(?:;|\Z)', re.IGNORECASE)
_NAME = re.compile(rb'filename\*?\s*=\s*(?:"([^"]*)"|([^\s;]*))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a form.

    Attributes:
        name: the file's, as sent, for messages only.
        data: its bytes.

    """

    name: str
    data: memoryview


def parts_of(body: bytes, kind: bytes) -> list[Part]:
    """Every file of a form.

    Args:
        body: the whole body.
        kind: the header Content-Type, with its boundary.

    Raises:
        Invalid: it is no such form, has no file or too many, or a field that is no file.

    """
    found = _BOUNDARY.search(kind)
    if found is None:
        raise Invalid("the form's Content-Type names no boundary")
    mark = b"--" + (found[1] or found[2])
    if not body.startswith(mark):
        raise Invalid("the form does not begin with its boundary")
    parts: list[Part] = []
    view, position = memoryview(body), len(mark)
    while body[position : position + 2] != b"--":
        if body[position : position + 2] != b"\r\n":
            raise Invalid("the form is malformed behind a boundary")
        end = body.find(b"\r\n" + mark, position)
        if end < 0:
            raise Invalid("the form ends without its last boundary")
        if len(parts) == MAX_PARTS:
            raise Invalid(f"the form has more than {MAX_PARTS} pictures: send fewer at once")
        parts.append(_part(body, view, position, end))
        position = end + 2 + len(mark)
    if not parts:
        raise Invalid("the form has no picture")
    return parts


def _part(body: bytes, view: memoryview, start: int, end: int) -> Part:
    """A part from the CRLF behind its boundary to the one before the next."""
    middle = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEAD))
    if middle < 0:
        raise Invalid("a part of the form has no header, or one that is too large")
    head = body[start + 2 : middle]
    name = _NAME.search(head)
    if name is None:
        raise Invalid("a field of the form is no file: put model, threshold and top into the address")
    return Part((name[1] or name[2] or b"").decode("utf-8", "replace")[:255], view[middle + 4 : end])
