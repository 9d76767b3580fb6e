"""The page at ``/``: what it may do, and that it does its work in a browser, where there is one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from farshore.serve import pages

from .conftest import Client, Device, picture, serve

PAGE = pages.index()
CHROMIUM = shutil.which("chromium")


def test_its_policy_lets_only_itself_run() -> None:
    text = PAGE.body.decode()
    policy = re.search(r"Content-Security-Policy: (.*)\r\n", PAGE.headers)[1]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for directive in ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "connect-src 'self'"):
        assert directive in policy


def test_it_needs_nothing_from_elsewhere() -> None:
    text = PAGE.body.decode()
    assert not re.search(r"https?://|//\w+\.\w+/", text)
    assert not re.search(r"\son\w+=|style=|innerHTML|eval\(", text), (
        "nothing that its policy forbids or that could inject"
    )
    assert 'name="viewport"' in text
    assert 'lang="en"' in text
    assert "prefers-color-scheme: dark" in text
    assert ":focus-visible" in text


def test_it_is_served(device: Device) -> None:
    async def main(client: Client) -> None:
        status, headers, body = await client.get("/")
        assert (status, headers["content-type"], body) == (200, "text/html; charset=utf-8", PAGE.body)
        assert headers["x-content-type-options"] == "nosniff"
        assert (await client.ask("POST", "/"))[0] == 405

    serve(device, main)


class Browser:
    """A tab, spoken to in its own debugging protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.complaints: list[Any] = []

    async def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=30)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            if message["method"] in {"Log.entryAdded", "Runtime.exceptionThrown"}:
                self.complaints.append(message["params"])

    async def text(self, script: str) -> Any:
        return (await self.call("Runtime.evaluate", expression=script))["result"].get("value")

    async def until(self, script: str) -> None:
        async with asyncio.timeout(30):
            while not await self.text(script):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def choose(self, path: Path) -> None:
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.call("DOM.querySelector", nodeId=root, selector="#file"))["nodeId"]
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


@asynccontextmanager
async def browser(width: int, height: int) -> Any:
    aiohttp = pytest.importorskip("aiohttp")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
            f"--user-data-dir={home}", "about:blank",
            stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                while not (found := re.search(rb"ws://([^/]+)/", await process.stderr.readline())):
                    assert process.returncode is None
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{found[1].decode()}/json") as reply:
                    tab = next(each for each in await reply.json() if each["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    tab = Browser(socket)
                    for domain in ("Page", "Runtime", "Log", "DOM"):
                        await tab.call(f"{domain}.enable")
                    await tab.call(
                        "Emulation.setDeviceMetricsOverride",
                        width=width,
                        height=height,
                        deviceScaleFactor=1,
                        mobile=width < 600,
                    )
                    yield tab
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("size", [(390, 780), (1280, 800)], ids=["phone", "desk"])
def test_a_picture_is_asked_about_and_shown(device: Device, tmp_path: Path, size: tuple[int, int]) -> None:
    device.colours(4, activate=True)
    device.colours(9, model="other", activate=True)
    (tmp_path / "red.png").write_bytes(picture((255, 0, 0), (300, 200)))
    (tmp_path / "broken.png").write_bytes(b"nonsense")

    async def main(client: Client) -> None:
        await client.ready()
        async with browser(*size) as tab:
            await tab.call("Page.navigate", url=f"http://127.0.0.1:{client.server.port}/")
            await tab.until("document.querySelectorAll('#model option').length === 2")
            await tab.choose(tmp_path / "red.png")
            await tab.until("document.getElementById('state').textContent.includes('finding')")
            assert await tab.text("document.querySelector('#found li').innerText.replace(/\\s+/g, ' ')") == "red4 1.00"
            assert "colours @ 4" in await tab.text("document.getElementById('facts').innerText")
            pixel = await tab.text("Array.from(canvas.getContext('2d').getImageData(250, 150, 1, 1).data).join()")
            assert pixel == "255,0,0,255"
            await tab.text("model.value = 'other'; model.dispatchEvent(new Event('change'))")
            await tab.until("document.querySelector('#found li')?.innerText.includes('red9')")
            await tab.text("threshold.value = '0.5'; threshold.dispatchEvent(new Event('input'));"
                           "threshold.dispatchEvent(new Event('change'))")  # fmt: skip
            await tab.until("document.querySelectorAll('#found li').length === 1")
            await tab.choose(tmp_path / "broken.png")
            await tab.until("document.getElementById('state').textContent.includes('not a picture')")
            assert await tab.text("document.documentElement.scrollWidth") == size[0], "nothing to scroll sideways"
            refused = [each for each in tab.complaints if "400" not in str(each)]
            assert not refused

    serve(device, main)
