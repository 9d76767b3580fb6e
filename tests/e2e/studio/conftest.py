"""Studio in a browser: Debian's Chromium, a hub of its own, and axe-core."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from tests.e2e.studio.browser import CHROMIUM, chromium, visit
from tests.e2e.studio.scene import settle
from tests.hub.conftest import Process

AXE = Path(__file__).parents[3] / ".axe" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 120_000
"""Milliseconds after which a page's change counts as never coming; nothing is measured by it."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("studio"))  # one browser at a time on a small machine
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="module")
def browser():
    """Closed with its module: what drives it keeps the thread's event loop."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: Studio is not tried in a browser; `make browser` as root installs it")
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def axe():
    """The text of axe-core."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: pages are not searched for barriers; `make browser` installs it")
    return AXE.read_text()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A hub with versions, devices and rollouts that devices have answered: its process and its operator."""
    hub = Process(tmp_path_factory.mktemp("scene") / "hub", FARSHORE_HUB_BUILDERS="0")
    try:
        operator = hub.operator()
        settle(operator)
        yield hub, operator
    finally:
        hub.end()


@pytest.fixture
def look(browser):
    """Open Studio of a hub as its operator; ``look(url, token, theme=…)`` is a page."""
    with contextlib.ExitStack() as stack:

        def opened(url, token, **more):
            page = stack.enter_context(visit(browser, url, token, **more))
            page.set_default_timeout(PATIENCE)
            return page

        yield opened


def token_of(operator):
    return operator.headers["Authorization"].removeprefix("Bearer ")
