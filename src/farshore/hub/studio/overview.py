"""The overview: how the fleet stands, what moves, what it costs, and what wants somebody's eye."""

from __future__ import annotations

from typing import Any

from farshore.hub import moments
from farshore.hub.studio.page import Page, Shown, Visit

MOVING = 6
"""Rollouts in motion that are shown with their figures."""


async def overview(visit: Visit) -> Shown:
    since = moments.text(visit.hub.clock())[:8] + "01"
    summary, moved, saved = await visit.get_all(
        visit.get("summary"),
        visit.get_if_allowed("ledger", by="month", since=since),
        visit.get_if_allowed("savings", since=since),
    )
    named = summary["moving"][:MOVING]
    moving = await visit.get_all(*(visit.get_if_allowed("rollouts", one) for one in named))
    return Shown(
        "overview.html",
        {
            "fleet": summary,
            "month": since[:7],
            "since": since,
            "spent": None if moved is None or saved is None else spent(moved, saved),
            "moving": [rolling(one) for one in moving if one is not None],
            "still": max(len(summary["moving"]) - MOVING, 0),
        },
    )


def spent(moved: list[dict[str, Any]], saved: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes and money against whole files.

    Args:
        moved: the ledger's sums, by currency.
        saved: by version, ``bytes`` and ``whole``.

    Returns:
        ``bytes`` moved and ``whole`` instead; ``money``: (moved, whole at the same price, currency), by currency.

    """
    count, whole = (sum(one[name] for one in saved) for name in ("bytes", "whole"))
    share = whole / count if count else 1.0
    sums: dict[str, float] = {}
    for one in moved:
        if one["currency"]:
            sums[one["currency"]] = sums.get(one["currency"], 0.0) + one["money"]
    return {
        "bytes": count,
        "whole": whole,
        "money": [(amount, amount * share, currency) for currency, amount in sorted(sums.items())],
    }


def rolling(status: dict[str, Any]) -> dict[str, Any]:
    """A rollout as the overview shows it: its devices over all waves by what they said."""
    tallies = [one["tally"] for one in status["waves"]]
    admitted, confirmed, failed = (
        sum(one.get(name, 0) for one in tallies) for name in ("admitted", "confirmed", "failed")
    )
    return {**status, "confirmed": confirmed, "failed": failed, "under_way": max(admitted - confirmed - failed, 0)}


PAGES = (Page("/studio", overview, "overview"),)
