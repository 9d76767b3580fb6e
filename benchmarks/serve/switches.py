"""Switches under a paced load: what clients notice of them, and whether the memory comes back.

    python -m benchmarks serve --switching [--model FILE|ZIP] [--picture FILE] [--count 1000] [--tight 100]

Two clients post a picture seven times a second each. First nothing changes, then each version is probed and switched to as fast as
that goes, then nothing changes again. An answer is wrong if the version that gave it did not lead at any moment between question and
answer. The second round gives the server memory for one worker only: requests wait while versions change places.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.serve.limit import PICTURE, SHIPPED, Running, install, read
from benchmarks.serve.load import Post, gaps, held
from farshore.core.digest import Digest
from farshore.serve import memory
from farshore.store.slots import Slots

CLIENTS, PERIOD = 2, 1 / 7


@dataclass
class Answers:
    """What clients got: when they asked, when it came, which version it was of (0: none)."""

    asked: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def between(self, start: float, end: float) -> Answers:
        rows = [row for row in zip(self.asked, self.came, self.versions, strict=True) if start <= row[0] < end]
        return Answers(*(list(column) for column in zip(*rows, strict=True)))

    @property
    def failed(self) -> int:
        return self.versions.count(0)

    def p(self, share: float) -> float:
        took = sorted(came - asked for asked, came in zip(self.asked, self.came, strict=True))
        return 1e3 * took[min(len(took) - 1, int(share * len(took)))]


class Clients:
    """Clients that post at a steady pace until they are told to stop."""

    def __init__(self, port: int, picture: bytes) -> None:
        self.answers = Answers()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(Post(port, picture), number)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, post: Post, number: int) -> None:
        due = time.perf_counter() + number * PERIOD / CLIENTS
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            due = max(due + PERIOD, time.perf_counter() - PERIOD)
            asked = time.perf_counter()
            version = json.loads(post.answer)["version"] if post() else 0
            with self._lock:
                self.answers.asked.append(asked)
                self.answers.came.append(time.perf_counter())
                self.answers.versions.append(version)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@dataclass
class Leads:
    """Who led when: at each switch, when it was asked for, when it was confirmed, and which version it was to."""

    asked: list[float] = field(default_factory=list)
    confirmed: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def wrong(self, answers: Answers) -> int:
        """Answers of versions that did not lead between question and answer."""
        count = 0
        for asked, came, version in zip(answers.asked, answers.came, answers.versions, strict=True):
            first = max(0, bisect.bisect_right(self.confirmed, asked) - 1)
            last = bisect.bisect_right(self.asked, came)
            count += version != 0 and version not in self.versions[first:last]
        return count


def measure(server: Running, picture: bytes, digests: tuple[Digest, Digest], count: int, calm: float) -> list[str]:
    """One round; the columns of its row. Version 1 leads when it begins."""
    clients = Clients(server.port, picture)
    now = time.perf_counter()
    leads = Leads([now], [now], [1])
    sizes: dict[int, float] = {}
    refused = 0
    try:
        time.sleep(calm)
        start = time.perf_counter()
        with contextlib.suppress(KeyboardInterrupt):  # who has seen enough gets the figures of what was done
            for version in itertools.islice(itertools.cycle((2, 1)), count):
                # A machine may be too busy to load it in time: what leads goes on, and so does this.
                if not server.order("probe", digests[version - 1]).get("ok"):
                    refused += 1
                    continue
                leads.asked.append(time.perf_counter())
                told = server.order("switch", digests[version - 1])
                assert told.get("digest") == digests[version - 1], told
                leads.confirmed.append(time.perf_counter())
                leads.versions.append(version)
                if (done := len(leads.versions) - 1) in {10, 100, count} or done % 250 == 0:
                    sizes[done] = held(server.pids())
        end = time.perf_counter()
        time.sleep(calm)
    finally:
        clients.stop()
    everything = clients.answers
    steady, during = everything.between(0, start), everything.between(start, end)
    after = everything.between(end, end + calm)
    done = len(leads.confirmed) - 1
    return [
        f"{done} ({refused} refused)" if refused else str(done), f"{(end - start) / max(1, done):.2f}", str(len(during.asked)), str(everything.failed), str(leads.wrong(everything)),
        f"{gaps(steady.came):.0f} / {gaps(during.came):.0f} / {gaps(after.came):.0f}",
        f"{steady.p(0.5):.1f} / {during.p(0.5):.1f} / {after.p(0.5):.1f}",
        f"{steady.p(0.99):.1f} / {during.p(0.99):.1f} / {after.p(0.99):.1f}",
        " → ".join(f"{size:.1f} ({number})" for number, size in sorted(sizes.items())),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switching", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, default=SHIPPED / "v2/detector.onnx")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--count", type=int, default=1000, help="switches with room for two")
    parser.add_argument("--tight", type=int, default=100, help="switches with room for one")
    parser.add_argument("--calm", type=float, default=20.0, help="seconds before and after in which nothing changes")
    asked = parser.parse_args(arguments)
    picture, (model, files) = asked.picture.read_bytes(), read(asked.model)
    table = Table(title=f"{asked.model.name}: switches under {CLIENTS / PERIOD:.0f} requests a second")
    for name in (
        "", "switches", "s each", "requests", "failed", "wrong version", "longest gap ms", "p50 ms", "p99 ms", "MB (after so many)",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    table.caption = "gap, p50 and p99: before / during / after"
    for what, count, limit in (("beside", asked.count, ()), ("in turn", asked.tight, _room_for_one(len(model)))):
        if not count:
            continue
        with tempfile.TemporaryDirectory(prefix="farshore-bench-") as folder:
            root = Path(folder)
            digests = install(root, 1, model, files), install(root, 2, model, files, "-again")
            Slots(root).activate("model", digests[0])
            server = Running(root, *limit)
            try:
                table.add_row(what, *measure(server, picture, digests, count, asked.calm))
            finally:
                server.stop()
    Console(width=160).print(table)


def _room_for_one(model_bytes: int) -> tuple[str, ...]:
    """What the server takes a worker for before it has measured one: two never hold as little together."""
    return ("--memory", str(memory.estimate(model_bytes) + (4 << 20)))
