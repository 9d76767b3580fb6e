"""Models in a browser: a file is dropped and becomes a version, a picture is tried, and pages are read with and without scripts."""

import pytest

pytest.importorskip("playwright")
pytest.importorskip("onnxruntime")

from tests.e2e.studio.browser import visit
from tests.e2e.studio.scene import ASSETS, MODEL, push
from tests.hub.conftest import Process

WAIT = 120_000


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    hub = Process(tmp_path_factory.mktemp("studio") / "hub")
    push(hub.operator(), "v1", alias="champion")
    yield hub
    hub.end()


@pytest.fixture
def page(running, browser):
    token = running.operator().headers["Authorization"].removeprefix("Bearer ")
    # What the hub refuses, and what the policy stops, the browser tells its console as well.
    with visit(browser, running.url, token, expected=("400 (Bad Request)", "Content Security Policy")) as found:
        yield found


def files(version):
    return [str(path) for path in sorted((ASSETS / version).rglob("*")) if path.is_file()]


def test_files_become_a_version(page, running):
    page.goto("/studio/upload")
    page.set_input_files("#files", files("v2"))
    page.wait_for_selector("#variants tr >> nth=1", timeout=WAIT)
    assert "tiny-yolov3" in page.inner_text("#variants")
    page.fill("#push input[name=name]", MODEL)
    page.fill("#push input[name=parent]", f"{MODEL}@1")
    page.fill("#push textarea[name=tags]", "stage=test\nfrom=browser")
    page.click("#push button.primary")
    page.wait_for_url("**/versions/2", timeout=WAIT)
    found = running.operator().get(f"/v1/models/{MODEL}/versions/2")
    assert found["tags"] == {"stage": "test", "from": "browser"} and found["lineage"]["parent"]["version"] == 1
    assert len(found["manifest"]["acceptance"]) == 2


def test_what_cannot_be_recognised_is_said_and_can_be_told(page):
    page.goto("/studio/upload")
    page.set_input_files("#files", str(ASSETS / "v1" / "labels.txt"))
    page.wait_for_selector("#said:not([hidden])", timeout=WAIT)
    assert "model" in page.inner_text("#said")
    page.set_input_files("#files", str(ASSETS / "v1" / "detector.tflite"))
    page.wait_for_selector("#variants tr", timeout=WAIT)
    page.fill("#push textarea[name=overrides]", "[input]\nnonsense = 1\n")
    page.dispatch_event("#push textarea[name=overrides]", "change")
    page.wait_for_selector("#said.bad:not([hidden])", timeout=WAIT)
    assert "nonsense" in page.inner_text("#said")


def test_a_picture_is_answered_and_drawn_on(page):
    page.goto(f"/studio/models/{MODEL}/versions/1/try")
    page.click("[data-sample]")
    page.wait_for_selector("#found tr", timeout=WAIT)
    assert "sailboat" in page.inner_text("#found")
    before = page.evaluate("document.getElementById('canvas').toDataURL().length")
    assert before > 10_000
    page.evaluate(
        "const range = document.getElementById('threshold'); range.value = 100; range.dispatchEvent(new Event('change'))"
    )
    page.wait_for_selector("#said:not([hidden])", timeout=WAIT)
    page.wait_for_selector("#found tr", state="detached", timeout=WAIT)


def test_a_page_is_told_of_what_others_do(page, running):
    page.goto("/studio/models")
    running.operator().ask("PATCH", f"/v1/models/{MODEL}", json={"title": "what sails by"})
    page.wait_for_selector("text=what sails by", timeout=WAIT)


def test_by_the_keyboard_alone(page):
    page.goto("/studio")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/studio/models")
    page.keyboard.press("/")
    page.keyboard.type("nothing like it")
    page.keyboard.press("Enter")
    page.wait_for_url("**search=nothing**")
    assert "No model fits" in page.inner_text("main")


def test_a_setup_link_and_a_token_are_shown_once(page, running):
    page.goto("/studio/settings/operators")
    page.fill("#operator input[name=operator]", "kari")
    page.fill("#operator input[name=grants]", "operator:north viewer")
    page.click("#operator button.primary")
    page.wait_for_selector("#setup-link:visible", timeout=WAIT)
    link = page.inner_text("#setup-link")
    [kari] = [one for one in running.operator().get("/v1/operators") if one["name"] == "kari"]
    assert kari["grants"] == [{"role": "operator", "fleet": "north"}, {"role": "viewer", "fleet": "*"}]
    page.goto(link)
    page.fill("input[name=one]", "correct horse battery staple")
    page.fill("input[name=two]", "correct horse battery staple")
    page.click("#setup button")
    page.wait_for_selector("#done:visible", timeout=WAIT)
    page.goto("/studio/settings")
    page.fill("#token input[name=name]", "nightly")
    page.fill("#token input[name=seconds]", "2")
    page.click("#token button.primary")
    page.wait_for_selector("#new-token:visible", timeout=WAIT)
    assert len(page.inner_text("#new-token")) > 20
    assert any(one["name"] == "nightly" for one in running.operator().get("/v1/tokens"))


def test_without_scripts_everything_is_read_and_nothing_is_offered(running, browser):
    context = browser.new_context(java_script_enabled=False, base_url=running.url)
    page = context.new_page()
    page.goto("/studio/models")
    assert page.url.startswith(f"{running.url}/login")
    page.fill("input[name=token]", running.operator().headers["Authorization"].removeprefix("Bearer "))
    page.click("form:has(input[name=token]) button")
    assert page.url == f"{running.url}/studio/models"
    assert MODEL in page.inner_text("main")
    page.goto(f"/studio/models/{MODEL}")
    assert not page.is_visible("form[data-api] button") and "farshore model alias" in page.inner_text("main")
    page.click("summary:has-text('development')")
    page.click("text=한국어")
    assert page.get_attribute("html", "lang") == "ko"
    context.close()


def test_the_policy_stops_what_is_slipped_in(page):
    page.goto("/studio/models")
    blocked = page.evaluate(
        """() => new Promise((done) => {
          document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
          const script = document.createElement("script");
          script.textContent = "window.slipped = true";
          document.head.append(script);
          setTimeout(() => done("nothing"), 2000);
        })"""
    )
    assert blocked.startswith("script-src") and page.evaluate("window.slipped") is None
