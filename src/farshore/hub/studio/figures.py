"""Figures as people read them: bytes, money, counts, moments. Pure."""

from __future__ import annotations

from datetime import datetime

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point: ``12.4 MB``, 1000 bytes to the kB as links are sold."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f} {_UNITS[unit]}"


def number(value: float) -> str:
    """A count with its thousands set apart: ``10 000``, by a narrow space that does not break."""
    return f"{value:,.0f}".replace(",", "\u202f")


def percent(part: float, whole: float) -> str:
    """A share: ``37 %``, ``0.4 %``; "–" of nothing."""
    if whole <= 0:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 9.95 else f"{share:.0f} %"


def money(amount: float, currency: str) -> str:
    """``12.40 NOK``; small sums with as many digits as say something."""
    digits = 2 if abs(amount) >= 0.1 or amount == 0 else 4
    return f"{amount:,.{digits}f} {currency}".replace(",", "\u202f").rstrip()


def moment(text: str) -> str:
    """A moment of the API (ISO 8601, UTC) to the minute: ``2026-11-22 22:01``."""
    return f"{text[:10]} {text[11:16]}"


def age(text: str, now: float) -> float:
    """Seconds since a moment of the API.

    Args:
        text: ISO 8601 in UTC, with up to seven fractional digits.
        now: seconds since the epoch.

    """
    return now - datetime.fromisoformat(text[:19] + "+00:00").timestamp()
