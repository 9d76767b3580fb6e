"""Windows: times of day in which something may be done, e.g. ``22:00-06:00`` (the device's local time) or ``22:00-06:00Z`` (UTC)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from farshore.core.errors import Invalid

_DAY = 24 * 60
_TRIES = 16
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)(Z?)\Z")


@dataclass(frozen=True, slots=True)
class Window:
    """A daily window; it passes midnight when ``end`` is before ``start``.

    Attributes:
        start: minute of the day from which it is open.
        end: minute of the day from which it is closed.
        utc: whether the minutes are of UTC's day, else of the local one.

    """

    start: int
    end: int
    utc: bool


def parse(text: str) -> Window:
    """Read ``HH:MM-HH:MM`` (local time) or ``HH:MM-HH:MMZ`` (UTC).

    Raises:
        Invalid: not of that form, or empty (start = end).

    """
    match = _WINDOW.match(text)
    if match is None:
        raise Invalid(f"bad window {text[:40]!r}: write it as 22:00-06:00 (local time) or 22:00-06:00Z (UTC)")
    hours, minutes, end_hours, end_minutes = (int(part) for part in match.groups()[:4])
    start, end = hours * 60 + minutes, end_hours * 60 + end_minutes
    if start == end:
        raise Invalid(f"window {text} is empty; leave windows out for any time")
    return Window(start, end, utc=bool(match[5]))


def both_open(one: Iterable[Window], other: Iterable[Window], now: float, offset: int) -> float:
    """When two sets of windows are next open at once, as :func:`next_open`; some later time if they never are."""
    one, other, found = list(one), list(other), now
    for _ in range(_TRIES):
        opens = next_open(other, next_open(one, found, offset), offset)
        if opens == found:
            break
        found = opens
    return found


def next_open(windows: Iterable[Window], now: float, offset: int) -> float:
    """When bytes may next be moved: ``now`` if that is so already.

    Args:
        windows: none at all means always.
        now: seconds since 1970.
        offset: seconds by which local time is ahead of UTC.

    """
    opens = [_opens(window, now, 0 if window.utc else offset) for window in windows]
    return min(opens, default=now)


def _opens(window: Window, now: float, offset: int) -> float:
    second = (now + offset) % (_DAY * 60)
    since_start = (second - window.start * 60) % (_DAY * 60)
    length = (window.end - window.start) % _DAY * 60
    return now if since_start < length else now + _DAY * 60 - since_start
