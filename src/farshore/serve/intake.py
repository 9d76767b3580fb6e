"""What all doors take in together: the bytes they hold at once, and what they refused."""

from __future__ import annotations

from collections import Counter

from farshore.core.errors import FarshoreError, Unavailable


class Intake:
    """Shared by the doors of one server.

    Args:
        limit: bytes of all bodies that are in memory at once.

    Attributes:
        buffered: bytes that are held now.
        refused: requests refused before a model was chosen, by door (``http``, ``v2``, ``grpc``) and error code.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.buffered = 0
        self.refused: Counter[tuple[str, str]] = Counter()

    def take(self, count: int) -> None:
        """Hold so many bytes more; they are held, and must be given back, also when there were too many.

        Raises:
            Unavailable: too many are held.

        """
        self.buffered += count
        if self.buffered > self._limit:
            raise Unavailable("too many pictures at once: try again")

    def give_back(self, count: int) -> None:
        """They are held no more."""
        self.buffered -= count

    def refuse(self, door: str, error: FarshoreError) -> None:
        """Count a refusal."""
        self.refused[door, error.code] += 1
