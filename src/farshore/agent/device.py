"""Which machine this is: the facts that decide what fits."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def memory() -> int:
    """Bytes of RAM."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """The architecture, e.g. ``x86_64``, ``aarch64``."""
    return platform.machine()


def boot() -> str:
    """Names this start of the machine; empty where the system does not say, and then every start of the agent counts."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
