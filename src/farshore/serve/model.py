"""One model of this server: requests get leases on the version that leads, versions come and go without dropping any.

The model shows :mod:`farshore.serve.policy` a snapshot of its versions, makes the move that it names, and asks again. That is all
there is to start, switch, crash and fall back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import Protocol

from farshore.core.control import CaseResult, Probe, Serving, Switch
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, FarshoreError, NotFound, Unavailable
from farshore.core.wire import Fault
from farshore.serve import policy
from farshore.serve.lane import Lane, Lease, Reply
from farshore.serve.metrics import Histogram
from farshore.serve.settings import Settings
from farshore.serve.shadow import Shadow
from farshore.store.slots import Installed, Slots

log = logging.getLogger(__name__)

SOON = 3.0
"""Seconds after a probe that went well in which the agent is expected to order the switch: it notes and links, no more."""


class Home(Protocol):
    """What a model needs of the pool that it lives in (:mod:`farshore.serve.pool`, which imports this module)."""

    settings: Settings
    slots: Slots

    def budget(self, model: Model) -> int:
        """Bytes that the model's workers may hold together."""
        ...

    def make_room(self, model: Model, need: int) -> bool:
        """Whether that many bytes more may be taken now."""
        ...

    def freed(self, by: Model) -> None:
        """A worker of that model is gone."""
        ...


