"""Settings: who may do what, by which keys, at what price; and who did what."""

from __future__ import annotations

from typing import Any

from farshore.hub.studio.page import Page, Shown, Visit

AUDIT = 50
SOON = 30 * 86400.0
"""Before what is signed expires: time in which somebody should sign anew. What the hub signs itself it renews by itself."""
ONLINE = ("snapshot", "timestamp")
"""Roles that the hub signs anew by itself, often."""


async def operators(visit: Visit) -> Shown:
    return Shown("operators.html", {"operators": await visit.get_if_allowed("operators"), "tab": "operators"})


async def tokens(visit: Visit) -> Shown:
    return Shown("tokens.html", {"tokens": await visit.get("tokens"), "tab": "tokens"})


async def keys(visit: Visit) -> Shown:
    trust, hub = await visit.get_all(visit.get("trust"), visit.get("hub"))
    values = {"roles": signed(trust), "development": trust["development"], "hub": hub, "soon": SOON, "tab": "keys"}
    return Shown("keys.html", values)


async def links(visit: Visit) -> Shown:
    return Shown("links.html", {"links": await visit.get("links"), "tab": "links"})


async def audit(visit: Visit) -> Shown:
    search, before = visit.asked("search"), visit.asked("before")
    found = await visit.get_if_allowed("audit", search=search, before=before, limit=AUDIT)
    values = {"lines": None if found is None else found[::-1], "search": search, "full": found and len(found) == AUDIT}
    return Shown("audit.html", {**values, "tab": "audit"})


def signed(trust: dict[str, Any]) -> list[dict[str, Any]]:
    """Each role's newest document: who signed, and until when it holds.

    Args:
        trust: as ``GET /v1/trust`` answers.

    Returns:
        by role: its ``version``, when it ``expires``, the ids of the ``keys`` that signed, and whether the hub renews it by itself.

    """
    documents = {"root": trust["roots"][-1], **trust["documents"]} if trust["roots"] else trust["documents"]
    return [
        {
            "role": role,
            "version": one["signed"]["version"],
            "expires": one["signed"]["expires"],
            "keys": [each["keyid"] for each in one["signatures"] if each.get("sig")],
            "renewed": trust["development"] or role in ONLINE,
        }
        for role, one in documents.items()
    ]


PAGES = (
    Page("/studio/settings", tokens, "settings"),
    Page("/studio/settings/operators", operators, "settings"),
    Page("/studio/settings/keys", keys, "settings"),
    Page("/studio/settings/links", links, "settings"),
    Page("/studio/settings/audit", audit, "settings"),
)
