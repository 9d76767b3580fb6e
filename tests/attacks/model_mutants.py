"""Crafted models by the thousand, loaded, warmed and probed in workers.

``python -c 'from tests.attacks import model_mutants; model_mutants.main()' FORMAT COUNT SEED FOLDER`` prints JSON: what became of them. Workers are
forked from a process that has imported the runtime. Every tenth model has one to itself, which is in all else what the front starts:
the same program, shut in the same way, told the same. The others share: one after the other in a process shut in as a
worker, until it dies or has seen enough. Formats are ``onnx`` and ``tflite``.
"""

from __future__ import annotations

import collections
import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from farshore import formats
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, Invalid
from farshore.core.manifest import AcceptanceCase, Content, File, Manifest, Variant
from farshore.serve import frames, limits, sandbox, worker
from farshore.serve.frames import Check, Checked, Failed, Load, Reader, Ready
from farshore.serve.version import LoadedVersion
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

ASSETS = Path(__file__).parents[2] / "src" / "farshore" / "cli" / "demo_assets" / "v1"
PATIENCE = 20.0
ADDRESS_SPACE = 3 << 29
BATCH = 200
TOGETHER, ALONE = 40, 10
_ODD = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\1\0\0\0",
)


def mutated(data: bytes, chance: random.Random, hot: list[tuple[int, int]]) -> bytes:
    """``data`` with some of it changed, most often in the ``hot`` ranges (start, end), which say what the rest means."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 8))):
        start, end = chance.choice(hot) if chance.random() < 0.7 else (0, len(result))
        at = min(chance.randrange(start, max(end, start + 1)), len(result) - 1)
        kind = chance.random()
        if kind < 0.4:
            result[at] = chance.randrange(256)
        elif kind < 0.7:
            result[at] ^= 1 << chance.randrange(8)
        elif kind < 0.9:
            odd = chance.choice(_ODD)
            result[at : at + len(odd)] = odd
        elif kind < 0.95:
            other, size = chance.randrange(len(result)), chance.randrange(1, 64)
            result[at : at + size] = result[other : other + size]
        elif kind < 0.97:
            del result[at : at + chance.randrange(1, 32)]
        elif kind < 0.99:
            result[at:at] = chance.randbytes(chance.randrange(1, 32))
        else:
            del result[max(at, 1) :]
        if not result:
            return b"\0"
    return bytes(result)


class Bench:
    """A device with one model of which crafted versions arrive."""

    def __init__(self, kind: str, root: Path) -> None:
        self.root = root
        self.slots, self.blobs = Slots(root), Blobs(root / "blobs")
        self.data = (ASSETS / f"detector.{kind}").read_bytes()
        labels = (ASSETS / "labels.txt").read_bytes()
        info = formats.inspect(self.data)
        pipeline = formats.recognise(info, {"labels.txt": labels}, formats.overrides(_toml())).pipeline()
        files = (self._file("labels.txt", labels, "labels"),)
        self._variant = Variant("v", info.runtime, info.precision, files, info.inputs, info.outputs, pipeline)
        self.picture = next((ASSETS / "acceptance").glob("*.jpg")).read_bytes()
        self._case = AcceptanceCase("scene", self._file("scene.jpg", self.picture, "picture"), {"detections": []})
        self.hot = _hot(self.data)

    def install(self, data: bytes, number: int) -> Digest:
        variant = replace(self._variant, files=(self._file("model", data, "model"), *self._variant.files))
        payload = manifests.encode(Manifest("detector", number, Content((variant,), (self._case,))))
        return self.slots.install(payload, variant, self.blobs).digest

    def clear(self) -> None:
        shutil.rmtree(self.root / "models" / "detector")
        for digest in self.blobs.digests():
            if digest not in (self._case.picture.digest, self._variant.files[0].digest):
                self.blobs.remove(digest)

    def probe(self, digest: Digest) -> str:
        """What became of a version in a worker, as the front sees it."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _be_a_worker(theirs)
        theirs.close()
        with ours:
            ours.sendall(frames.head(Load(str(self.root), "detector", digest, 1, 1 << 20), 0))
            outcome = _conversation(ours)
        os.kill(pid, signal.SIGKILL)  # it may be gone already, but nobody else has its number before it is waited for
        status = os.waitpid(pid, 0)[1]
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if outcome == "died" and number:
            return f"died: {signal.Signals(number).name}"
        return outcome

    def _file(self, path: str, data: bytes, role: Any) -> File:
        return File(path, self.blobs.add(data), len(data), role)


