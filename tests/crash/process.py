"""Faults in real processes: a child is forked for each, its calls to the kernel counted, and one of them goes wrong.

Run with the library of ``shim.c`` preloaded: ``python -c 'from tests.crash import process; process.main()' STORY SHARE FOLDER``. Prints JSON:
calls of the story, points tried, what was bad. Where ``faults.py`` replaces Python's functions, this stands below
everything: SQLite, the object store's Rust, and what the standard library does in C.
"""

from __future__ import annotations

import collections
import ctypes
import json
import os
import pickle
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from tests.crash import stories
from tests.crash.checking import check
from tests.crash.stories import Plot
from tests.crash.test_faults import again, live
from tests.sim.releases import noise, release
from tests.sim.world import DEVICE

from farshore.core import digest as digests
from farshore.core.errors import FarshoreError
from farshore.hub.hub import Hub
from farshore.hub.registry import About
from farshore.hub.settings import Settings

MODES = ("kill", "EIO", "ENOSPC", "torn")
Tell = Callable[[Any], None]


class Story(Protocol):
    """Something that a process does to one folder."""

    root: Path

    def prepare(self) -> None:
        """Lay ``root`` anew."""

    def act(self, tell: Tell) -> None:
        """Do it; ``tell`` the far side what it may rely on from then on."""

    def check(self, told: list[Any]) -> None:
        """Raise if what is there is not what was told, or cannot be gone on with."""


class DeviceStory:
    """One of :mod:`stories`, lived by an agent in a process of its own."""

    def __init__(self, make: Callable[[Path], Plot], folder: Path) -> None:
        self._plot, self._folder = make(folder / "device"), folder
        self.root = folder / "again"

    def prepare(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self._world = again(self._plot, self._folder)

    def act(self, tell: Tell) -> None:
        hub, sync = self._world.hub, self._world.hub.sync

        def told(*arguments: Any) -> Any:
            reply = sync(*arguments)
            tell(hub.twins[DEVICE].reported)
            return reply

        hub.sync = told
        with self._plot.limits():
            live(self._world)

    def check(self, told: list[Any]) -> None:
        check(self._plot, self.root, told[-1] if told else self._plot.world.hub.twins[DEVICE].reported)


class HubStory:
    """A hub's first start, or its work: uploads, versions, tags, aliases, deployments, removals, collection."""

    def __init__(self, folder: Path, *, first: bool) -> None:
        self._folder, self._first = folder, first
        self.root = folder / "hub"

    def prepare(self) -> None:
        model = self._folder / "made"
        if not self._first and not model.exists():
            in_child(lambda _: Hub(Settings(model, builders=0)).close())
        shutil.rmtree(self.root, ignore_errors=True)
        if not self._first:
            shutil.copytree(model, self.root)

    def act(self, tell: Tell) -> None:
        hub = insisting(lambda: Hub(Settings(self.root, builders=0)))
        tell(
            ("secret", (self.root / "keys" / "director.key").read_bytes())
            if (self.root / "keys" / "director.key").exists()
            else ("open", 1)
        )
        _work(hub, tell)
        hub.close()

    def check(self, told: list[Any]) -> None:
        known: dict[str, set[Any]] = collections.defaultdict(set)
        for what, value in told:
            known[what].add(value)
            if what == "removed":
                known["version"].discard(value)
        for secret in known["secret"]:
            assert (self.root / "keys" / "director.key").read_bytes() == secret, "a secret that was used has changed"
        if (self.root / "hub.sqlite").exists():
            with sqlite3.connect(self.root / "hub.sqlite") as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), "the database is damaged"
        hub = Hub(Settings(self.root, builders=0))
        for digest, _ in hub.registry.objects.stored():
            assert digests.of(b"".join(hub.registry.objects.chunks(digest))) == digest, f"{digest} is not whole"
        for digest in known["blob"] - known["collected"]:
            assert b"".join(hub.registry.objects.chunks(digest)), f"{digest} was acknowledged and is gone"
        for number in known["version"]:
            assert hub.registry.find("detector", str(number)).number == number, f"version {number} is gone"
        for alias, number in known["alias"]:
            assert hub.registry.find("detector", alias).number >= number, f"{alias} has gone back"
        _work(hub, lambda _: None)
        assert hub.registry.find("detector", "champion").number >= 2
        hub.close()


