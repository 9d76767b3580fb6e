"""Trying a version out beside the hub, where a runtime is installed: a picture in, the answer out.

The hub never loads a model. It lays the version into a folder as a device does, and starts ``farshore serve`` on it: that server's
worker is shut in as on devices. One version is up at a time; after some minutes without a question its server ends.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from farshore.core import errors
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import Invalid, Unavailable
from farshore.core.manifest import Manifest, Runtime, Variant, choose_variant
from farshore.hub.records.models import Version
from farshore.hub.registry import Registry
from farshore.store import files
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

MAX_PICTURE = 32 << 20
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
WAIT_SECONDS = 20.0
"""For a try that is under way; the hub has few threads for long work."""
IDLE_SECONDS = 180.0
NEEDED = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert"}
"""Runtime → the package that brings it."""
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
"""Of the hub's environment; the rest is none of a model's business."""
_PORT = re.compile(rb"answering on http://127\.0\.0\.1:([0-9]+)")


@dataclass(slots=True)
class _Server:
    """A server that is up, and when it was asked last (monotonic)."""

    digest: str
    process: subprocess.Popen[bytes]
    port: int
    asked: float


class Tryouts:
    """Tries versions out.

    Args:
        registry: has them.
        folder: for the version that is up; emptied at the start.

    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry, self._folder = registry, folder
        self._lock = threading.Lock()
        self._server: _Server | None = None
        shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def runtimes() -> tuple[str, ...]:
        """Runtimes that are installed beside the hub."""
        if importlib.util.find_spec("PIL") is None:
            return ()
        return tuple(one for one in get_args(Runtime) if importlib.util.find_spec(NEEDED[one]) is not None)

    def answer(self, version: Version, picture: bytes, threshold: float | None = None) -> dict[str, Any]:
        """What a version says to a picture, as ``POST /score`` of the inference server gives it.

        Args:
            version: which; its server is started if it is not up.
            picture: JPEG, PNG or BMP.
            threshold: least score; None for the version's own.

        Raises:
            Invalid: the picture cannot be read, or no variant of the version runs here.
            Unavailable: no runtime is installed, or the server did not come up or answer.

        """
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise Unavailable("another version is being tried out: wait a moment, then try again")
        try:
            server = self._up(version)
            try:
                return _ask(server.port, picture, threshold)
            finally:
                server.asked = time.monotonic()
        finally:
            self._lock.release()

    def rest(self) -> None:
        """End the server that nobody has asked for a while."""
        if self._lock.acquire(blocking=False):
            try:
                if self._server is not None and time.monotonic() - self._server.asked >= IDLE_SECONDS:
                    self._end()
            finally:
                self._lock.release()

    def close(self) -> None:
        """End what is up."""
        with self._lock:
            self._end()

    def _up(self, version: Version) -> _Server:
        found = self._server
        if found is not None and found.digest == version.digest and found.process.poll() is None:
            return found
        self._end()
        variant, manifest = self._variant(version)
        root = self._folder / version.digest[-16:]
        try:
            files.make_folder(root, mode=0o700)
            self._install(root, manifest, variant, Digest(version.digest))
            self._server = _start(root, version.digest)
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise
        return self._server

    def _variant(self, version: Version) -> tuple[Variant, Manifest]:
        runtimes, manifest = self.runtimes(), self._registry.manifest(version)
        if not runtimes:
            raise Unavailable(
                "no runtime is installed beside the hub: pip install 'farshore[onnx]' or 'farshore[litert]'"
            )
        found = choose_variant(manifest, runtimes, sys.maxsize, platform.machine())
        if found is None:
            raise Invalid(f"no variant of {version.model}@{version.number} runs here: there is {', '.join(runtimes)}")
        return found, manifest

    def _install(self, root: Path, manifest: Manifest, variant: Variant, digest: Digest) -> None:
        blobs, slots = Blobs(root / "blobs"), Slots(root)
        for wanted, file in manifest.needed(variant).items():
            with blobs.partial(wanted, file.size) as part:
                for piece in self._registry.objects.chunks(wanted):
                    part.append(piece)
                part.finish()
        slots.install(manifests.encode(manifest), variant, blobs)
        slots.activate(manifest.model, digest)

    def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.process.terminate()
            try:
                server.process.wait(10)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _start(root: Path, digest: str) -> _Server:
    """Start the inference server on ``root`` and wait until it is ready.

    Raises:
        Unavailable: it is not, in time.

    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # Started in its folder, for the system takes only short paths of sockets, and a hub's folder may lie deep; nothing is
    # imported from there.
    command = [sys.executable, "-P", "-m", "farshore.cli", "serve", "--root", ".", "--port", "0", "--threads", "1"]
    log = root / "serve.log"
    with files.translated(log), log.open("wb") as out:
        process = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        told = _PORT.search(log.read_bytes())
        if told is not None and _ready(int(told[1])):
            return _Server(digest, process, int(told[1]), time.monotonic())
        time.sleep(0.05)
    process.kill()
    process.wait()
    said = log.read_text(errors="replace").strip().splitlines()
    raise Unavailable(f"the version does not come up here: {said[-1][-300:] if said else 'its server said nothing'}")


def _ready(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return _request(port, "GET", "/readyz", b"")[0] == 200
    return False


def _ask(port: int, picture: bytes, threshold: float | None) -> dict[str, Any]:
    query = "" if threshold is None else f"?threshold={threshold:g}"
    try:
        status, body = _request(port, "POST", f"/score{query}", picture)
        told: dict[str, Any] = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"the version gave no answer: {error}") from error
    if status != 200:
        said = told.get("error", {})
        raise errors.from_code(said.get("code", ""), said.get("message", "the version gave no answer"))
    return told


def _request(port: int, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
