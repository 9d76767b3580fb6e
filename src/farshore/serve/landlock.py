"""Which files a worker may see: Linux's Landlock, by which a process gives up rights for good, without being root.

Numbers and forms are those of ``linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every architecture
_ASK_VERSION, _BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_FILES_NOW = (1 << 16) - 1
_ALL_NETWORK = 0b11  # TCP: bind, connect
_ALL_SCOPES = 0b11  # abstract sockets and signals to processes outside


def version() -> int:
    """The kernel's version of Landlock; 0 if it has none."""
    found: int = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(found, 0)


def restrict(readable: Iterable[Path]) -> None:
    """Let this thread, and those it will start, read what is below ``readable`` and nothing else; write and run nothing, connect to nobody.

    Args:
        readable: files and folders; those that are not there are passed over.

    Raises:
        OSError: the kernel has no Landlock, or does not take it.

    """
    found = version()
    if not found:
        raise OSError("this kernel has no Landlock")
    attributes = struct.pack(
        "<QQQ",
        _ALL_FILES.get(found, _ALL_FILES_NOW),
        _ALL_NETWORK if found >= 4 else 0,
        _ALL_SCOPES if found >= 6 else 0,
    )
    rules = _checked(_libc().syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path in readable:
            _allow(rules, path)
        _checked(_libc().syscall(_RESTRICT, rules, 0))
    finally:
        os.close(rules)


def _allow(rules: int, path: Path) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_FOLDER if stat.S_ISDIR(os.fstat(fd).st_mode) else 0)
        _checked(_libc().syscall(_ADD_RULE, rules, _BENEATH, struct.pack("<Qi", rights, fd), 0))
    finally:
        os.close(fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
