"""The main story, told in a browser over a real hub and real devices: enrol, look, roll out what fails, read why, roll back."""

import re
import shlex

import pytest
from tests.e2e.conftest import wait_for
from tests.e2e.studio.browser import visit
from tests.e2e.studio.conftest import PATIENCE

from farshore.cli.world import Process, World, assets, free_port
from farshore.core import wire

MODEL = "detector"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What ``farshore up`` starts: a hub, and a device that runs version 1; 2 and 3 are there, and 3 is broken."""
    with World(tmp_path_factory.mktemp("world") / "up", rate=4_000_000) as found:
        found.start_hub()
        found.add_device("turbine-7", {"site": "oslo"}, runtimes="onnxruntime")
        for version in ("v1", "v2", "v3"):
            found.hub.push(MODEL, [assets() / version])
        found.hub.put_deployment("prod", model=f"{MODEL}@1", selector="*")
        wait_for(lambda: runs(found, "turbine-7") == 1, "turbine-7 runs version 1")
        yield found


def runs(world, device):
    said = wire.reported_models(world.hub.twin(device)["properties"]["reported"]).get(MODEL)
    return said.current.version if said and said.current else None


@pytest.fixture
def page(browser, world):
    token = (world.folder / "hub" / "admin.token").read_text().strip()
    with visit(browser, world.url, token) as found:
        found.set_default_timeout(PATIENCE)
        yield found


def plan(page, version, **fields):
    """Plan a rollout on its page; what it said."""
    page.goto(f"/studio/rollouts/new?model={MODEL}@{version}")
    assert page.is_disabled("#go"), "nothing is started unplanned"
    page.fill("[name=deployment]", "prod")
    for name, value in fields.items():
        page.fill(f"[name='{name.replace('__', '.')}']", value)
    page.click("[name=plan]")
    page.wait_for_selector("#planned:not([hidden])")
    page.wait_for_selector("#go:enabled")
    return {name: page.inner_text(f"[data-plan={name}]") for name in ("brings", "devices", "bytes", "cannot")}


def test_a_device_is_enrolled_by_what_the_page_says(page, world):
    page.goto("/studio/enrol")
    page.fill("[name=device]", "buoy-12")
    page.fill("[data-pairs=tags]", "site=bergen, link=lte")
    page.click("#enrol button")
    page.wait_for_selector("#qr svg path")
    command = shlex.split(page.inner_text("#command"))
    assert command[:2] == ["farshore", "agent"]
    root = world.folder / "buoy-12"
    root.mkdir()
    given = dict(zip(command[2::2], command[3::2], strict=True)) | {"--root": str(root), "--trial": "2", "--wait": "5"}
    port = str(free_port())
    server = Process(["serve", "--root", str(root), "--port", port, "--runtimes", "onnxruntime"], root / "serve.log")
    agent = Process(["agent", *(word for pair in given.items() for word in pair)], root / "agent.log")
    server.start()
    agent.start()
    try:
        page.goto("/studio/devices?where=tags.site+%3D+'bergen'")
        page.wait_for_selector(f"#devices td:has-text('{MODEL}@1')")  # it comes by itself, by server-sent events
        page.click("text=buoy-12")
        page.wait_for_selector(f"text=buoy-12 runs {MODEL}@1")
        page.click("text=Timeline")
        assert "Enrolled" in page.inner_text("#timeline")
    finally:
        agent.stop()
        server.stop()
    page.goto("/studio/devices/buoy-12")
    page.click("[data-opens=revoke]")
    assert "worth nothing" in page.inner_text("#revoke")
    page.fill("#revoke [name=reason]", "lent for a test")
    page.click("#revoke button.danger")
    page.wait_for_selector("text=lent for a test")
    assert world.hub.device("buoy-12")["state"] == "revoked"
    page.click("[data-opens=delete]")
    page.click("#delete button.danger")
    page.wait_for_url("**/studio/devices")
    assert "buoy-12" not in page.inner_text("main")


def test_a_gate_that_fails_rolls_back_and_says_why(page, world):
    said = plan(page, 3, waves="100%", gate__soak="0")
    assert (said["brings"], said["devices"], said["cannot"]) == (f"{MODEL}@3", "1", "0")
    assert re.fullmatch(r"[\d.]+ [kM]?B", said["bytes"])
    page.fill("[name=waves]", "1,100%")
    assert page.is_disabled("#go"), "another form needs another plan"
    page.click("[name=plan]")
    page.wait_for_selector("#go:enabled")
    page.click("#go")
    page.wait_for_url("**/studio/rollouts/prod-3")
    page.wait_for_selector("#progress .badge:has-text('rolled back')")
    reason = page.inner_text("#progress .note")
    assert "1 of 1 devices failed" in reason
    assert "acceptance" in reason
    page.click("#progress a:has-text('turbine-7')")
    page.wait_for_selector(f"text=turbine-7 runs {MODEL}@1")
    page.goto("/studio/devices/turbine-7/timeline")
    assert f"{MODEL}@3 failed" in page.inner_text("#timeline")
    assert runs(world, "turbine-7") == 1


def test_a_rollout_is_steered_and_rolled_back_by_hand(page, world):
    plan(page, 2, waves="100%", gate__soak="30")
    page.click("#go")
    page.wait_for_url("**/studio/rollouts/prod-2")
    page.click("[data-opens=pause]")
    assert "nobody else gets it" in page.inner_text("#pause")
    page.click("#pause button.primary")
    page.wait_for_selector("#progress .badge:has-text('paused')")
    page.click("[data-opens=resume]")
    page.click("#resume button.primary")
    page.wait_for_selector("#progress .badge:has-text('running')")
    wait_for(lambda: runs(world, "turbine-7") == 2, "turbine-7 runs version 2")
    page.click("[data-opens=rollback]")
    text = page.inner_text("#rollback")
    assert f"{MODEL}@1" in text
    assert "not moved again" in text
    page.fill("#rollback [name=reason]", "the pilots want the old one")
    page.click("#rollback button.danger")
    page.wait_for_selector("text=the pilots want the old one")
    wait_for(lambda: runs(world, "turbine-7") == 1, "turbine-7 is back")
    page.goto("/studio/ledger")
    assert f"{MODEL}@2" in page.inner_text("main")
    page.goto("/studio/telemetry")
    assert "prod-2" in page.inner_text("main")


def test_a_twin_is_edited_and_checked(page, world):
    page.goto("/studio/devices/turbine-7/twin")
    page.fill("[name=tags]", '{"site": "oslo",')
    page.click("#twin button.primary")
    page.wait_for_selector("#twin output.bad:not([hidden])")
    assert page.get_attribute("[name=tags]", "aria-invalid") == "true"
    page.fill("[name=tags]", '{"site": "oslo", "ring": "early"}')
    page.fill("[name=desired]", page.input_value("[name=desired]").replace("{", '{"interval": 30, ', 1))
    page.click("#twin button.primary")
    page.wait_for_selector("text=early")
    twin = world.hub.twin("turbine-7")
    assert twin["tags"]["ring"] == "early"
    assert twin["properties"]["desired"]["interval"] == 30
    world.hub.put_deployment(
        "prod", model=f"{MODEL}@2", selector="*"
    )  # what was read and sent back holds nothing by hand
    wait_for(lambda: runs(world, "turbine-7") == 2, "turbine-7 follows its deployment")


def test_a_selector_is_refused_at_its_column(page):
    answer = page.request.get("/studio/devices?where=tags.site+%3D+oslo")
    assert answer.status == 400
    text = answer.text()
    assert "column 13" in text
    assert "tags.site = <mark>o</mark>slo" in text


def test_a_device_waits_is_approved_and_quarantined(page, world):
    from tests.sim.devices import enrol_body

    made = world.hub.create_enrolment("gate-1", {"site": "oslo"}, approval=True)
    page.request.post("/device/v1/enrol", data=enrol_body("gate-1", made["token"]))
    assert world.hub.device("gate-1")["state"] == "pending"
    page.goto("/studio/enrol")
    page.click("#waiting li:has-text('gate-1') button")
    page.wait_for_selector("#waiting:not(:has-text('gate-1'))")
    assert world.hub.device("gate-1")["state"] == "accepted"
    page.goto("/studio/devices/gate-1")
    page.click("[data-opens=quarantine]")
    page.fill("#quarantine [name=reason]", "looks tampered with")
    page.click("#quarantine button.danger")
    page.wait_for_selector("text=looks tampered with")
    page.goto("/studio/devices?state=quarantined")
    assert "gate-1" in page.inner_text("#devices")
    page.goto("/studio")
    assert "looks tampered with" in page.inner_text("main")
