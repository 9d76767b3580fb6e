"""The system calls that change a disk, with a hand on each: to write them down, or to let them fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

NAMES = (
    "open", "close", "write", "fsync", "fdatasync", "rename", "replace", "link", "symlink", "unlink", "remove", "rmdir",
    "mkdir", "ftruncate", "truncate", "chmod", "fchmod",
)  # fmt: skip

Real = Callable[..., Any]
Around = Callable[[str, Real, tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def around(act: Around) -> Iterator[None]:
    """Let ``act(name, real, args, kwargs)`` stand in for each call inside the block; it does the real one itself."""

    def stand_in(name: str, real: Real) -> Real:
        def call(*args: Any, **kwargs: Any) -> Any:
            return act(name, real, args, kwargs)

        return call

    with (
        mock.patch.multiple(os, **{name: stand_in(name, getattr(os, name)) for name in NAMES}),
        mock.patch.object(shutil, "copyfile", _copyfile),
    ):
        yield


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Let a file's mode bind this process, as it binds an agent that is not root."""

    def act(name: str, real: Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "open" and args[1] & (os.O_WRONLY | os.O_RDWR):
            try:
                mode = os.stat(args[0], dir_fd=kwargs.get("dir_fd"), follow_symlinks=False).st_mode
            except FileNotFoundError:
                mode = 0o200
            if not mode & 0o200:
                raise PermissionError(13, "Permission denied", str(args[0]))
        return real(*args, **kwargs)

    with around(act):
        yield


def _copyfile(source: Path, target: Path, *, follow_symlinks: bool = True) -> Path:
    """As :func:`shutil.copyfile`, which opens and writes where no hand reaches, in calls that one does."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, Path(source).read_bytes())
    finally:
        os.close(fd)
    return target
