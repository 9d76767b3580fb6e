"""When bytes may be moved: windows of the device and of its link, and what the link's caps leave. Pure.

Caps count what downloads fetched, by the days and months of UTC. What is about to be fetched is noted before (see :mod:`.pace`), so
that no power cut makes room for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from farshore.core import windows
from farshore.core.manifest import Count, Short
from farshore.core.windows import Window
from farshore.core.wire import DesiredSettings

MEGA = 1_000_000


class Spent(Struct, frozen=True, omit_defaults=True):
    """Bytes that were moved, or set aside to be.

    Attributes:
        date: the day they are of, ``2026-11-22``.
        day: on that day.
        month: in its month.

    """

    date: Short = ""
    day: Count = 0
    month: Count = 0


@dataclass(frozen=True, slots=True)
class Shut:
    """No byte may be moved now.

    Attributes:
        until: seconds since 1970 when to ask again.
        cause: ``window`` or ``cap``.
        text: why, in one sentence.

    """

    until: float
    cause: Literal["window", "cap"]
    text: str


def shut(
    own: Sequence[Window], given: DesiredSettings, spent: Spent, now: float, offset: int, spare: int = 0
) -> Shut | None:
    """Why no byte may be moved now; None if bytes may be.

    Args:
        own: windows of the device's own settings.
        given: what the hub asks it to heed.
        spent: see there.
        now: seconds since 1970.
        offset: seconds by which local time is ahead of UTC.
        spare: bytes of ``spent`` that were set aside for the transfer that is open, and are not used yet.

    """
    opens = windows.both_open(own, [windows.parse(text) for text in given.windows], now, offset)
    if opens > now:
        return Shut(opens, "window", "the download window is closed")
    if left(given, spent, now) + spare > 0:
        return None
    monthly = given.month is not None and at(spent, now).month - spare >= given.month
    cap = (given.month if monthly else given.day) or 0
    span, where = "month" if monthly else "day", f" on link {given.link}" if given.link else ""
    text = f"cap reached: {cap / MEGA:g} MB a {span}{where}"
    return Shut(_next(now, monthly=monthly), "cap", text)


def left(given: DesiredSettings, spent: Spent, now: float) -> int:
    """Bytes that may still be moved today, by the caps; a lot where there are none."""
    today = at(spent, now)
    rests = [cap - count for cap, count in ((given.day, today.day), (given.month, today.month)) if cap is not None]
    return max(min(rests, default=1 << 62), 0)


def at(spent: Spent, now: float) -> Spent:
    """``spent`` as it stands today: a new day, and a new month, begin with nothing."""
    date = _moment(now).date().isoformat()
    if spent.date == date:
        return spent
    return Spent(date, 0, spent.month if spent.date[:7] == date[:7] else 0)


def add(spent: Spent, count: int, now: float) -> Spent:
    """``spent`` after ``count`` bytes more; less than none gives back what was set aside."""
    today = at(spent, now)
    return replace(today, day=max(today.day + count, 0), month=max(today.month + count, 0))


def _next(now: float, *, monthly: bool) -> float:
    """When the day or month after the present one begins."""
    today = _moment(now).replace(hour=0, minute=0, second=0, microsecond=0)
    after = (today.replace(day=1) + timedelta(days=32)).replace(day=1) if monthly else today + timedelta(days=1)
    return after.timestamp()


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(min(max(now, 0.0), 2e11), UTC)  # however wrong the clock is
