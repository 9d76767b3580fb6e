"""``/score`` beside the same pipeline without HTTP: throughput, CPU, memory, and the gap at a switch.

    python benchmarks/serve.py [--model FILE|ZIP] [--picture FILE] [--seconds 4] [--switches 3]

The limit is the worker's own pipeline called by threads in one process. Windows alternate (limit, server, limit, server …), so that
a noisy machine disturbs both alike; CPU per request is steadier than requests per second. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from farshore import formats
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.manifest import Content, File, Manifest, Variant
from farshore.serve import memory
from farshore.serve.tasks.subject import Want
from farshore.serve.version import LoadedVersion
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SHIPPED = Path(__file__).resolve().parents[1] / "src/farshore/cli/demo_assets"
TICKS = os.sysconf("SC_CLK_TCK")


def install(root: Path, version: int, model: bytes, files: dict[str, bytes], note: str = "") -> Digest:
    """A version in the slots, as a push would read it; ``note`` makes otherwise equal versions differ."""
    blobs, slots = Blobs(root / "blobs"), Slots(root)
    info = formats.inspect(model)
    found = formats.recognise(info, files)
    content = {"model": model}
    if found.labels is not None:
        content[found.labels.path] = found.labels.content or files[found.labels.path]
    listed = [
        File(path, blobs.add(data), len(data), "model" if path == "model" else "labels")
        for path, data in content.items()
    ]
    variant = Variant(
        "v", info.runtime, f"{info.precision}{note}", tuple(listed), info.inputs, info.outputs, found.pipeline()
    )
    payload = manifests.encode(Manifest("model", version, Content((variant,))))
    return slots.install(b"{}", payload, variant, blobs).digest


def read(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """A model and the texts beside it."""
    if path.suffix != ".zip":
        return path.read_bytes(), {}
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    model = next(data for name, data in members.items() if name.endswith((".tflite", ".onnx")))
    return model, {name: data for name, data in members.items() if name.endswith(".txt")}


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass
class Window:
    """What was measured in a stretch of time."""

    answers: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    failed: int = 0

    def add(self, other: Window) -> None:
        self.answers += other.answers
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.latencies += other.latencies
        self.failed += other.failed

    @property
    def rate(self) -> float:
        return self.answers / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1e3 * self.cpu / max(1, self.answers)

    def p(self, share: float) -> float:
        return 1e3 * sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def run(calls, seconds: float, used) -> Window:
    """Each of ``calls`` over and over in a thread of its own."""
    window, stop, lock = Window(), threading.Event(), threading.Lock()

    def loop(call) -> None:
        mine, ends, failed = [], [], 0
        while not stop.is_set():
            start = time.perf_counter()
            failed += not call()
            ends.append(time.perf_counter())
            mine.append(ends[-1] - start)
        with lock:
            window.latencies += mine
            window.ends += ends
            window.failed += failed

    threads = [threading.Thread(target=loop, args=(call,)) for call in calls]
    before, start = used(), time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    window.seconds, window.cpu, window.answers = time.perf_counter() - start, used() - before, len(window.latencies)
    return window


class Post:
    """One connection that posts the picture."""

    def __init__(self, port: int, picture: bytes) -> None:
        self._door = socket.create_connection(("127.0.0.1", port))
        self._door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sent = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture

    def __call__(self) -> bool:
        self._door.sendall(self._sent)
        data = self._door.recv(1 << 20)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._door.recv(1 << 20)
        length = int(data[: end + 2].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(data) < end + 4 + length:
            data += self._door.recv(1 << 20)
        return data.startswith(b"HTTP/1.1 200")


class Running:
    """A server process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "farshore.cli", "serve", "--root", str(root), "--port", str(self.port)]
        )
        self.ready = self._until("/healthz", start)
        self.answers = self._until("/readyz", start)

    def _until(self, path: str, start: float) -> float:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as door:
                door.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if door.recv(4096).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - start
            time.sleep(0.005)

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [self._process.pid, *map(int, children)]

    def cpu(self) -> float:
        return sum(cpu(pid) for pid in self.pids())

    def order(self, verb: str, digest: str) -> dict:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self.root / "serve.sock"))
            body = json.dumps({"digest": digest}).encode()
            door.sendall(
                b"POST /control/models/model/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                % (verb.encode(), len(body))
                + body
            )
            answer = b"".join(iter(lambda: door.recv(1 << 16), b""))
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


