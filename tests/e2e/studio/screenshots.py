"""``make screenshots``: every page of Studio, both themes, phone and desktop, three languages, of a fleet made here.

Run as ``python -m tests.e2e.studio.screenshots [FOLDER]``; pictures are WebP, a few kilobytes each.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tests.e2e.studio.browser import chromium, visit
from tests.e2e.studio.scene import ASSETS, MODEL, settle
from tests.hub.conftest import Process

from farshore.hub.studio.languages import LANGUAGES

TALLEST = 1200
QUALITY = 35
PAGES = {
    "overview": "/studio",
    "models": "/studio/models",
    "model": f"/studio/models/{MODEL}",
    "version": f"/studio/models/{MODEL}/versions/2",
    "compare": f"/studio/models/{MODEL}/compare?from=1&to=2",
    "try": f"/studio/models/{MODEL}/versions/2/try",
    "upload": "/studio/upload",
    "devices": "/studio/devices",
    "device": "/studio/devices/buoy-00",
    "twin": "/studio/devices/buoy-00/twin",
    "timeline": "/studio/devices/buoy-00/timeline",
    "enrol": "/studio/enrol",
    "rollouts": "/studio/rollouts",
    "new-rollout": "/studio/rollouts/new",
    "rollout": "/studio/rollouts/turbines-2",
    "ledger": "/studio/ledger",
    "telemetry": "/studio/telemetry",
    "settings": "/studio/settings",
    "operators": "/studio/settings/operators",
    "keys": "/studio/settings/keys",
    "links": "/studio/settings/links",
    "audit": "/studio/settings/audit",
}


def prepare(page, name):
    """What a page shows only when it is used."""
    if name == "try":
        page.set_input_files("#picture", min((ASSETS / "pictures").glob("*.jpg")))
        page.wait_for_selector("#found tr", timeout=90_000)


def take(page, path):
    """The page as it is, no taller than :data:`TALLEST`."""
    data = page.screenshot(full_page=True, animations="disabled")
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.crop((0, 0, picture.width, min(picture.height, TALLEST))).save(path, "WEBP", quality=QUALITY, method=6)


def looks():
    """Every width, theme and language."""
    return itertools.product(("desktop", "phone"), ("light", "dark"), LANGUAGES)


def walk(browser, url, token, folder, width, theme, language):
    with visit(browser, url, token, theme=theme, width=width, language=language) as page:
        for name, path in PAGES.items():
            answer = page.goto(path)
            assert answer.status == 200, (path, answer.status)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, f"{path} is {over} pixels too wide for a {width}"
            page.wait_for_timeout(100)
            prepare(page, name)
            take(page, folder / f"{name}-{width}-{theme}-{language}.webp")


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        hub = Process(Path(place) / "hub", FARSHORE_HUB_BUILDERS="1")
        try:
            operator = hub.operator()
            settle(operator)
            token = operator.headers["Authorization"].removeprefix("Bearer ")
            with chromium() as browser:
                for look in looks():
                    walk(browser, hub.url, token, folder, *look)
        finally:
            hub.end()
    pictures = sorted(folder.glob("*.webp"))
    print(f"{len(pictures)} pictures, {sum(one.stat().st_size for one in pictures) / 1e6:.2f} MB, in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/screenshots"))
