"""Pages of models and their versions."""

from __future__ import annotations

from typing import Any

import msgspec

from farshore.core.errors import NotFound
from farshore.hub.roles import EVERY
from farshore.hub.studio.graphics import Node
from farshore.hub.studio.page import HOME, Page, Shown, Visit, segment

PAGE = 50
TENSORS = 100
"""Tensors that a comparison shows; the counts beside them are of all."""


async def models(visit: Visit) -> Shown:
    search = visit.asked("search")
    found = await visit.get("models", search=search, after=visit.asked("after"), limit=PAGE)
    return Shown("models.html", {"models": found["items"], "next": found.get("next"), "search": search})


async def model(visit: Visit) -> Shown:
    name = visit.segment("name")
    about, page = await visit.get_all(
        visit.get("models", name),
        visit.get("models", name, "versions", before=visit.asked("before"), limit=PAGE),
    )
    versions = page["items"]
    return Shown(
        "model.html",
        {
            "model": about,
            "versions": versions,
            "next": page.get("next"),
            "everywhere": everywhere(visit),
            "lineage": lineage(name, versions) if any(one.get("lineage") for one in versions) else [],
        },
    )


async def version(visit: Visit) -> Shown:
    name, which = visit.segment("name"), visit.segment("version")
    one, patches = await visit.get_all(
        visit.get("models", name, "versions", which),
        visit.get("models", name, "versions", which, "patches"),
    )
    return Shown("version.html", {"one": one, "patches": patches, "everywhere": everywhere(visit)})


async def compare(visit: Visit) -> Shown:
    name, sides = visit.segment("name"), [visit.asked("from"), visit.asked("to")]
    page = await visit.get("models", name, "versions", limit=PAGE)
    versions = page["items"]
    if not all(sides):  # nothing chosen yet: the newest against the one before
        newest = [str(one["version"]) for one in versions[:2]]
        if len(newest) < 2:
            raise NotFound(f"{name} has one version alone: there is nothing to compare it with")
        sides = [newest[1], newest[0]]
    before, after, found = await visit.get_all(
        visit.get("models", name, "versions", sides[0]),
        visit.get("models", name, "versions", sides[1]),
        visit.get("models", name, "diff", **{"from": sides[0], "to": sides[1]}),
    )
    return Shown(
        "compare.html",
        {
            "name": name,
            "versions": versions,
            "before": before,
            "after": after,
            "metrics": metrics(said(before), said(after)),
            "changes": [one for one in found["changes"] if one["what"] == "description"],
            "variants": found["variants"],
            "tensors": TENSORS,
        },
    )


def everywhere(visit: Visit) -> bool:
    """Whether the visitor may see devices of every fleet, so that the API counts them."""
    return any(one["fleet"] == EVERY for one in visit.me["grants"])


def lineage(name: str, versions: list[dict[str, Any]]) -> list[Node]:
    """Versions with where they came from, the newest first; parents that are not among them stand at the end."""
    found, others = [], {}
    for one in versions:
        said = one.get("lineage", {})
        parent = said.get("parent")
        key = f"{parent['model']}@{parent['version']}" if parent else ""
        if parent:
            others[key] = parent
        notes = [said.get("operation", ""), *one.get("aliases", ())]
        address = f"{HOME}/models/{segment(name)}/versions/{one['version']}"
        label = str(one["version"])
        found.append(Node(f"{name}@{label}", label, " · ".join(filter(None, notes)), address, key))
    here = {node.key for node in found}
    for key, parent in others.items():
        if key not in here:
            address = f"{HOME}/models/{segment(parent['model'])}/versions/{parent['version']}"
            found.append(Node(key, key, "", address, "", elsewhere=True))
    return found


def said(version: dict[str, Any]) -> dict[str, Any]:
    """What is said of a version beside its content: properties, tags, where it came from."""
    came = dict(version.get("lineage", {}))
    if parent := came.pop("parent", None):
        came["parent"] = f"{parent['model']}@{parent['version']}"
    return {
        **came,
        **{f"tag {key}": one for key, one in version.get("tags", {}).items()},
        **version.get("properties", {}),
    }


def metrics(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Properties of two versions side by side, with the difference of those that are numbers in both."""
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        both = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (old, new))
        found.append(
            {
                "name": key,
                "before": plain(old),
                "after": plain(new),
                "same": old == new,
                "change": f"{new - old:+.6g}" if both and old is not None and new is not None else "",
            }
        )
    return found


def plain(value: Any) -> str:
    """A property as text."""
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


PAGES = (
    Page("/studio/models", models, "models"),
    Page("/studio/models/{name}", model, "models"),
    Page("/studio/models/{name}/compare", compare, "models"),
    Page("/studio/models/{name}/versions/{version}", version, "models"),
)
