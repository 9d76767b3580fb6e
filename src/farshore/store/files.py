"""The one place that writes to disk durably.

The ritual: a temporary name in the same folder → write → fsync → rename → fsync of the folder. Nothing is visible
half-made, and what was acknowledged survives a power cut, also on file systems that order nothing by themselves.
Temporary names begin with ``.tmp-``; whoever opens a folder may delete them (:func:`sweep`).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farshore.core.errors import Unavailable

TEMPORARY = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path``: after a crash there is the old file or the new one, whole.

    Args:
        path: where; its folder exists.
        data: what.
        mode: permissions; the file has them from its first byte on.

    Raises:
        Unavailable: disk full, not writable or failing; what was there before is untouched.

    """
    temp = temporary(path)
    with translated(path):
        try:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temp, path)
        except BaseException:
            discard(temp)
            raise
        sync_folder(path.parent)


def publish(temp: Path, path: Path, *, mode: int = 0o444) -> None:
    """Make a finished temporary file visible as ``path``: fsync, permissions, rename, fsync of the folder.

    Args:
        temp: a file on the same file system whose content has been checked.
        path: its final name; replaced if there.
        mode: permissions from now on, read-only unless told.

    Raises:
        Unavailable: as :func:`write_atomic`.

    """
    with translated(path):
        fd = os.open(temp, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temp, path)
        sync_folder(path.parent)
        if temp.parent != path.parent:
            sync_folder(temp.parent)


def publish_folder(temp: Path, path: Path) -> None:
    """Make a finished temporary folder visible as ``path``. Its files are already durable; its own entries are synced here.

    Raises:
        Unavailable: as :func:`write_atomic`; also when ``path`` exists and is not empty.

    """
    with translated(path):
        for folder, _, _ in os.walk(temp):
            sync_folder(Path(folder))
        os.rename(temp, path)
        sync_folder(path.parent)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make ``path`` and its parents where missing, each name durable."""
    if path.is_dir():
        return
    make_folder(path.parent, mode=mode)
    with translated(path):
        try:
            path.mkdir(mode=mode)
        except FileExistsError:
            if not path.is_dir():
                raise
        sync_folder(path.parent)


def point(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` (relative text), replacing an older one in one step.

    Raises:
        Unavailable: as :func:`write_atomic`.

    """
    temp = temporary(link)
    with translated(link):
        try:
            os.symlink(target, temp)
            os.rename(temp, link)
        except BaseException:
            discard(temp)
            raise
        sync_folder(link.parent)


def remove(path: Path) -> None:
    """Delete a file or link, durably; missing is fine."""
    with translated(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_folder(path.parent)


def remove_tree(path: Path) -> None:
    """Delete a folder: first its name, in one durable step, then what it holds. Missing is fine."""
    temp = temporary(path)
    with translated(path):
        try:
            os.rename(path, temp)
        except FileNotFoundError:
            return
        sync_folder(path.parent)
        shutil.rmtree(temp, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Finish what an interrupted process left in ``folder`` itself (not below): make its names durable, delete temporary ones.

    A process killed between a rename and the fsync of the folder leaves a name that may stand in memory only. Nothing may
    be built on it before it is durable; nor may a removed folder be emptied, for a power cut could give it its name back.
    """
    try:
        leftovers = [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(TEMPORARY)]
        sync_folder(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"disk error at {folder}: {error.strerror or error}") from error
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            discard(leftover)


def temporary(path: Path) -> Path:
    """A fresh temporary name beside ``path``."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user may still write on the file system of ``folder``."""
    with translated(folder):
        status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the operating system's errors inside the block into :class:`Unavailable`, with a line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable(f"disk full while writing {path}: free some space, then try again") from error
        if error.errno in _DENIED:
            raise Unavailable(f"may not write {path}: check its permissions ({error.strerror})") from error
        raise Unavailable(f"disk error at {path}: {error.strerror or error}") from error


def discard(path: Path) -> None:
    """Delete a temporary file, not durably; what cannot be deleted now is left to :func:`sweep`."""
    try:
        os.unlink(path)
    except OSError:
        pass  # whatever brought us here matters more
