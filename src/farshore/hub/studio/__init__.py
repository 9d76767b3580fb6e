"""Studio: the hub's own web page, for people.

Rules of the room: a page asks the operator API and nothing else, in the name of whoever looks at it, so that it can show or do
nothing that the API could not (:mod:`.asking`). HTML is made here, on the server; scripts only bring life to what is readable
without them. Everything comes from this hub, and the Content-Security-Policy holds that.
"""

from __future__ import annotations

from starlette.routing import Route

from farshore.hub.studio import books, devices, entrance, models, overview, rollouts, settings, uploads
from farshore.hub.studio.page import Page, Studio, served

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *models.PAGES,
    *uploads.PAGES,
    *devices.PAGES,
    *rollouts.PAGES,
    *books.PAGES,
    *settings.PAGES,
)
"""Every page behind the log-in."""


def routes() -> list[Route]:
    """All addresses of Studio, for the hub's application."""
    return [*entrance.ROUTES, *(served(one) for one in PAGES)]


__all__ = ["PAGES", "Page", "Studio", "routes"]
