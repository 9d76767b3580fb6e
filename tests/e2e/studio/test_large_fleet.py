"""Studio over ten thousand simulated devices: lists, and why a gate failed."""

import random
import time

import pytest
from tests.e2e.studio.browser import visit
from tests.e2e.studio.conftest import PATIENCE, token_of
from tests.hub.conftest import Process

from farshore.hub.rollout import Gate, parse_waves
from farshore.sim.device import Behaviour
from farshore.sim.world import MODEL, Faults, World

DEVICES = 10_000
AWAY = 0.985
"""Share of devices that are away all the time: rows like the others, without the hours that their syncs would take here."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A fleet that ran version 1, met a worse version 2 in a rollout of three waves, and went back by itself."""
    folder = tmp_path_factory.mktemp("fleet") / "hub"
    folder.mkdir()
    chance = random.Random(5)
    world = World(folder, 5, DEVICES, Faults(offline=AWAY), (100_000.0,), start=time.time() - 3600.0)
    try:
        first = world.release({"net.onnx": chance.randbytes(2000)}, Behaviour())
        world.hub.deployments.put("prod", "*", first, 0)
        world.run(120.0)
        second = world.release({"net.onnx": chance.randbytes(2000)}, Behaviour(agreement=0.4))
        gate = Gate(quorum=3, soak=60.0, agreement=0.9)
        world.hub.rollouts.start("worse", "prod", "", second, parse_waves("5,25%,100%"), gate, 0)
        for _ in range(20):
            world.run(60.0)
            if world.hub.rollouts.one("worse")[0].now.state != "running":
                break
        world.run(120.0)
    finally:
        world.close()
    hub = Process(folder, FARSHORE_HUB_BUILDERS="0")
    try:
        yield hub
    finally:
        hub.end()


@pytest.fixture
def page(browser, fleet):
    with visit(browser, fleet.url, token_of(fleet.operator())) as found:
        found.set_default_timeout(PATIENCE)
        yield found


def test_the_overview_counts_them_all(page):
    page.goto("/studio")
    assert "10\u202f000" in page.inner_text("main")
    assert "worse" in page.inner_text("main")


def test_a_list_is_filtered_and_paged(page):
    page.goto("/studio/devices")
    page.keyboard.press("/")
    page.keyboard.type("tags.site = 'site-3' AND tags.ring > 7")
    page.keyboard.press("Enter")
    page.wait_for_url("**where=tags.site*")
    first = page.locator("#devices tbody th").all_inner_texts()
    assert len(first) == 50
    page.click(".more a")
    page.wait_for_url("**after=*")
    second = page.locator("#devices tbody th").all_inner_texts()
    assert len(second) == 50
    assert not {*first} & {*second}
    page.select_option("[name=state]", "quarantined")
    page.click(".filter button")
    page.wait_for_url("**state=quarantined*")
    assert page.locator("#devices tbody tr").count() == 0


def test_why_the_gate_failed_is_read_from_rollout_to_device(page):
    page.goto("/studio/rollouts")
    page.click("#rollouts a:has-text('worse')")
    page.wait_for_url("**/studio/rollouts/worse")
    assert page.inner_text("#progress .badge") == "rolled back"
    reason = page.inner_text("#progress .note")
    assert "wave 1" in reason
    page.click("#progress ul.plain a")
    page.wait_for_selector(f"text=runs {MODEL}@1")
    page.click("text=Timeline")
    page.wait_for_url("**/timeline")
    assert f"{MODEL}@2" in page.inner_text("#timeline")
    page.goto("/studio/telemetry")
    assert "worse" in page.inner_text("#telemetry")
