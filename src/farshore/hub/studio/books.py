"""Pages of the ledger and of telemetry: what was moved and at what price, and how versions did."""

from __future__ import annotations

import re
from typing import Any

from farshore.hub import moments
from farshore.hub.studio import charts, figures
from farshore.hub.studio.page import Page, Shown, Visit

MONTHS = 12
TOP = 10
LITTLE, MUCH = 0.1, 0.25
"""Of a population stability index, by custom: below the first little has changed, above the second much."""


async def ledger(visit: Visit) -> Shown:
    this = moments.text(visit.hub.clock())[:7]
    month = visit.asked("month") if re.fullmatch(r"[0-9]{4}-[0-9]{2}", visit.asked("month")) else this
    span = {"since": f"{month}-01", "until": f"{month}-31"}
    days, links, spenders, saved, months = await visit.get_all(
        visit.get_if_allowed("ledger", by="day,model", **span),
        visit.get_if_allowed("ledger", by="link", **span),
        visit.get_if_allowed("ledger", by="device", limit=TOP, **span),
        visit.get_if_allowed("savings", **span),
        visit.get_if_allowed("ledger", by="month"),
    )
    if days is None:
        return Shown("ledger.html", {"barred": True})
    models = sorted({one["model"] for one in days})
    colours = {name: f"c{place % charts.COLOURS}" for place, name in enumerate(models)}
    values = {
        "barred": False,
        "month": month,
        "months": sorted({this, *(one["month"] for one in months)}, reverse=True)[:MONTHS],
        "bytes": sum(one["bytes"] for one in days),
        "whole": sum(one["whole"] for one in saved),
        "paid": spent(days),
        "models": colours,
        "chart": charts.columns(by_day(days, colours), figures.size, visit.t("ledger.chart", month=month)),
        "days": days,
        "links": links,
        "spenders": spenders,
        "saved": saved,
        "span": span,
    }
    return Shown("ledger.html", values)


async def telemetry(visit: Visit) -> Shown:
    models = (await visit.get("models", limit=200))["items"]
    name = visit.asked("model") or (models[0]["name"] if models else "")
    found = await visit.get("models", name, "behaviour") if name else []
    rows = [{**one, "drift": drift(one), "curves": curves(visit, one)} for one in found]
    return Shown("telemetry.html", {"models": [one["name"] for one in models], "model": name, "rows": rows})


def spent(rows: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """Money of the ledger's sums, by currency."""
    sums: dict[str, float] = {}
    for one in rows:
        if one["currency"]:
            sums[one["currency"]] = sums.get(one["currency"], 0.0) + one["money"]
    return [(amount, currency) for currency, amount in sorted(sums.items())]


def by_day(rows: list[dict[str, Any]], colours: dict[str, str]) -> list[tuple[str, list[tuple[str, float, str]]]]:
    """Columns of the chart: each day that anything was moved on, with what of which model."""
    days: dict[str, dict[str, float]] = {}
    for one in rows:
        day = days.setdefault(one["day"], {})
        day[one["model"]] = day.get(one["model"], 0.0) + one["bytes"]
    return [
        (day[8:], [(model, amount, colours[model]) for model, amount in sorted(parts.items())])
        for day, parts in sorted(days.items())
    ]


def drift(one: dict[str, Any]) -> str:
    """How far confidences moved, as a word: ``little``, ``some`` or ``much``; "" if nothing was compared."""
    index = one.get("score_shift")
    if index is None:
        return ""
    return "little" if index < LITTLE else "some" if index < MUCH else "much"


def curves(visit: Visit, one: dict[str, Any]) -> str:
    """Both versions' confidences; "" where none are known."""
    lines = []
    for key, colour in (("scores_before", "c7"), ("scores_after", "c0")):
        bins = one.get(key) or ()
        if sum(bins):
            lines.append((visit.t(f"telemetry.{key}"), [count / sum(bins) for count in bins], colour))
    return charts.curves(lines, visit.t("telemetry.curves"), ("0", "1")) if lines else ""


PAGES = (Page("/studio/ledger", ledger, "ledger"), Page("/studio/telemetry", telemetry, "telemetry"))
