"""``/score`` beside the same pipeline without HTTP: throughput, CPU, latency, memory.

    python -m benchmarks serve [--model FILE|ZIP] [--picture FILE] [--seconds 4] [--rounds 3]

The limit is the worker's own pipeline called by threads in one process. Windows alternate (limit, server, limit, server …), so that
a noisy machine disturbs both alike; CPU per request is steadier than requests per second. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.serve.load import Post, Window, cpu, free_port, own, run, tree
from farshore import formats
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.manifest import Content, File, Manifest, Variant
from farshore.serve import memory
from farshore.serve.tasks.subject import Want
from farshore.serve.version import LoadedVersion
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHIPPED = Path(__file__).resolve().parents[2] / "src/farshore/cli/demo_assets"
# The real detector where it is beside the checkout, else the small one that the project ships.
MODEL, PICTURE = (
    (SHARED / "models/ssd_mobilenet_v1_coco.zip", SHARED / "pictures/cat_720p.jpg")
    if SHARED.exists()
    else (SHIPPED / "v2/detector.onnx", SHIPPED / "pictures/scene-1.jpg")
)


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
    return slots.install(payload, variant, blobs).digest


def read(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """A model and the texts beside it."""
    if path.suffix != ".zip":
        return path.read_bytes(), {}
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    model = next(data for name, data in members.items() if name.endswith((".tflite", ".onnx")))
    return model, {name: data for name, data in members.items() if name.endswith(".txt")}


class Running:
    """A server process."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self.port = free_port()
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "farshore.cli", "serve", "--root", str(root), "--port", str(self.port), *options]
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
        return tree(self._process.pid)

    def cpu(self) -> float:
        return cpu(self.pids())

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


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    for path in (asked.model, asked.picture):
        if not path.exists():
            sys.exit(f"{path} is not there: give --model and --picture")
    picture = asked.picture.read_bytes()
    model, files = read(asked.model)
    console = Console(width=150)
    with tempfile.TemporaryDirectory(prefix="farshore-bench-") as folder:
        root = Path(folder)
        digest = install(root, 1, model, files)
        Slots(root).activate("model", digest)
        width = len(os.sched_getaffinity(0))
        server = Running(root)
        try:
            # First, while this process has not loaded the runtime: what both have mapped would count half.
            console.print(sizes(asked, picture, server))
            limit = LoadedVersion(root, "model", digest, width, 40_000_000, crowded=True)
            console.print(throughput(asked, picture, limit, server, width))
        finally:
            server.stop()


def throughput(asked, picture: bytes, limit: LoadedVersion, server: Running, width: int) -> Table:
    table = Table(
        title=f"{asked.model.name}, {asked.picture.name}, {width} cores, {asked.rounds} × {asked.seconds:g} s each"
    )
    for name in (
        "clients", "limit /s", "server /s", "ratio", "limit CPU ms", "server CPU ms", "ratio", "limit p50 ms", "p50 ms", "ratio",
        "p99 ms", "failed",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    table.caption = "the limit computes each picture in one thread, as many at once as there are clients and cores"
    for clients in (1, 4, 16):
        calls = [lambda: bool(limit.answer(picture, Want(), alone=False))] * min(clients, width)
        posts = [Post(server.port, picture) for _ in range(clients)]
        inside, outside = Window(), Window()
        run(posts, 2.0, server.cpu)  # until the server's contexts are those for this many clients
        for _ in range(asked.rounds):
            inside.add(run(calls, asked.seconds, time.process_time))
            outside.add(run(posts, asked.seconds, server.cpu))
        table.add_row(
            str(clients), f"{inside.rate:.1f}", f"{outside.rate:.1f}", f"{outside.rate / inside.rate:.3f}",
            f"{inside.cpu_ms:.2f}", f"{outside.cpu_ms:.2f}", f"{outside.cpu_ms / inside.cpu_ms:.3f}",
            f"{inside.p(0.5):.1f}", f"{outside.p(0.5):.1f}", f"{outside.p(0.5) / inside.p(0.5):.3f}",
            f"{outside.p(0.99):.1f}", str(outside.failed),
        )  # fmt: skip
        for post in posts:
            post.close()
    return table


def sizes(asked, picture: bytes, server: Running) -> Table:
    """Memory after the start, under a lone client, under four, and when nothing has been asked for some seconds."""
    table = Table(title=f"{asked.model.name}: memory (proportional), MB")
    for name in ("", "front", "worker", "together", "of that their own: front + worker"):
        table.add_column(name, justify="right")
    table.caption = (
        f"front answers {server.ready:.2f} s after its process was started, the model after {server.answers:.2f} s; "
        "what is not their own (libraries, the model's file) counts by the number of processes that have it"
    )

    def row(what: str) -> None:
        front, *workers = (memory.held(pid) / 1e6 for pid in server.pids())
        first, *others = map(own, server.pids())
        table.add_row(
            what,
            f"{front:.1f}",
            f"{sum(workers):.1f}",
            f"{front + sum(workers):.1f}",
            f"{first:.1f} + {sum(others):.1f}",
        )

    row("after the start")
    for clients, seconds in ((1, 3.0), (4, 13.0)):
        posts = [Post(server.port, picture) for _ in range(clients)]
        run(posts, seconds, server.cpu)
        row(f"{clients} client{'s' * (clients > 1)}")
        time.sleep(5.0)
        row("5 s later")
        for post in posts:
            post.close()
    return table
