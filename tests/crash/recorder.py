"""Writes down every call that changes what is below one folder, as a strict POSIX file system sees it: by inode."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash import calls


@dataclass(eq=False)
class File:
    """An inode with bytes; ``data`` and ``mode`` as they were durable before the recording."""

    data: bytes = b""
    mode: int = 0o644


@dataclass(eq=False)
class Symlink:
    target: str


@dataclass(eq=False)
class Folder:
    """An inode with names; ``before`` as they were durable before the recording, ``entries`` as the program sees them."""

    before: dict[str, Node] = field(default_factory=dict)
    entries: dict[str, Node] = field(default_factory=dict)


Node = File | Symlink | Folder
Names = tuple[tuple[Folder, dict[str, Node | None]], ...]


@dataclass(frozen=True, eq=False)
class Naming:
    """Names given and taken: at once for the program, each folder's part by itself on the disk."""

    parts: Names


@dataclass(frozen=True, eq=False)
class Write:
    file: File
    offset: int
    data: bytes


@dataclass(frozen=True, eq=False)
class Truncate:
    file: File
    size: int


@dataclass(frozen=True, eq=False)
class Chmod:
    file: File
    mode: int


@dataclass(frozen=True, eq=False)
class Sync:
    """fsync or fdatasync of one inode."""

    node: Node


@dataclass(frozen=True, eq=False)
class Mark:
    """What the far side has been told up to here."""

    known: Any


Operation = Naming | Write | Truncate | Chmod | Sync | Mark


class Recording:
    """What was done below ``root``.

    Args:
        root: a folder; what is in it now counts as durable.
        told: what the far side knows now; asked at each call.

    Attributes:
        operations: in order.
        top: the folder itself.

    """

    def __init__(self, root: Path, told: Callable[[], Any] = lambda: None) -> None:
        self.root, self._told = root.resolve(), told
        self.operations: list[Operation] = []
        self._open: dict[int, Node] = {}
        self.top = _scanned(self.root, {})
        self.mark()

    def mark(self) -> None:
        known = self._told()
        last = next((one.known for one in reversed(self.operations) if isinstance(one, Mark)), self)
        if known is not last and known != last:
            self.operations.append(Mark(known))

    @contextmanager
    def running(self) -> Iterator[Recording]:
        """Record what happens inside the block."""
        with calls.around(self._around):
            yield self
        self.mark()

    def _around(self, name: str, real: calls.Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.mark()
        if name == "open":
            return self._opened(real, args, kwargs)
        if name == "close":
            self._open.pop(args[0], None)
            return real(*args)
        if name == "write":
            at = os.lseek(args[0], 0, os.SEEK_CUR) if args[0] in self._open else 0
            count = real(*args)
            if args[0] in self._open:
                self.operations.append(Write(self._file(args[0]), at, bytes(args[1])[:count]))
            return count
        result = real(*args, **kwargs)
        if name in ("fsync", "fdatasync", "ftruncate", "fchmod"):
            self._on_descriptor(name, *args)
        else:
            self._on_path(name, args, kwargs)
        return result

    def _opened(self, real: calls.Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        place, flags = self._place(args[0], kwargs.get("dir_fd")), args[1]
        fd = int(real(*args, **kwargs))
        if place is None:
            return fd
        folder, name = place
        node = folder.entries.get(name) if name else folder
        if node is None:
            node = File(mode=stat.S_IMODE(os.fstat(fd).st_mode))
            self._name((folder, {name: node}))
        elif flags & os.O_TRUNC:
            self.operations.append(Truncate(self._file_of(node), 0))
        self._open[fd] = node
        return fd

    def _on_descriptor(self, name: str, fd: int, value: int = 0) -> None:
        if fd not in self._open:
            return
        if name == "ftruncate":
            self.operations.append(Truncate(self._file(fd), value))
        elif name == "fchmod":
            self.operations.append(Chmod(self._file(fd), value))
        else:
            self.operations.append(Sync(self._open[fd]))

    def _on_path(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == "symlink":
            self._give(self._place(args[1], None), Symlink(os.fspath(args[0])))
        elif name == "mkdir":
            self._give(self._place(args[0], kwargs.get("dir_fd")), Folder())
        elif name in ("unlink", "remove", "rmdir"):
            self._give(self._place(args[0], kwargs.get("dir_fd")), None)
        elif name == "link":
            source = self._place(args[0], None)
            assert source is not None, "a link from outside the recorded folder"
            self._give(self._place(args[1], None), source[0].entries[source[1]])
        elif name in ("rename", "replace"):
            self._renamed(self._place(args[0], None), self._place(args[1], None))
        elif name == "chmod" and (place := self._place(args[0], None)) is not None:
            self.operations.append(Chmod(self._file_of(place[0].entries[place[1]]), args[1]))
        else:
            assert self._place(args[0], None) is None, f"{name} by path is not modelled"

    def _renamed(self, source: tuple[Folder, str] | None, target: tuple[Folder, str] | None) -> None:
        if source is None and target is None:
            return
        assert source is not None and target is not None, "a rename into or out of the recorded folder"
        node = source[0].entries[source[1]]
        if source[0] is target[0]:
            self._name((source[0], {source[1]: None, target[1]: node}))
        else:
            self._name((source[0], {source[1]: None}), (target[0], {target[1]: node}))

    def _give(self, place: tuple[Folder, str] | None, node: Node | None) -> None:
        if place is not None:
            self._name((place[0], {place[1]: node}))

    def _name(self, *parts: tuple[Folder, dict[str, Node | None]]) -> None:
        for folder, changes in parts:
            apply_names(folder.entries, changes)
        self.operations.append(Naming(parts))

    def _place(self, path: Any, dir_fd: int | None) -> tuple[Folder, str] | None:
        """Folder and name that ``path`` means; None for what lies elsewhere."""
        text = os.fspath(path)
        if dir_fd is not None and not os.path.isabs(text):
            start, parts = self._open.get(dir_fd), text.split("/")
            if start is None:
                return None
        else:
            full = os.path.abspath(text)
            if full != str(self.root) and not full.startswith(f"{self.root}/"):
                return None
            start, parts = self.top, full[len(str(self.root)) + 1 :].split("/")
        for part in parts[:-1]:
            assert isinstance(start, Folder)
            start = start.entries[part]
        assert isinstance(start, Folder)
        return start, parts[-1]

    def _file(self, fd: int) -> File:
        return self._file_of(self._open[fd])

    @staticmethod
    def _file_of(node: Node) -> File:
        assert isinstance(node, File)
        return node


def apply_names(entries: dict[str, Node], changes: dict[str, Node | None]) -> None:
    """Give and take names; what is taken twice is gone all the same."""
    for name, node in changes.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _scanned(folder: Path, inodes: dict[int, Node]) -> Folder:
    found: dict[str, Node] = {}
    for entry in os.scandir(folder):
        if entry.is_symlink():
            found[entry.name] = Symlink(os.readlink(entry.path))
        elif entry.is_dir():
            found[entry.name] = _scanned(Path(entry.path), inodes)
        elif entry.is_file():
            status = entry.stat()
            if status.st_ino not in inodes:
                inodes[status.st_ino] = File(Path(entry.path).read_bytes(), stat.S_IMODE(status.st_mode))
            found[entry.name] = inodes[status.st_ino]
    return Folder(dict(found), found)
