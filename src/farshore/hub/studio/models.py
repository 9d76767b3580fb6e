"""Pages of models and their versions."""

from __future__ import annotations

from farshore.hub.studio.page import Page, Shown, Visit

PAGE = 50


async def models(visit: Visit) -> Shown:
    search = visit.asked("search")
    found = await visit.get("models", search=search, after=visit.asked("after"), limit=PAGE)
    return Shown("models.html", {"models": found["items"], "next": found.get("next"), "search": search})


PAGES = (Page("/studio/models", models, "models"),)
