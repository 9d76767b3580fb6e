"""Who acts: for the whole of one request, also in the threads that work for it, so that every change can be written down with
whoever made it, in the same transaction.
"""

from __future__ import annotations

from contextvars import ContextVar

from msgspec import Struct


class Actor(Struct):
    """An operator, and by which token or session; ``noted`` once something that they did was written down."""

    name: str
    via: str
    noted: bool = False


now: ContextVar[Actor | None] = ContextVar("acting", default=None)
"""None while nobody in particular acts: the hub itself, or a device."""
