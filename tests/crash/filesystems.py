"""Power cuts on real file systems: an image is mounted, a process works on it, and at some instant, in mid-write, the image is copied.

Run as root: ``python -c 'from tests.crash import filesystems; filesystems.main()' KIND STORY POINTS FOLDER [without-fsync]``. The images lie on
an XFS of their own, which copies a file in one instant by sharing its blocks. What the copy holds is what a disk would hold
after a power cut then: it is mounted, which replays its journal, and must be as every other disk after a power cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.crash.process import Story, _heard, _send, in_child, named

KINDS = {
    "ext4": (["mkfs.ext4", "-q", "-F"], ""),
    "ext4-plain": (
        ["mkfs.ext4", "-q", "-F"],
        "noauto_da_alloc,data=writeback",
    ),  # without what it does for careless programs
    "xfs": (["mkfs.xfs", "-q", "-f"], ""),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], ""),
}
INNER, OUTER = 400 << 20, 8 << 30
_CLONE = 0x40049409  # FICLONE


class Unmountable(Exception):
    """This machine cannot do it; the text says why."""


class Disk:
    """An image file and where it is mounted.

    Args:
        kind: of :data:`KINDS`.
        image: the file.
        place: the folder.

    """

    def __init__(self, kind: str, image: Path, place: Path) -> None:
        self.image, self.place = image, place
        self._make, self._options = KINDS[kind]
        self._kind = kind.partition("-")[0]
        place.mkdir(exist_ok=True)

    def format(self) -> None:
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as file:
            file.truncate(INNER)
        _run([*self._make, str(self.image)])

    @contextmanager
    def mounted(self) -> Iterator[None]:
        options = ",".join(filter(None, ["loop", self._options]))
        _run(["mount", "-t", self._kind, "-o", options, str(self.image), str(self.place)])
        try:
            yield
        finally:
            _run(["umount", str(self.place)])
            if self._kind == "btrfs":  # it would take the next copy for another part of the same one
                _run(["btrfs", "device", "scan", "--forget"])

    def become(self, other: Path) -> None:
        """Be a copy of another image, in one instant."""
        clone(other, self.image)


def clone(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with source.open("rb") as one, target.open("wb") as other:
        fcntl.ioctl(other, _CLONE, one.fileno())


@contextmanager
def sharing(folder: Path) -> Iterator[Path]:
    """A place below ``folder`` where files can be copied in one instant."""
    if os.geteuid():
        raise Unmountable("only root mounts images")
    lacking = [tool for tool in ("mkfs.xfs", "mount", "umount") if shutil.which(tool) is None]
    if lacking:
        raise Unmountable(f"{' and '.join(lacking)} not installed here")
    disk = Disk("xfs", folder / "outer.img", folder / "outer")
    with disk.image.open("wb") as file:
        file.truncate(OUTER)
    try:
        _run(["mkfs.xfs", "-q", "-f", str(disk.image)])
        mounted = disk.mounted()
        mounted.__enter__()
    except OSError as error:
        raise Unmountable(f"this machine mounts no images: {error}") from error
    with contextlib.ExitStack() as stack:
        stack.push(mounted)
        yield disk.place


class Bench:
    """One story on one kind of file system."""

    def __init__(self, kind: str, story: str, folder: Path, *, careless: bool) -> None:
        self._disk = Disk(kind, folder / "work.img", folder / "inner")
        self._template, self._cut = folder / "template.img", folder / "cut.img"
        self._careless = careless
        try:
            self._disk.format()
            with self._disk.mounted():
                self.story: Story = named(story, self._disk.place)
                self.story.prepare()
                (self._disk.place / "other").write_bytes(b"")
        except OSError as error:
            raise Unmountable(f"no {kind} here: {error}") from error
        clone(self._disk.image, self._template)

    def seconds(self) -> float:
        """How long the story takes."""
        self._disk.become(self._template)
        with self._disk.mounted():
            start = time.monotonic()
            status, why = in_child(self._act)
            assert status == 0, why
            return time.monotonic() - start

    def point(self, delay: float, chance: random.Random) -> str | None:
        """Cut the power ``delay`` seconds after the story's begin. What is wrong then; None if nothing."""
        self._disk.become(self._template)
        with self._disk.mounted():
            told, before = self._live_until(delay, other=chance.random() < 0.5)
        why: Any = None
        for count in range(before, len(told) + 1):
            self._disk.become(self._cut)
            try:
                with self._disk.mounted():
                    status, why = in_child(lambda _, count=count: self.story.check(told[:count]))
            except OSError as error:
                return f"after {delay:.4f} s the file system itself is damaged: {error}"
            if not status:
                return None
        return f"after {delay:.4f} s: {why}"

    def _live_until(self, delay: float, *, other: bool) -> tuple[list[Any], int]:
        """What was told, and how much of it before the cut for certain: what came in the same moment may be before it or after."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            try:
                self._act(lambda what: _send(theirs, what))
            finally:
                os._exit(0)
        os.close(theirs)
        try:
            data, end = b"", time.monotonic() + delay
            while (left := end - time.monotonic()) > 0:
                if select.select([ours], [], [], left)[0]:
                    piece = os.read(ours, 1 << 16)
                    if not piece:
                        break
                    data += piece
            before = len(list(_heard(data)))
            if other:  # another program's fsync writes the journal, and with it names whose bytes are not there yet
                with (self._disk.place / "other").open("ab") as file:
                    file.write(b"x")
                    file.flush()
                    os.fsync(file.fileno())
            clone(self._disk.image, self._cut)
            while select.select([ours], [], [], 0)[0] and (piece := os.read(ours, 1 << 16)):
                data += piece
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(ours)
        return list(_heard(data)), before

    def _act(self, tell: Any) -> None:
        if not self._careless:
            return self.story.act(tell)
        nothing = mock.Mock(return_value=None)
        with mock.patch.multiple(os, fsync=nothing, fdatasync=nothing):
            return self.story.act(tell)


def _run(command: list[str]) -> None:
    for attempt in range(20):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if command[0] != "umount" or "busy" not in done.stderr:
            break
        time.sleep(0.05 * (attempt + 1))
    raise OSError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")


def main() -> None:
    """See the module."""
    kind, story, points, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    chance = random.Random(f"{kind} {story}")
    try:
        with sharing(folder) as place:
            bench = Bench(kind, story, place, careless=sys.argv[5:] == ["without-fsync"])
            span = max(bench.seconds() for _ in range(2))
            found = [bench.point(chance.uniform(0, 1.02 * span), chance) for _ in range(points)]
    except Unmountable as error:
        print(json.dumps({"cannot": str(error)}))
        return
    print(json.dumps({"points": points, "seconds": span, "bad": [why for why in found if why is not None]}))