def _work(hub: Hub, tell: Tell) -> None:
    first, second = release(size=100_000), release(version=2, size=5000)
    for one in (first, second):
        for data in (*one.blobs.values(), b"not needed on devices"):
            tell(("blob", insisting(lambda data=data: hub.registry.add_bytes(data))))
        content = one.manifest.content
        made, _ = insisting(lambda content=content: hub.registry.add_version("detector", content, About(), ""))
        tell(("version", made.number))
        insisting(lambda number=made.number: hub.registry.set_alias("detector", "champion", str(number)))
        tell(("alias", ("champion", made.number)))
    insisting(lambda: hub.registry.describe("detector", "Detector", "finds things", {"site": "oslo"}))
    insisting(lambda: hub.deployments.put("all", "*", "detector@champion", 1))
    stray = digests.of(noise(3000, "nobody's"))
    insisting(lambda: hub.registry.add_bytes(noise(3000, "nobody's")))
    hub.registry._clock = lambda: 4e9
    insisting(hub.registry.collect)
    tell(("collected", stray))
    hub.registry._clock = time.time
    insisting(hub.tidy)


def insisting(act: Callable[[], Any]) -> Any:
    """Ask again until it is done: a disk that fails once is no reason for anything but a clear refusal."""
    for _ in range(20):
        try:
            return act()
        except FarshoreError:
            pass
    return act()


def in_child(act: Callable[[Tell], None]) -> tuple[int, list[Any]]:
    """Fork, let the child ``act``, and hear what it tells. Its wait status, and all that was told in whole."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        try:
            act(lambda what: _send(theirs, what))
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
            _send(theirs, f"{type(error).__name__}: {error}"[:2000])
            os._exit(1)
    os.close(theirs)
    data = b"".join(iter(lambda: os.read(ours, 1 << 16), b""))
    os.close(ours)
    return os.waitpid(pid, 0)[1], list(_heard(data))


def _send(fd: int, what: Any) -> None:
    data = pickle.dumps(what)
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(fd, data) :]


def _heard(data: bytes) -> Iterator[Any]:
    while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "little"):
        end = 4 + int.from_bytes(data[:4], "little")
        yield pickle.loads(data[4:end])
        data = data[end:]


class Shim:
    """The preloaded library."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._library.shim_seen.restype = ctypes.c_long
        self._library.shim_struck.restype = ctypes.c_char_p
        self._library.shim_arm.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int)

    def calls(self, story: Story) -> int:
        """How many calls of that story change what is below its folder."""
        story.prepare()

        def act(tell: Tell) -> None:
            self._library.shim_arm(str(story.root).encode(), -1, 0)
            story.act(lambda _: None)
            tell(self._library.shim_seen())

        status, told = in_child(act)
        assert status == 0, told
        return int(told[-1])

    def strike(self, story: Story, number: int, mode: str) -> str | None:
        """What is wrong after a fault at that call; None if nothing."""
        story.prepare()

        def act(tell: Tell) -> None:
            self._library.shim_arm(str(story.root).encode(), number, 1 + MODES.index(mode))
            story.act(tell)
            if not self._library.shim_struck():
                raise AssertionError("the call was not reached")

        status, told = in_child(act)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if status and not killed:
            return f"{mode} at call {number}: it gave up: {told[-1:]}"
        if killed != (mode in ("kill", "torn")):
            return f"{mode} at call {number}: it was {'killed' if killed else 'not killed'}"
        status, why = in_child(lambda _: story.check(told))
        return f"{mode} at call {number}: {why or status}" if status else None


def named(name: str, folder: Path) -> Story:
    """A story by its name, to be told below ``folder``."""
    if name in ("hub_first_start", "hub_at_work"):
        return HubStory(folder, first=name == "hub_first_start")
    return DeviceStory(getattr(stories, name), folder)


def main() -> None:
    """See the module."""
    name, share = sys.argv[1], int(sys.argv[2])
    story, shim = named(name, Path(sys.argv[3])), Shim()
    count = shim.calls(story)
    numbers = sorted(random.Random(name).sample(range(count), min(share, count)))
    found = [shim.strike(story, number, mode) for number in numbers for mode in MODES]
    bad = [why for why in found if why is not None]
    print(json.dumps({"calls": count, "points": len(found), "bad": bad}))
