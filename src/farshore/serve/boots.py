"""Who comes first when the machine starts: the agent counts the start, and goes back from a version that took the machine down, before this
server loads anything. Otherwise such a version could take it down again each time before anybody counted.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from farshore.core.control import COUNTED

log = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")
PATIENCE = 15.0
"""Seconds after which pictures matter more than the order."""
LOOK_EVERY = 0.05


async def counted(root: Path, patience: float = PATIENCE, boot: Path = _BOOT) -> bool:
    """Wait until the agent has counted this start of the machine.

    Args:
        root: the device's folder; where no agent ever ran in it, nothing is waited for.
        patience: seconds.
        boot: the file in which the system names this start.

    Returns:
        Whether it has; False when patience ran out.

    """
    note = root / COUNTED
    if not note.exists():
        return True
    now = _read(boot)
    if not now:
        return True  # not Linux: the agent counts its own starts, which cannot be waited for
    end = asyncio.get_running_loop().time() + patience
    while _read(note) != now:
        if asyncio.get_running_loop().time() >= end:
            log.warning(
                "the agent has not started within %g s: serving what was current; start it before this server", patience
            )
            return False
        await asyncio.sleep(LOOK_EVERY)
    return True


def _read(note: Path) -> str:
    try:
        return note.read_text().strip()
    except (OSError, ValueError):
        return ""
