"""Files as memory: read where they are touched, given back by the system when memory is short."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from farshore.store import files

PIECE = 1 << 18
"""Bytes of a file that are handed on at one time."""


def view(path: Path) -> memoryview:
    """The bytes of a file, mapped for as long as somebody holds the view. The file must not shrink meanwhile.

    Raises:
        Unavailable: it cannot be opened or mapped.

    """
    with files.translated(path), path.open("rb") as stream:
        stream.seek(0, 2)
        if not stream.tell():
            return memoryview(b"")  # an empty file cannot be mapped
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def pieces(data: memoryview) -> Iterator[memoryview]:
    """``data`` in order, for readers that keep what they were given."""
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]
