"""A hub, a link, a device with agent and inference server, on virtual time."""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub
from tests.sim.links import SimLink
from tests.sim.server import SimServer

from farshore.agent import loop
from farshore.agent.download import Apply
from farshore.agent.identity import Identity
from farshore.agent.settings import Settings
from farshore.agent.turn import Agent
from farshore.core.digest import Digest
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

DEVICE = "turbine-7"


class World:
    """Everything; ``settings`` are the agent's."""

    def __init__(self, root: Path, *, apply: Apply | None = None, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.hub = SimHub(clock=self.clock)
        self.link = SimLink(self.hub, self.clock)
        self.hub.add_device(DEVICE, self.link.credential)
        self.slots = Slots(root)
        self.blobs = Blobs(root / "blobs")
        self.server = SimServer(self.slots, self.clock)
        self.settings = Settings.load(root, {"keep_free": 0, "trial": 10.0, **settings}, {})
        self.boot = "boot-1"
        self._apply = apply
        self.agent = self.start_agent()

    def start_agent(self) -> Agent:
        """A new agent process over what is on disk; the old one is as good as killed."""
        who = Identity("http://hub", DEVICE, self.link.credential or "", self.hub.repo.roots[0].decode())
        runtime = None if self.settings.serve == "none" else self.server
        self.agent = loop.build(
            self.settings, who, self.link, self.clock, random.Random(7), runtime=runtime, apply=self._apply
        )
        self.agent.start(self.boot)
        return self.agent

    def fork(self, root: Path) -> World:
        """The same world at this instant over a copy of the device's folder, as a killed agent would leave it: the inference
        server goes on, the agent is yet to be started.
        """
        shutil.copytree(self.settings.root, root, symlinks=True)
        twin = copy.copy(self)
        twin.clock = copy.copy(self.clock)
        twin.hub = copy.deepcopy(self.hub)
        twin.hub.clock = twin.clock
        twin.link = SimLink(twin.hub, twin.clock, rate=self.link.rate)
        twin.settings = replace(self.settings, root=root)
        twin.slots, twin.blobs = Slots(root), Blobs(root / "blobs")
        twin.server = replace_server(self.server, twin.slots, twin.clock)
        return twin

    def reboot(self) -> None:
        """The machine starts anew: agent, server, boot id; the monotonic clock goes on, nobody compares it across starts."""
        self.boot += "+"
        self.server.restart()
        self.start_agent()

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.agent.turn()

    def settle(self, turns: int = 2000) -> None:
        """Turn until two long holds pass with nothing to do."""
        quiet = 0
        for _ in range(turns):
            before = self.clock.monotonic()
            busy = self.agent.turn()
            quiet = quiet + 1 if not busy and self.clock.monotonic() - before >= self.settings.poll else 0
            if quiet >= 2:
                return
        raise AssertionError(f"not settled after {turns} turns")

    def current(self, model: str = "detector") -> Digest | None:
        entry = self.slots.current(model)
        return None if entry is None else entry.digest

    def serving(self, model: str = "detector") -> Digest | None:
        return self.server.serving[model][0] if model in self.server.serving else None

    def reported(self, model: str = "detector") -> dict[str, Any]:
        return self.hub.reported(DEVICE, model)

    def journal(self, model: str = "detector") -> Any:
        return self.agent._site.journal.note(model)


def replace_server(server: SimServer, slots: Slots, clock: VirtualClock) -> SimServer:
    """The same inference server beside a copy of its device."""
    twin = copy.copy(server)
    twin.slots, twin.clock, twin.calls = slots, clock, []
    twin.serving, twin.candidates = dict(server.serving), dict(server.candidates)
    twin.shadows = dict(server.shadows)
    return twin