def gaps(ends: list[float]) -> float:
    """Longest time between two answers, in ms."""
    ends = sorted(ends)
    return 1e3 * max((b - a for a, b in itertools.pairwise(ends)), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # The real detector where it is beside the checkout, else the small one that the project ships.
    real = SHARED.exists()
    model = SHARED / "models/ssd_mobilenet_v1_coco.zip" if real else SHIPPED / "v2/detector.onnx"
    parser.add_argument("--model", type=Path, default=model)
    parser.add_argument(
        "--picture", type=Path, default=SHARED / "pictures/cat_720p.jpg" if real else SHIPPED / "pictures/scene-1.jpg"
    )
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--switches", type=int, default=3)
    asked = parser.parse_args()
    for path in (asked.model, asked.picture):
        if not path.exists():
            sys.exit(f"{path} is not there: give --model and --picture")
    picture = asked.picture.read_bytes()
    model, files = read(asked.model)
    console = Console(width=130)
    with tempfile.TemporaryDirectory(prefix="farshore-bench-") as folder:
        root = Path(folder)
        first, second = install(root, 1, model, files), install(root, 2, model, files, "-again")
        Slots(root).activate("model", first)
        width = len(os.sched_getaffinity(0))
        limit = LoadedVersion(root, "model", first, width, 40_000_000)
        server = Running(root)
        try:
            console.print(throughput(asked, picture, limit, server, width))
            console.print(sizes(server))
            console.print(switching(asked, picture, server, (second, first)))
        finally:
            server.stop()


def throughput(asked, picture: bytes, limit: LoadedVersion, server: Running, width: int) -> Table:
    table = Table(
        title=f"{asked.model.name}, {asked.picture.name}, {width} cores, {asked.rounds} × {asked.seconds:g} s each"
    )
    for name in (
        "clients",
        "limit /s",
        "server /s",
        "ratio",
        "limit CPU ms",
        "server CPU ms",
        "ratio",
        "p50 ms",
        "p99 ms",
        "failed",
    ):
        table.add_column(name, justify="right")
    for clients in (1, 4, 16):
        # A lone request may take all cores; several take one each.
        calls = [lambda alone=clients == 1: bool(limit.answer(picture, Want(), alone=alone))] * min(clients, width)
        posts = [Post(server.port, picture) for _ in range(clients)]
        inside, outside = Window(), Window()
        for _ in range(asked.rounds):
            inside.add(run(calls, asked.seconds, time.process_time))
            outside.add(run(posts, asked.seconds, server.cpu))
        table.add_row(
            str(clients), f"{inside.rate:.1f}", f"{outside.rate:.1f}", f"{outside.rate / inside.rate:.3f}",
            f"{inside.cpu_ms:.2f}", f"{outside.cpu_ms:.2f}", f"{outside.cpu_ms / inside.cpu_ms:.3f}",
            f"{outside.p(0.5):.1f}", f"{outside.p(0.99):.1f}", str(outside.failed),
        )  # fmt: skip
    return table


def sizes(server: Running) -> Table:
    table = Table(title="Memory (proportional) and start")
    for name in ("front MB", "worker MB", "together MB", "front answers after s", "model answers after s"):
        table.add_column(name, justify="right")
    front, *workers = (memory.held(pid) / 1e6 for pid in server.pids())
    table.add_row(
        f"{front:.1f}",
        f"{sum(workers):.1f}",
        f"{front + sum(workers):.1f}",
        f"{server.ready:.2f}",
        f"{server.answers:.2f}",
    )
    return table


def switching(asked, picture: bytes, server: Running, digests: tuple[str, str]) -> Table:
    table = Table(title="Switches under a paced load (2 clients, 14 requests/s)")
    for name in ("", "requests", "failed", "longest gap ms", "p50 ms", "p99 ms", "memory MB"):
        table.add_column(name, justify="right")
    posts = [Post(server.port, picture) for _ in range(2)]

    def paced(post: Post):
        def call() -> bool:
            time.sleep(1 / 7 - 0.02)
            return post()

        return call

    steady = run([paced(post) for post in posts], asked.seconds, server.cpu)
    results: list[Window] = []
    loader = threading.Thread(
        target=lambda: results.append(run([paced(post) for post in posts], asked.switches * 3.0, server.cpu))
    )
    loader.start()
    told = []
    for number in range(asked.switches):
        time.sleep(1)
        digest = digests[number % 2]
        assert server.order("probe", digest)["ok"]
        told.append(server.order("switch", digest).get("gap_seconds", 0.0))
    loader.join()
    held = sum(memory.held(pid) for pid in server.pids()) / 1e6
    for name, window in (("steady", steady), (f"{asked.switches} switches", results[0])):
        table.add_row(name, str(window.answers), str(window.failed), f"{gaps(window.ends):.0f}",
                      f"{statistics.median(window.latencies) * 1e3 - 1e3 / 7 + 20:.1f}", f"{window.p(0.99) - 1e3 / 7 + 20:.1f}", f"{held:.1f}")  # fmt: skip
    table.caption = "gap that the server itself saw, ms: " + ", ".join(f"{gap * 1e3:.0f}" for gap in told)
    return table


if __name__ == "__main__":
    main()
