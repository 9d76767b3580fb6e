"""Pages that take files: a new version from the browser, and a picture to try one out."""

from __future__ import annotations

from farshore.hub.studio.page import Page, Shown, Visit
from farshore.hub.tryouts import Tryouts

SUGGESTED = 200
"""Names of models that the form knows beforehand."""


async def upload(visit: Visit) -> Shown:
    models, trust = await visit.get_all(visit.get("models", limit=SUGGESTED), visit.get("trust"))
    name = visit.asked("model")
    values = {"models": [one["name"] for one in models["items"]], "name": name, "signs": trust["development"]}
    return Shown("upload.html", values)


async def try_out(visit: Visit) -> Shown:
    name, which = visit.segment("name"), visit.segment("version")
    one = await visit.get("models", name, "versions", which)
    here = Tryouts.runtimes()
    fits = [each["name"] for each in one["manifest"]["variants"] if each["runtime"] in here]
    return Shown("try.html", {"one": one, "runtimes": here, "fits": fits})


PAGES = (
    Page("/studio/upload", upload, "models"),
    Page("/studio/models/{name}/versions/{version}/try", try_out, "models"),
)