class Model:
    """One model: its versions here, and requests that wait while none of them leads.

    Args:
        name: the model's.
        pool: it belongs to.

    """

    def __init__(self, name: str, pool: Home) -> None:
        self.name = name
        self.lanes: dict[Digest, Lane] = {}
        self.held: deque[Lease] = deque()
        self.orders = asyncio.Lock()
        self.switches = 0
        self.latency = Histogram()
        self.counts: dict[int, int] = {}
        self.asleep = False  # to be loaded when somebody asks
        self.shadow: Shadow | None = None  # a candidate that answers unseen
        self._pool = pool
        self._advancing = False
        self._gap = 0.0
        self._last = 0.0  # when the last request was answered, or the first of those that wait now came

    # --- requests

    def submit(self, lease: Lease) -> None:
        """Lease a request to the version that leads, or to the one it asks for; its ``done`` is called in any case.

        Raises:
            NotFound: the version that it asks for is not loaded; ``done`` is not called.

        """
        leader = self.leader if lease.version is None else self.pinned(lease.version)
        if self.outstanding == 0:
            self._last = lease.came
        waiting = len(self.held) + sum(len(lane.queue) for lane in self.lanes.values())
        if leader is None and policy.should_answer(self._views()) is None:
            self._refuse([lease])
        elif waiting >= self._pool.settings.queue:
            self._reject(lease, "too many requests wait already: send fewer at once")
        elif leader is None:
            self.held.append(lease)
        else:
            leader.accept(lease)
        if self.asleep:
            self.wake()

    def pinned(self, number: int) -> Lane | None:
        """The version of that number, if it takes requests: it leads, or is a warm candidate. None while it comes up.

        Raises:
            NotFound: it is not loaded.

        """
        lanes = self.lanes.values()
        for lane in lanes:
            if lane.installed.version == number:
                if lane.leads or (lane.role == "candidate" and lane.state == "ready"):
                    return lane
                if lane.role == "lead" and self.leader is None:
                    return None
        loaded = ", ".join(str(lane.installed.version) for lane in lanes if lane.state == "ready") or "none"
        raise NotFound(f"{self.name}: version {number} is not loaded here; loaded: {loaded}")

    def cancel(self, lease: Lease) -> None:
        """The client is gone: drop its request wherever it is."""
        if lease.lane is not None:
            lease.lane.cancel(lease)
        elif lease in self.held:
            self.held.remove(lease)

    def answered(self, lease: Lease, reply: Reply) -> None:
        """Count an answer."""
        now = monotonic()
        self.latency.add(now - lease.came)
        self.counts[reply.status] = self.counts.get(reply.status, 0) + 1
        self._gap = max(self._gap, now - self._last)
        self._last = now
        if self.shadow is not None:
            self.shadow.offer(lease, reply)

    def _reject(self, lease: Lease, why: str) -> None:
        reply = Reply(503, error=Unavailable(why))
        self.answered(lease, reply)
        lease.done(reply)

    @property
    def leader(self) -> Lane | None:
        """The version that new requests are leased to."""
        return next((lane for lane in self.lanes.values() if lane.leads), None)

    @property
    def heir(self) -> Lane | None:
        """The version that answers, or would as soon as it is loaded; None if none can."""
        wanted = None if self.leader is not None else policy.should_answer(self._views())
        return self.leader if wanted is None else self.lanes[wanted.digest]

    @property
    def outstanding(self) -> int:
        """Requests that are not answered yet."""
        return len(self.held) + sum(lane.leases for lane in self.lanes.values())

    @property
    def retry_after(self) -> int:
        """Seconds after which a refused client may try again."""
        leader = self.leader
        if leader is None or leader.state != "ready":
            return 2
        return max(1, min(60, round(self.outstanding * leader.service / self._pool.settings.width)))

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now, or as soon as the model that sleeps has woken up."""
        leader = self.leader
        return self.asleep or (leader is not None and leader.state == "ready")

    @property
    def wanted(self) -> bool:
        """Whether it is to answer at all."""
        return any(lane.role == "lead" for lane in self.lanes.values())

    # --- sleep

    @property
    def asked(self) -> bool:
        """Whether somebody waits for it: a client, or the agent with a candidate."""
        return self.outstanding > 0 or self.orders.locked()

    def resident(self) -> policy.Resident:
        """What it holds, as the policy sees it."""
        lanes = self.lanes.values()
        held = sum(lane.need for lane in lanes if lane.state != "absent")
        unseen = self.shadow.lane if self.shadow is not None else None  # what nobody waits for makes room
        busy = self.asked or any(
            lane.state == "loading" or (lane.role == "candidate" and lane is not unseen) for lane in lanes
        )
        return policy.Resident(self.name, held, self._last, stays=busy or self.name in self._pool.settings.pins)

    def sleep(self) -> None:
        """Let its memory go until somebody asks; nobody does now."""
        log.info("%s: sleeps, to make room", self.name)
        self.asleep = True
        for lane in self.lanes.values():
            lane.end()

    def wake(self) -> None:
        """Somebody asks: load it, and let others make room."""
        self.asleep = False
        self.advance()

    # --- versions

    def begin(self, current: Installed | None, previous: Installed | None) -> None:
        """Take up what the slots say after a start, before the agent has said a word."""
        self.asleep = False
        lead, fallback = (current, previous) if current is not None else (previous, None)
        if lead is not None:
            self.lane(lead.digest).role = "lead"
        if fallback is not None:
            self.lane(fallback.digest).role = "fallback"
        self.advance()

    def lane(self, digest: Digest) -> Lane:
        """The lane of a version, made if there is none.

        Raises:
            NotFound: it is not installed.

        """
        if digest not in self.lanes:
            slots = self._pool.slots
            installed = slots.find(self.name, digest)
            size = sum(file.size for file in slots.variant(installed).files if file.role in {"model", "external"})
            self.lanes[digest] = Lane(installed, size, self._pool.settings, self._changed, self.answered)
        return self.lanes[digest]

    async def probe(self, digest: Digest) -> Probe:
        """Load a candidate beside what answers and let it answer the acceptance cases. It stays warm.

        Raises:
            NotFound: it is not installed.

        """
        async with self.orders:
            self.asleep = False
            lane = self.lane(digest)
            if lane.role != "lead" and not lane.leads:
                for other in self.lanes.values():
                    if other.role == "candidate" and other is not lane:
                        other.role = "none"
                lane.role, lane.probed = "candidate", False
            if lane.state == "absent":
                lane.forgive()
            lane.expected = 0.0
            try:
                self.advance()
                cases = await self._check(lane)
                failed = [case for case in cases if not case.ok]
                lane.expected = 0.0 if failed else monotonic() + SOON
            except FarshoreError as error:
                lane.broken = lane.broken or lane.role == "candidate"
                return Probe(ok=False, fault=Fault(error.code, error.message[:1024]))
            finally:
                lane.probed = True
                self.advance()
            fault = Fault("invalid", f"acceptance case {failed[0].name}: {failed[0].why}"[:1024]) if failed else None
            held = lane.worker.memory() if lane.worker is not None else 0
            return Probe(not failed, fault, cases, round(lane.load_seconds, 3), held)

    async def _check(self, lane: Lane) -> tuple[CaseResult, ...]:
        await lane.settled()
        if lane.state != "ready":
            raise lane.fault or Unavailable("the worker was ended")
        return await lane.check()

    async def switch(self, digest: Digest) -> Switch:
        """Let that version lead; the one before it finishes what it holds, then its worker ends.

        Raises:
            NotFound: it is not installed.
            FarshoreError: it cannot live; what led before goes on.

        """
        async with self.orders:
            self.asleep = False
            lane, before = self.lane(digest), self._before()
            if lane.leads and lane.role == "lead":
                return Switch(digest)
            roles = {other: other.role for other in self.lanes.values()}
            for other in self.lanes.values():
                other.role = "none"
            if before is not None:
                before.role = "fallback"
            lane.role = "lead"
            lane.forgive()
            self._gap, left = 0.0, before.leases if before is not None else 0
            self.advance()
            try:
                await lane.settled()
            except Unavailable as error:
                lane.fault = error
            if not lane.leads:
                fault = lane.fault or Unavailable("the worker was ended")
                for other, role in roles.items():
                    other.role = role
                lane.role = "none"
                self.advance()
                raise fault
            self.switches += 1
            await self._drained(before)
            return Switch(digest, round(self._gap, 4), left)

    def _before(self) -> Lane | None:
        """The version to go back to from a switch: what leads, or would if it had not made room for the probe."""
        return self.leader or next((lane for lane in self.lanes.values() if lane.role == "lead"), None)

    async def _drained(self, lane: Lane | None) -> None:
        """Wait until nothing is left of what led before."""
        try:
            async with asyncio.timeout(self._pool.settings.hang_seconds):
                while lane is not None and not lane.leads and lane.state != "absent":
                    await lane.changed()
        except TimeoutError:
            pass  # its last requests hang; they and it are ended by the clock

    async def drop(self, digest: Digest) -> None:
        """Let a version go: a candidate, or one that is not current in the slots any more.

        Raises:
            Conflict: it is current and answers.

        """
        async with self.orders:
            lane = self.lanes.get(digest)
            if lane is None:
                return
            current = self._pool.slots.current(self.name)
            if lane.role == "lead" and current is not None and current.digest == digest:
                raise Conflict(f"{self.name}: version {lane.installed.version} is current: activate another one first")
            lane.role, lane.leads = "none", False
            self.advance()

    # --- the loop of decide and act

    def advance(self) -> None:
        """Ask what is next, do it, until there is nothing but waiting."""
        if self._advancing:
            return  # a move's own news: the loop below asks again anyway
        self._advancing = True
        try:
            for _ in range(100):
                self._rehome()
                if self.asleep:
                    break
                action = policy.next_action(self._views(), self._pool.budget(self), monotonic())
                if action is None or not self._act(action):
                    break
        finally:
            self._advancing = False
        if self.shadow is not None and self.shadow.lane.role != "candidate":
            self.shadow = None
        idle = [digest for digest, lane in self.lanes.items() if lane.role == "none" and lane.idle]
        for digest in idle:
            del self.lanes[digest]

    def _act(self, action: policy.Action) -> bool:
        """Make a move; False if other models have to make room for it first."""
        lane = self.lanes[action.digest]
        match action:
            case policy.Load():
                if not self._pool.make_room(self, lane.need):
                    return False
                log.info("loading %s", lane.name)
                crowded = any(each.crowded for each in self.lanes.values())
                lane.load(crowded=crowded, aside=any(each.state == "ready" for each in self.lanes.values()))
            case policy.Switch():
                log.info("%s answers", lane.name)
                leader = self.leader
                if leader is not None:
                    leader.leads = False
                lane.lead()
            case policy.Drain():
                log.info("%s makes room; requests wait", lane.name)
                lane.leads = False
            case policy.End():
                lane.end()
            case policy.Refuse():
                lane.refuse(
                    Unavailable(f"{self.name}: not enough memory for it: about {lane.need >> 20} MB are needed")
                )
        return True

    def _rehome(self) -> None:
        """Give requests that wait where nobody will answer them to the version that leads now."""
        leader, wanted = self.leader, policy.should_answer(self._views())
        for lane in self.lanes.values():
            given_up = wanted is None or lane.installed.digest != wanted.digest
            if lane.state == "absent" and lane.queue and not (leader is lane and not given_up):
                self.held.extend(lane.take_all())
            if lane.leads and lane.state == "absent" and given_up:
                lane.leads = False
        if wanted is None:
            waiting, self.held = self.held, deque()
            self._refuse(waiting)
        leader = self.leader
        while leader is not None and self.held:
            lease = self.held.popleft()
            if lease.version in {None, leader.installed.version}:
                leader.accept(lease)
            else:
                self._reject(lease, f"{self.name}: version {lease.version} is gone")

    def _refuse(self, leases: list[Lease] | deque[Lease]) -> None:
        faults = [lane.fault.message for lane in self.lanes.values() if lane.fault is not None]
        why = f": {faults[0]}" if faults else ""
        for lease in leases:
            self._reject(lease, f"{self.name}: no version can answer{why}")

    def _changed(self, lane: Lane) -> None:
        self.advance()
        if lane.state == "absent":
            self._pool.freed(self)

    def _views(self) -> tuple[policy.Version, ...]:
        return tuple(lane.view() for lane in self.lanes.values())

    def look(self, now: float) -> None:
        """What only time tells."""
        for lane in list(self.lanes.values()):
            lane.look(now)
        if self.shadow is not None:
            self.shadow.look(now)
        while self.held and self.held[0].deadline < now:
            self._reject(self.held.popleft(), "no version became ready in time: try again")
        if any(lane.state == "absent" and lane.role != "none" for lane in self.lanes.values()):
            self.advance()

    def pardon(self, seconds: float) -> None:
        """As :meth:`Lane.pardon`."""
        for lane in self.lanes.values():
            lane.pardon(seconds)
        for lease in self.held:
            lease.deadline += seconds

    def serving(self, lane: Lane | None) -> Serving | None:
        """A version's counts."""
        if lane is None:
            return None
        shadow = self.shadow
        if shadow is not None and shadow.lane is lane:
            return shadow.serving()
        seconds = monotonic() - lane.leading_since if lane.leads else 0.0
        return Serving(
            lane.installed.digest, lane.installed.version, lane.requests, lane.errors, lane.deaths,
            round(seconds, 3), lane.state == "ready" or self.asleep, round(lane.latency, 5), lane.memory,
        )  # fmt: skip
