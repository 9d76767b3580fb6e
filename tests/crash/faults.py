"""Lets one call that changes the disk go wrong: the process is killed, the disk fails, the disk is full, a write tears."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash import calls

MODES = ("kill", "EIO", "ENOSPC", "torn")
HUNGRY = 8
"""Calls that find a full disk before somebody makes room."""

_TAKE_SPACE = {"write", "mkdir", "link", "symlink"}


class Killed(BaseException):
    """The process is gone: nothing after it is done, no matter who catches what."""


class Fault:
    """One fault below ``root``, at the call ``number`` (from 0; None for none, only to count).

    Attributes:
        names: of the calls seen.
        name: of the call that went wrong; empty if none did.
        where: what it was about.
        descriptors: opened below ``root`` and not closed.
        doubtful: inodes of files whose fsync failed.

    """

    def __init__(self, root: Path, number: int | None = None, mode: str = "kill") -> None:
        self.names: list[str] = []
        self.name, self.where = "", ""
        self.descriptors: set[int] = set()
        self.doubtful: set[int] = set()
        self._root, self._number, self._mode = f"{root.resolve()}/", number, mode
        self._dead, self._hungry = False, 0
        self._held: list[int] = []

    @contextmanager
    def injected(self) -> Iterator[Fault]:
        """Have the fault inside the block, which a kill ends."""
        with calls.around(self._around), contextlib.suppress(Killed):
            yield self

    def close(self) -> None:
        """What the kernel does for a process that was killed."""
        for fd in (*self.descriptors, *self._held):
            os.close(fd)

    def _around(self, name: str, real: calls.Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._concerns(args, kwargs):
            return real(*args, **kwargs)
        if name == "close":
            self.descriptors.discard(args[0])
            return real(*args)
        self.names.append(name)
        if self._dead:
            raise Killed
        if len(self.names) - 1 == self._number:
            self.name = name
            self.where = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else str(args[0])
            self._strike(name, real, args, kwargs)
        if self._hungry and (name in _TAKE_SPACE or (name == "open" and args[1] & os.O_CREAT)):
            self._hungry -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        result = real(*args, **kwargs)
        if name == "open":
            self.descriptors.add(result)
        return result

    def _concerns(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if kwargs.get("dir_fd") in self.descriptors or args[0] in self.descriptors:
            return True
        return any(isinstance(arg, str | Path) and f"{arg}/".startswith(self._root) for arg in args[:2])

    def _strike(self, name: str, real: calls.Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == "write" and self._mode in ("torn", "EIO"):
            real(args[0], bytes(args[1])[: len(args[1]) // 2])
        elif self._mode == "torn":
            result = real(*args, **kwargs)
            self._held += [result] if name == "open" else []
        if self._mode in ("kill", "torn"):
            self._dead = True
            raise Killed
        if name in ("fsync", "fdatasync"):
            self._doubt(args[0])
        if self._mode == "ENOSPC":
            self._hungry = HUNGRY
        number = getattr(errno, self._mode)
        raise OSError(number, os.strerror(number))

    def _doubt(self, fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            self.doubtful.add(status.st_ino)
            self._held.append(os.dup(fd))  # so that no other file gets its number
