"""Debian's Chromium, driven through Studio as a visitor does."""

from __future__ import annotations

import contextlib
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--hide-scrollbars",
]  # fmt: skip
WIDTHS = {"desktop": (1280, 860), "phone": (390, 844)}


@contextlib.contextmanager
def chromium():
    """The browser, with an empty profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def visit(browser, url, token, *, theme="light", width="desktop", language="en", expected=()):
    """A page of somebody who is logged in; what its console complains about, or asks of elsewhere, is an error at the end, save what
    has one of the words ``expected`` in it.
    """
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = browser.new_context(
        viewport=size, color_scheme=theme, locale=language, base_url=url, reduced_motion="reduce"
    )
    page = context.new_page()
    wrong = []
    try:
        page.goto("/login")
        page.fill("input[name=token]", token)
        page.click("form:has(input[name=token]) button")
        page.wait_for_url("**/studio")
        page.on("console", lambda said: wrong.append(said.text) if _complains(said) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith((url, "blob:", "data:")) else wrong.append(one.url))
        yield page
        told = [one for one in wrong if not any(part in one for part in expected)]
        assert not told, told
    finally:
        context.close()


def _complains(said):
    """Whether a line of the console is a complaint; that a page itself was answered with 404 is none."""
    return said.type in {"error", "warning"} and not (
        said.text.startswith("Failed to load resource") and "/studio/static/" not in said.location.get("url", "")
    )
