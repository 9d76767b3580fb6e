"""The whole simulated world: one hub, many devices, and what goes wrong between them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from farshore.core import twin
from farshore.core.digest import Digest
from farshore.core.errors import Unavailable
from farshore.core.manifest import Content, File, Manifest, Pipeline, Variant
from farshore.core.twin import Section
from farshore.core.wire import SyncReply, SyncRequest
from farshore.hub import auth
from farshore.hub.hub import Hub
from farshore.hub.records import devices, models
from farshore.hub.records.devices import Standing, Twin
from farshore.hub.records.models import Version
from farshore.hub.registry import About
from farshore.hub.settings import Settings
from farshore.sim import device
from farshore.sim.device import Behaviour, Simulated

START = 1_790_000_000.0
NEVER = 4e9
TICK = 5.0
MODEL = "detector"


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, as shares and times a day.

    Attributes:
        request: share of requests that never arrive.
        reply: share of replies that never arrive.
        twice: share of requests that arrive twice.
        late: share of requests that arrive once more, after the next one.
        offline: share of the devices that are away from the beginning on.
        outages: times a day that a device is away for a while.
        outage: seconds that such an outage takes, on average.
        reboots: times a day that a device's machine starts anew.
        jumps: times a day that a device's clock jumps, by up to twenty years.
        restarts: times a day that the hub is killed and started again.

    """

    request: float = 0.0
    reply: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    offline: float = 0.0
    outages: float = 0.0
    outage: float = 1800.0
    reboots: float = 0.0
    jumps: float = 0.0
    restarts: float = 0.0


