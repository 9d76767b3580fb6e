"""Every state of the disk that a power cut may leave, by a strict POSIX model.

Bytes are durable after an fsync of their file; until then each write since may be there, missing (the old bytes, or zeros where the
file grew), or torn at a sector or a page; the length and the mode may be the old or the new ones. Names are durable
after an fsync of their folder; until then each change since may be there or missing, whatever became of the others. Files and
folders are independent of each other.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.recorder import (
    Chmod,
    File,
    Folder,
    Mark,
    Naming,
    Node,
    Operation,
    Recording,
    Symlink,
    Sync,
    Truncate,
    Write,
    apply_names,
)  # fmt: skip

SECTOR, PAGE = 512, 4096
SUBSETS_UP_TO = 5
"""Changes of one folder up to which all their subsets are tried; beyond, prefixes, each alone, and each left out."""

Content = tuple[bytes, int]
Change = Write | Truncate | Chmod


@dataclass(frozen=True, eq=False)
class State:
    """One disk after a power cut.

    Attributes:
        tree: path → folder (None), link (its target) or file (bytes, mode, inode).
        known: what the far side had been told by then.
        at: number of the operation after which the power went.

    """

    tree: dict[str, Any]
    known: Any
    at: int

    def lay(self, root: Path) -> Path:
        """Write the state into the fresh folder ``root``."""
        root.mkdir(parents=True)
        first: dict[int, str] = {}
        for path, what in self.tree.items():
            full = f"{root}/{path}"
            if what is None:
                os.mkdir(full)
            elif isinstance(what, str):
                os.symlink(what, full)
            elif what[2] in first:
                os.link(first[what[2]], full)
            else:
                first[what[2]] = full
                fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(fd, what[0])
                os.fchmod(fd, what[1])
                os.close(fd)
        return root


def states(recording: Recording, *, at_each: int, seed: int = 1, without: type[Node] | None = None) -> Iterator[State]:
    """All different states, one after another.

    Args:
        recording: what was done.
        at_each: how many ways to combine what is not durable are tried at one instant; beyond, a sample.
        seed: of the sample.
        without: ``File`` or ``Folder`` to leave their fsyncs out: to prove that their absence would be noticed.

    """
    disk, seen, known = _Disk(random.Random(seed), at_each), set[int](), None
    for number, operation in enumerate(recording.operations):
        if isinstance(operation, Mark):
            known = operation.known
        elif without is None or not (isinstance(operation, Sync) and isinstance(operation.node, without)):
            disk.take(operation)
        for tree in disk.trees(recording.top):
            key = hash((frozenset(tree.items()), id(known)))
            if key not in seen:
                seen.add(key)
                yield State(tree, known, number)


def final(recording: Recording) -> dict[str, Any]:
    """What the program itself saw at the end."""
    disk = _Disk(random.Random(0), 1)
    for operation in recording.operations:
        disk.take(operation)
    return disk.tree(recording.top, {node: options[-1] for node, options in disk.options(recording.top).items()})


class _Disk:
    """What is durable, and what has happened since."""

    def __init__(self, chance: random.Random, at_each: int) -> None:
        self._chance, self._at_each = chance, at_each
        self._durable: dict[Node, Any] = {}
        self._pending: dict[Node, list[Any]] = {}
        self._options: dict[Node, tuple[int, list[Any]]] = {}

    def take(self, operation: Operation) -> None:
        if isinstance(operation, Naming):
            for folder, changes in operation.parts:
                self._pending.setdefault(folder, []).append(changes)
        elif isinstance(operation, Write | Truncate | Chmod):
            self._pending.setdefault(operation.file, []).append(operation)
        elif isinstance(operation, Sync):
            self._durable[operation.node] = self._of(operation.node)[-1]
            self._pending.pop(operation.node, None)
            self._options.pop(operation.node, None)

    def trees(self, top: Folder) -> Iterator[dict[str, Any]]:
        options = self.options(top)
        nodes = [node for node, ways in options.items() if len(ways) > 1]
        fixed = {node: ways[0] for node, ways in options.items()}
        for choice in self._choices([options[node] for node in nodes]):
            yield self.tree(top, {**fixed, **dict(zip(nodes, choice, strict=True))})

    def options(self, top: Folder) -> dict[Node, list[Any]]:
        """Every reachable inode with the contents that it may have; the last is what the program saw."""
        found: dict[Node, list[Any]] = {}
        todo: list[Node] = [top]
        while todo:
            node = todo.pop()
            if node not in found:
                found[node] = self._of(node)
                if isinstance(node, Folder):
                    todo += [child for way in found[node] for child in way.values()]
        return found

    def tree(self, top: Folder, chosen: dict[Node, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}

        def walk(folder: Folder, path: str) -> None:
            for name, node in chosen[folder].items():
                place = f"{path}{name}"
                if isinstance(node, Folder):
                    result[place] = None
                    walk(node, f"{place}/")
                else:
                    result[place] = node.target if isinstance(node, Symlink) else (*chosen[node], id(node))

        walk(top, "")
        return result

    def _choices(self, ways: Sequence[Sequence[Any]]) -> Iterable[Sequence[Any]]:
        if math.prod(map(len, ways)) <= self._at_each:
            return itertools.product(*ways)
        picked = [[way[0] for way in ways], [way[-1] for way in ways]]
        picked += [[way[0] if i == j else way[-1] for j, way in enumerate(ways)] for i in range(len(ways))]
        picked += [[way[-1] if i == j else way[0] for j, way in enumerate(ways)] for i in range(len(ways))]
        picked += [[self._chance.choice(way) for way in ways] for _ in range(self._at_each)]
        return picked[: max(self._at_each, 2)]

    def _of(self, node: Node) -> list[Any]:
        pending = self._pending.get(node, [])
        known = self._options.get(node)
        if known is None or known[0] != len(pending):
            known = self._options[node] = len(pending), self._worked_out(node, pending)
        return known[1]

    def _worked_out(self, node: Node, pending: list[Any]) -> list[Any]:
        if isinstance(node, File):
            ways = dict.fromkeys(_contents(self._durable.get(node, (node.data, node.mode)), pending))
            seen = functools.reduce(_after, pending, self._durable.get(node, (node.data, node.mode)))
            ways.pop(seen, None)
            return [*ways, seen]
        if isinstance(node, Folder):
            return _listings(self._durable.get(node, node.before), pending)
        return [node.target]


def _listings(before: dict[str, Node], changes: list[dict[str, Node | None]]) -> list[dict[str, Node]]:
    """What a folder may list, from what is durable to what the program saw."""
    count = len(changes)
    if count <= SUBSETS_UP_TO:
        kept = [set(some) for size in range(count + 1) for some in itertools.combinations(range(count), size)]
    else:
        whole = set(range(count))
        kept = [{one} for one in whole] + [whole - {one} for one in whole]
        kept = [set(range(size)) for size in range(count)] + kept + [whole]
    unique: dict[frozenset[tuple[str, Node]], dict[str, Node]] = {}
    for some in kept:
        entries = dict(before)
        for index in sorted(some):
            apply_names(entries, changes[index])
        key = frozenset(entries.items())
        unique.pop(key, None)  # what is reached again moves back, so that the last stays what the program saw
        unique[key] = entries
    return list(unique.values())


def _contents(before: Content, changes: list[Change]) -> Iterator[Content]:
    """What a file may hold, from what is durable to what the program saw."""
    now = before
    yield before
    steps = [now]
    for change in changes:
        if isinstance(change, Write):
            for cut in _tears(change):
                yield _after(now, Write(change.file, change.offset, change.data[:cut]))
        now = _after(now, change)
        steps.append(now)
    yield from steps[1:-1]
    if changes:
        yield _lost(before, changes, set(range(len(changes))))
        for index, change in enumerate(changes):
            if isinstance(change, Write):
                yield _lost(before, changes, {index})
        yield now[0], before[1]
        yield before[0], now[1]


def _after(content: Content, change: Change) -> Content:
    data, mode = content
    if isinstance(change, Chmod):
        return data, change.mode
    if isinstance(change, Truncate):
        return data[: change.size].ljust(change.size, b"\0"), mode
    data = data.ljust(change.offset, b"\0")
    return data[: change.offset] + change.data + data[change.offset + len(change.data) :], mode


def _lost(before: Content, changes: list[Change], lost: set[int]) -> Content:
    """The length as the program saw it, but the bytes of some writes never written: old ones, or zeros."""
    now = before
    for index, change in enumerate(changes):
        if index in lost and isinstance(change, Write):
            end = max(change.offset + len(change.data), len(now[0]))
            now = now[0].ljust(end, b"\0"), now[1]
        else:
            now = _after(now, change)
    return now


def _tears(change: Write) -> list[int]:
    """Where a write may tear: after its first sector, and at a page near its middle."""
    sector = SECTOR - change.offset % SECTOR
    middle = (change.offset + len(change.data) // 2) // PAGE * PAGE - change.offset
    return [cut for cut in sorted({sector, middle}) if 0 < cut < len(change.data)]
