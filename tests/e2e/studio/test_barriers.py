"""axe-core finds nothing on any page that would keep somebody out, in both lights, wide and narrow."""

import pytest
from tests.e2e.studio.conftest import token_of
from tests.e2e.studio.screenshots import PAGES

ALL = [
    *PAGES.values(),
    "/studio/devices?where=tags.site+%3D+oslo",
    "/studio/devices/nobody",
    "/studio/rollouts/buoys-3",
]
DIALOGS = {"/studio/devices/buoy-00": ("quarantine", "revoke", "delete"), "/studio/rollouts/turbines-2": ("rollback",)}


def barriers(page, axe):
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (one["id"], node["html"][:160], node["any"][:1] and node["any"][0]["message"])
        for one in found
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    ("theme", "width"), [("light", "desktop"), ("dark", "desktop"), ("light", "phone"), ("dark", "phone")]
)
def test_no_page_has_barriers(look, scene, axe, theme, width):
    hub, operator = scene
    page = look(hub.url, token_of(operator), theme=theme, width=width)
    found = {}
    for path in ALL:
        page.goto(path)
        page.wait_for_load_state()
        if wrong := barriers(page, axe):
            found[path] = wrong
    for path, names in DIALOGS.items():
        page.goto(path)
        for name in names:
            page.click(f"[data-opens={name}]")
            if wrong := barriers(page, axe):
                found[f"{path}#{name}"] = wrong
            page.click(f"#{name} [data-closes]")
    assert not found, found