class World(device.Hub):
    """A hub and its devices on virtual time.

    Args:
        folder: for the hub's data; a fast one.
        seed: of everything random.
        count: devices.
        faults: what goes wrong.
        rates: bytes a second of links; devices get them in turn.
        builders: patches built at one time; they are real ones.
        start: virtual time of the beginning, seconds since 1970.

    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        count: int,
        faults: Faults = Faults(),
        rates: Sequence[float] = (16_000.0,),
        builders: int = 0,
        start: float = START,
    ) -> None:
        self.chance, self.faults, self.now = random.Random(seed), faults, start  # noqa: S311 - a story, no secret
        self._settings = Settings(data=folder, builders=builders, sync_seconds=30)
        self.hub = Hub(self._settings, self._clock)
        self.behaviours: dict[str, Behaviour] = {}
        self.devices: dict[str, Simulated] = {}
        self.story: list[tuple[float, str]] = []
        self._events: list[tuple[float, int, str]] = []
        self._serial = 0
        self._late: dict[str, SyncRequest] = {}
        with self.hub.database.writing() as tx:
            for number in range(count):
                self._add(tx, f"device-{number:06d}", number, rates[number % len(rates)])
        self._told = 0
        self._next_tick, self._next_trouble = self.now, self.now

    def close(self) -> None:
        """End the hub."""
        self.hub.close()

    def release(self, contents: Mapping[str, bytes], behaviour: Behaviour, model: str = MODEL) -> str:
        """A new version of a model; returns its reference.

        Args:
            contents: of its files, by name, the model file first.
            behaviour: how it does.
            model: whose.

        """
        files: list[File] = []
        for name, data in contents.items():
            files.append(File(name, self.hub.registry.add_bytes(data), len(data), "external" if files else "model"))
        variant = Variant("onnx-fp32", "onnxruntime", "fp32", tuple(files), (), (), Pipeline("tensors", "tensors"))
        version, _ = self.hub.registry.add_version(model, Content((variant,)), About(), "")
        assert isinstance(version, Version), "a hub with its own key ring publishes by itself"
        self.behaviours[version.digest] = behaviour
        self._note(f"{model}@{version.number} is released")
        return f"{model}@{version.number}"

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            at, _, name = heapq.heappop(self._events)
            while self._next_tick <= at:
                self._tick(self._next_tick)
            self.now = max(self.now, at)
            one = self.devices[name]
            self._disturb(one)
            self._push(one.turn(self.now), name)
        self.now = end
        self._tick(end)

    def settle(self, seconds: float) -> None:
        """Let virtual time pass without faults, everybody reachable."""
        self.faults = Faults()
        for one in self.devices.values():
            one.away = min(one.away, self.now)
            one.skew = 0.0
            self._push(self.now, one.name)
        self.run(seconds)

    def restart(self) -> None:
        """Kill the hub and start it again over what it had written."""
        self.hub.close()
        self.hub = Hub(self._settings, self._clock)
        self._note("the hub was started again")

    # -- what devices ask ------------------------------------------------------------------------------------------

    def sync(self, one: Simulated, request: SyncRequest) -> SyncReply:
        if self.chance.random() < self.faults.request:
            raise Unavailable("the request was lost")
        for _ in range(1 + (self.chance.random() < self.faults.twice)):
            told = self.hub.fleet.sync(_credential(one.name), request)
        late = self._late.pop(one.name, None)
        if late is not None:
            self.hub.fleet.sync(_credential(one.name), late)
        elif self.chance.random() < self.faults.late:
            self._late[one.name] = request
        if self.chance.random() < self.faults.reply:
            raise Unavailable("the reply was lost")
        return SyncReply(twin.wire(told.twin.desired) if told.news else None, 30.0)

    def manifest(self, one: Simulated, digest: Digest) -> Manifest:
        self.hub.fleet.check_wants_version(one.name, digest)
        with self.hub.database.reading() as tx:
            version = models.by_digest(tx, digest)
        assert version is not None
        return self.hub.registry.manifest(version)

    def size(self, one: Simulated, digest: Digest) -> int:
        self.hub.fleet.check_needs_file(one.name, digest)
        whole = self.hub.registry.blob_size(digest)
        routes = self.hub.builds.routes(digest, sorted(one.blobs))
        return min([whole, *(route.size for route in routes)])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _clock(self) -> float:
        return self.now

    def _add(self, tx: Connection, name: str, number: int, rate: float) -> None:
        empty = Section({}, {}, 1)
        row = Twin(name, 1, {"site": f"site-{number % 7}", "ring": number % 10}, {}, empty, empty, 0)
        standing = Standing(None, credential=auth.hashed(_credential(name)), expires=NEVER)
        devices.add(tx, row, standing, self.now)
        chance = random.Random(self.chance.random())  # noqa: S311
        one = Simulated(name, self, lambda digest: self.behaviours.get(digest, Behaviour()), chance, rate)
        if self.chance.random() < self.faults.offline:
            one.away = NEVER
        self.devices[name] = one
        self._push(self.now + self.chance.uniform(0.0, 30.0), name)

    def _push(self, at: float, name: str) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at, self._serial, name))

    def _tick(self, at: float) -> None:
        """What the hub does by itself."""
        self.now = max(self.now, at)
        self._next_tick = at + TICK
        self.hub.rollouts.tick()
        for change in self.hub.fleet.changes(self._told, 1000):
            self._told = change.serial
            if change.kind.startswith(("rollout.", "deployment.")):
                self.story.append((change.at, f"{change.subject}: {change.kind.replace('.', ' ')}"))
        if self.chance.random() < self.faults.restarts * TICK / 86400.0:
            self.restart()

    def _disturb(self, one: Simulated) -> None:
        """Perhaps something happens to a device before its next turn, some seconds after its last."""
        share = 5.0 / 86400.0
        if self.chance.random() < self.faults.outages * share:
            one.away = self.now + self.chance.expovariate(1.0 / self.faults.outage)
        if self.chance.random() < self.faults.reboots * share:
            one.reboot(self.now)
        if self.chance.random() < self.faults.jumps * share:
            one.skew = self.chance.uniform(-1.0, 1.0) * 20 * 365 * 86400.0

    def _note(self, text: str) -> None:
        self.story.append((self.now, text))


def _credential(name: str) -> str:
    return f"credential-of-{name}".ljust(32, "-")
