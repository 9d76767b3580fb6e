"""How much memory there is, and how much a process holds. Linux tells; elsewhere 0 means "not known"."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

RESERVE = 32 << 20
"""Bytes that are left to the rest of the machine."""

_BASE = 64 << 20
"""A worker with its runtime and no model, about."""


def estimate(model_bytes: int) -> int:
    """What a worker will hold, before it was ever measured: weights are packed anew and activations come on top."""
    return _BASE + 3 * model_bytes


def held(pid: int) -> int:
    """Bytes that a process holds: its proportional set size, so that shared pages count once over all processes."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # gone, or not Linux
    return 0


def available() -> int:
    """Bytes that new processes may take, at most what a control group leaves; huge where it cannot be told."""
    free = 1 << 62
    try:
        for line in Path("/proc/meminfo").read_bytes().splitlines():
            if line.startswith(b"MemAvailable:"):
                free = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError, IndexError):
        pass  # no such control group
    return max(0, free)


def give_back() -> None:
    """Return what this process freed to the system: the C library by itself keeps it for later."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    """The C library's ``malloc_trim``; None where it has none, which is everywhere but in glibc."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
