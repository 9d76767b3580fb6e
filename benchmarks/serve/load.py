"""Loads and what they measure: clients that post a picture over and over, and the processes that answer it."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from farshore.serve import memory

TICKS = os.sysconf("SC_CLK_TCK")


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
    """One connection that posts a picture, opened again where the server closes it.

    Args:
        port: of the server.
        body: what is posted.
        path: where.
        kind: its media type.

    """

    def __init__(self, port: int, body: bytes, path: str = "/score", kind: str = "image/jpeg") -> None:
        self._port = port
        self._door: socket.socket | None = None
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._sent = head.encode() + body
        self.answer = b""

    def __call__(self) -> bool:
        """Whether it was answered with 200; the body is in ``answer``."""
        try:
            return self._ask()
        except OSError:
            self.close()
            return False

    def _ask(self) -> bool:
        if self._door is None:
            self._door = socket.create_connection(("127.0.0.1", self._port), timeout=120)
            self._door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._door.sendall(self._sent)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[: end + 2].lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(data) < end + 4 + length:
            data += self._more()
        if b"connection: close" in head or head.startswith(b"http/1.0"):
            self.close()
        self.answer = data[end + 4 :]
        return b" 200 " in head[:16]

    def _more(self) -> bytes:
        assert self._door is not None
        data = self._door.recv(1 << 20)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def close(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            pass  # it ended meanwhile
    return found


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU that processes have used, and those of their children that ended."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def held(pids: Iterable[int]) -> float:
    """Megabytes that processes hold together (proportional set size)."""
    return sum(map(memory.held, pids)) / 1e6


def own(pid: int) -> float:
    """Megabytes that a process holds and no other ever can: what is left when others run on the same libraries. Linux only."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def gaps(ends: list[float]) -> float:
    """Longest time between two answers, in ms."""
    ends = sorted(ends)
    return 1e3 * max((b - a for a, b in itertools.pairwise(ends)), default=0.0)
