"""Digests: the names of bytes.

A digest is ``sha256:<64 lower-case hex>``. It is parsed once, at the door, and never truncated; no other algorithm is
accepted, so that nobody can choose a weaker one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NewType

from farshore.core.errors import Corrupt, Invalid

Digest = NewType("Digest", str)
"""A checked ``sha256:<64 hex>``; make one with :func:`parse` or :func:`of`."""

PATTERN = r"^sha256:[0-9a-f]{64}$"
_DIGEST = re.compile(PATTERN[:-1] + r"\Z")


def parse(text: str) -> Digest:
    """Check ``text`` and return it as a :data:`Digest`.

    Raises:
        Invalid: not exactly ``sha256:`` and 64 lower-case hex digits.

    """
    if not _DIGEST.match(text):
        raise Invalid(f"not a digest: {text[:80]!r} (expected sha256: and 64 lower-case hex digits)")
    return Digest(text)


def of(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of ``data``."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def of_stream(chunks: Iterable[bytes]) -> tuple[Digest, int]:
    """The digest and length in bytes of all ``chunks`` together."""
    hasher = Hasher()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.digest(), hasher.size


def hex_of(digest: Digest) -> str:
    """The 64 hex digits alone, safe as a file name."""
    return digest[7:]


def short(digest: Digest) -> str:
    """The first 12 hex digits, for people's eyes only; never accepted as input."""
    return digest[7:19]


class Hasher:
    """A running digest that also counts bytes."""

    __slots__ = ("_sha", "size")

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._sha.update(data)
        self.size += len(data)

    def digest(self) -> Digest:
        return Digest("sha256:" + self._sha.hexdigest())

    def copy(self) -> Hasher:
        twin = Hasher()
        twin._sha = self._sha.copy()
        twin.size = self.size
        return twin


def check(expected: Digest, actual: Digest, what: str) -> None:
    """Raise :class:`Corrupt` unless both digests are equal; ``what`` names the thing in the message."""
    if expected != actual:
        raise Corrupt(f"{what}: digest is {actual}, expected {expected}")