def _conversation(door: socket.socket) -> str:
    reader, heard, end = Reader(), [], time.monotonic() + PATIENCE
    while True:
        while heard:
            message, _ = heard.pop(0)
            if isinstance(message, Failed):
                return f"refused: {message.code}"
            if isinstance(message, Checked):
                return "passed its probe" if message.cases[0].ok else "failed its probe"
            assert isinstance(message, Ready), message
            door.sendall(frames.head(Check(1), 0))
        if not select.select([door], [], [], max(end - time.monotonic(), 0))[0]:
            return "hung"
        try:
            data = door.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            return "died"
        heard += reader.feed(data)  # Corrupt here would be a worker that speaks nonsense: the front kills it


class Shared:
    """Forked processes, each shut in as a worker, that try one model after the other."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._left, self._pid, self._door = bench, 0, 0, socket.socket()

    def probe(self, digest: Digest) -> str:
        """What became of a version."""
        if not self._left:
            self.close()
            self._start()
        self._left -= 1
        self._door.sendall(digest.encode())
        if not select.select([self._door], [], [], PATIENCE)[0]:
            return self._over("hung")
        try:
            answer = self._door.recv(200)
        except ConnectionResetError:
            answer = b""
        return answer.decode() or self._over("died")

    def close(self) -> None:
        """End the process, if there is one."""
        if self._pid:
            self._over("")

    def _start(self) -> None:
        self._door, theirs = socket.socketpair()
        self._pid, self._left = os.fork(), TOGETHER
        if self._pid == 0:
            self._door.close()
            _try_one_after_the_other(theirs, self._bench.root)
        theirs.close()

    def _over(self, outcome: str) -> str:
        self._door.close()
        os.kill(self._pid, signal.SIGKILL)
        status = os.waitpid(self._pid, 0)[1]
        self._pid = self._left = 0
        return (
            f"died: {signal.Signals(os.WTERMSIG(status)).name}"
            if outcome == "died" and os.WIFSIGNALED(status)
            else outcome
        )


def _try_one_after_the_other(door: socket.socket, root: Path) -> None:
    _quiet()
    sandbox.enter(root / "models")
    try:
        while digest := door.recv(200).decode():
            door.sendall(_tried(root, Digest(digest)).encode())
    finally:
        os._exit(0)


def _tried(root: Path, digest: Digest) -> str:
    """As :meth:`farshore.serve.worker.Worker._load` does and judges."""
    try:
        [case] = LoadedVersion(root, "detector", digest, 1, 1 << 20).check()
    except FarshoreError as error:
        return f"refused: {error.code}"
    except MemoryError:
        return "refused: unavailable"
    except Exception:  # noqa: BLE001 - as there
        return "refused: invalid"
    return "passed its probe" if case.ok else "failed its probe"


def _quiet() -> None:
    quiet = os.open("/dev/null", os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    limits.confine(ADDRESS_SPACE)


def _be_a_worker(door: socket.socket) -> None:
    _quiet()
    try:
        worker.Worker(door, 0).run()
    finally:
        os._exit(0)


def _toml() -> dict[str, Any]:
    import tomllib

    return tomllib.loads((ASSETS / "farshore.toml").read_text())


def _hot(data: bytes) -> list[tuple[int, int]]:
    """Where the structure is: all that is no tensor's bytes."""
    rest = [part for part in formats.segment(data).segments if not part.name]
    return [(part.offset, part.offset + part.length) for part in rest if part.length > 8]


def looked_at(data: bytes) -> str:
    """What the hub makes of it, in its own process."""
    try:
        info = formats.inspect(data)
        formats.segment(data)
        formats.recognise(info, {})
    except Invalid:
        return "refused by the hub"
    return "read by the hub"


def main() -> None:
    """See the module."""
    kind, count, seed, root = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    if kind == "onnx":
        import onnxruntime  # noqa: F401
    else:
        import ai_edge_litert.interpreter  # noqa: F401
    from farshore.serve import draw, prepare, probe  # noqa: F401

    bench, chance, found = Bench(kind, root), random.Random(f"{kind}{seed}"), collections.Counter()
    shared = Shared(bench)
    assert bench.probe(bench.install(bench.data, 1)) == "failed its probe", "the honest one sees what its case denies"
    for number in range(count):
        data = mutated(bench.data, chance, bench.hot)
        found[looked_at(data)] += 1
        found[(bench if number % ALONE == 0 else shared).probe(bench.install(data, number + 2))] += 1
        if number % BATCH == BATCH - 1:
            bench.clear()
            print(number + 1, json.dumps(found), file=sys.stderr, flush=True)
    shared.close()
    assert bench.probe(bench.install(bench.data, 1)) == "failed its probe", "and still does"
    print(json.dumps(found))
