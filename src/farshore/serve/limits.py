"""What the operating system holds a worker to: dies with its parent, leaves no core file, bounded memory, low priority."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CAP_SYS_NICE = 23
_RESERVED = 2 << 30
"""Address space that stacks, arenas and libraries reserve and never touch."""


def tie_to_parent(parent: int) -> None:
    """End when the front ends, also if this process hangs in native code.

    Args:
        parent: the front's process id; it may be gone already.

    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    # Ctrl-C goes to the whole foreground group; the front decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def confine(address_space: int) -> None:
    """No core files (they hold pictures and models), bounded memory, and the first to go when the machine has no more.

    Args:
        address_space: bytes; 0 for as much as the machine has memory, and what libraries reserve without using it.

    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bound = address_space or _machine_memory()
    if bound:
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    try:
        Path("/proc/self/oom_score_adj").write_text(
            "500"
        )  # rather this than the front, the agent or what else runs here
    except OSError:
        pass  # not Linux, or not allowed here: the kernel chooses by size, which most often is the same


def _machine_memory() -> int:
    """Bytes of memory that a process may ever get, and what is reserved without being touched; 0 where it cannot be told."""
    if sys.platform != "linux":
        return 0
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = "max"
    return (min(found, int(limit)) if limit.isdigit() else found) + _RESERVED


def stand_back(niceness: int) -> int:
    """Let others go first until :func:`stand_up`; does nothing where that could not be undone.

    Returns:
        What was given up of its priority; 0 for nothing.

    """
    if not niceness or not _may_return():
        return 0
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, min(19, before + niceness))
    return os.getpriority(os.PRIO_PROCESS, 0) - before


def stand_last() -> None:
    """Let all others go before the calling thread, for good (on Linux, priorities are a thread's own; elsewhere this does nothing)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, 19)


def stand_up(niceness: int) -> None:
    """Take the priority back that :func:`stand_back` gave up, for every thread of this process.

    Also for those that another thread is just starting, a runtime's for example: one that was left behind would keep all
    others waiting on a busy machine.

    Args:
        niceness: what the calling thread gave up.

    """
    normal = os.getpriority(os.PRIO_PROCESS, 0) - niceness
    raised: set[int] = set()
    while new := set(_threads()) - raised:
        for thread in new:
            try:
                os.setpriority(os.PRIO_PROCESS, thread, normal)
            except OSError:
                pass  # a thread that ended meanwhile
        raised |= new


def _threads() -> list[int]:
    """On Linux niceness belongs to threads, and new ones inherit it."""
    try:
        return [int(task.name) for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return [0]


def _may_return() -> bool:
    """Whether this process may lower its niceness again."""
    if sys.platform != "linux":
        return False
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if soft == resource.RLIM_INFINITY or 20 - soft <= os.getpriority(os.PRIO_PROCESS, 0):
        return True
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration, ValueError):
        return False
    return bool(effective >> _CAP_SYS_NICE & 1)
