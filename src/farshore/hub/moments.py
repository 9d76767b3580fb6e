"""Moments: seconds since the epoch inside, text in UTC outside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Seconds since the epoch; :func:`time.time` outside tests."""


def text(moment: float) -> str:
    """ISO 8601 in UTC with seven fractional digits, as IoT Hub writes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def text_or_none(moment: float | None) -> str | None:
    return None if moment is None else text(moment)
