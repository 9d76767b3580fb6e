"""The inference server's settings, read once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from farshore.core.control import SOCKET
from farshore.core.errors import Invalid
from farshore.core.manifest import Runtime


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server runs. ``docs/serving.md`` explains each.

    Attributes:
        root: the device's root folder; versions are read from its slots, the control socket lies in it.
        runtimes: that it says it has; empty means all that are installed.
        host: address that takes pictures.
        port: TCP port that takes pictures; 0 lets the system choose.
        threads: requests that one worker answers at once; 0 means one for each core.
        queue: requests that may wait for each model; more get 503.
        wait_seconds: longest time that a request waits for its turn.
        hang_seconds: a worker that computes longer than that on one request is killed.
        load_seconds: a worker that takes longer than that to load is killed.
        drain_seconds: longest time that stopping waits for running requests.
        steady_seconds: a worker that lived that long starts again with a clean count of crashes.
        max_body: bytes of the largest picture.
        max_pixels: pixels of the largest picture.
        max_buffered: bytes of all pictures that are in memory at once; more get 503.
        connections: open connections; more are refused.
        header_seconds: a request's header must be whole by then.
        body_seconds: a request's body must be whole by then.
        idle_seconds: a connection without a request is closed then.
        memory: bytes that all workers together may hold; 0 means what the machine has free.
        pins: models that stay in memory however long nobody asks for them.
        worker_memory: bytes of address space that one worker may use; 0 means what the machine has, and 2 GiB.
        niceness: added to the niceness of a worker that takes no traffic yet, where it can be taken back.
        model_control: whether clients may load and unload models; the agent always may.
        grpc_port: TCP port that takes tensors over gRPC; None for none, 0 lets the system choose.

    """

    root: Path
    runtimes: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int = 0
    queue: int = 64
    wait_seconds: float = 10.0
    hang_seconds: float = 30.0
    load_seconds: float = 120.0
    drain_seconds: float = 10.0
    steady_seconds: float = 60.0
    max_body: int = 32 << 20
    max_pixels: int = 40_000_000
    max_buffered: int = 256 << 20
    connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    memory: int = 0
    pins: tuple[str, ...] = ()
    worker_memory: int = 0
    niceness: int = 10
    model_control: bool = False
    grpc_port: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            Invalid: a number out of range; the message names the setting.

        """
        for name, low in _LEAST.items():
            if getattr(self, name) < low:
                raise Invalid(f"setting {name} is {getattr(self, name)}; at least {low} is needed")
        unknown = [name for name in self.runtimes if name not in get_args(Runtime)]
        if unknown:
            raise Invalid(f"no runtime {unknown[0]!r}: choose from {', '.join(get_args(Runtime))}")
        for name in ("port", "grpc_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise Invalid(f"setting {name} is {port}; 0 to 65535 is possible")

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.root / SOCKET

    @property
    def width(self) -> int:
        """Requests that one worker answers at once."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)


_LEAST: dict[str, float] = {
    "port": 0, "threads": 0, "queue": 1, "wait_seconds": 0.1, "hang_seconds": 0.1, "load_seconds": 0.1,
    "drain_seconds": 0, "steady_seconds": 0, "max_body": 1024, "max_pixels": 1024, "max_buffered": 1024,
    "connections": 1, "header_seconds": 0.1, "body_seconds": 0.1, "idle_seconds": 0.1, "memory": 0,
    "worker_memory": 0, "niceness": 0,
}  # fmt: skip
