"""Azurite, Microsoft's own stand-in for Blob Storage, as a process on a free port; for tests that need a real far side."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest
import urllib3

PLACE = Path(__file__).parents[1] / ".azurite"
MAIN = PLACE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "farshore"
PATIENCE = 60.0


class Azurite:
    """A storage account while inside the ``with``; its containers are made by :meth:`container`.

    Attributes:
        environment: what the tools of Azure, and so ours, read to find the account.
        url: of the account.

    """

    def __init__(self, folder: Path) -> None:
        if not MAIN.exists() or shutil.which("node") is None:
            pytest.skip("Azurite is not installed, so nothing is tried against Blob Storage: make azurite (needs npm)")
        self._key = os.urandom(64)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._folder = folder
        self.url = f"http://127.0.0.1:{self._port}/{ACCOUNT}"
        self.environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(self._key).decode(),
            "AZURE_STORAGE_ENDPOINT": self.url,
            "AZURE_ALLOW_HTTP": "true",
        }

    def __enter__(self) -> Self:
        arguments = ["--disableTelemetry", "--silent", "--location", str(self._folder), "--skipApiVersionCheck"]
        self._process = subprocess.Popen(
            ["node", str(MAIN), *arguments, "--blobHost", "127.0.0.1", "--blobPort", str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.environment['AZURE_STORAGE_ACCOUNT_KEY']}"},
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return self
            time.sleep(0.05)
        self.__exit__()
        raise AssertionError("Azurite did not begin to listen")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def container(self, name: str) -> str:
        """Make a container, and give its address as the hub takes it (``--store``)."""
        assert self._ask("PUT", f"/{name}", "restype:container") == 201
        return f"az://{name}"

    def _ask(self, method: str, path: str, query: str) -> int:
        """One request signed with the account's key: learn.microsoft.com, "Authorize with Shared Key"."""
        stamp = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"x-ms-date": stamp, "x-ms-version": "2023-11-03"}
        canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
        said = f"{method}{chr(10) * 12}{canonical}/{ACCOUNT}/{ACCOUNT}{path}\n{query}"
        code = base64.b64encode(hmac.digest(self._key, said.encode(), hashlib.sha256)).decode()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{code}"
        address = f"{self.url}{path}?{query.replace(':', '=')}"
        return urllib3.request(method, address, headers=headers, retries=False).status
