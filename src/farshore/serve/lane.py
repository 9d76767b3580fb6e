"""One version in the front: its worker, the requests that hold a lease on it, its counts.

A lane carries out single moves (load, end, send a request on); which move to make is :mod:`farshore.serve.policy`'s to say, and
the pool's to carry out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, time

from msgspec import structs

from farshore.core.control import CaseResult
from farshore.core.errors import Conflict, Corrupt, Denied, FarshoreError, Invalid, NotFound, Unavailable, from_code
from farshore.serve import frames, memory, policy
from farshore.serve.frames import (
    Answer,
    Cancel,
    Check,
    Checked,
    Compared,
    Failed,
    Infer,
    Lead,
    Load,
    Ready,
    Score,
    ToFront,
)
from farshore.serve.metrics import Histogram
from farshore.serve.process import WorkerProcess
from farshore.serve.settings import Settings
from farshore.store.slots import Installed

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Workers that may die over one request before it is answered 503."""

RECENT, ENOUGH = 256, 10
"""Requests whose time is remembered, and below which nothing is said of it."""

_LATELY = 10.0
"""Seconds for which a crowd of requests is expected to go on, and between two looks at a worker's memory."""

_HOPELESS = (Corrupt, Invalid, NotFound, Conflict, Denied)
_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with.

    Attributes:
        status: HTTP's.
        body: JSON, or a picture, or tensors, as it was asked for.
        source: the version that answered; None if none did.
        error: instead of ``body``.
        head: of ``body``'s bytes, those that are JSON where binary tensors follow.

    """

    status: int
    body: bytes = b""
    source: Installed | None = None
    error: FarshoreError | None = None
    head: int | None = None


@dataclass(slots=True, eq=False)
class Lease:
    """A request and its hold on the version that answers it.

    Attributes:
        body: pieces of a picture or of tensors; ``length`` their bytes together.
        done: called once with the reply.
        deadline: when it has waited too long.
        order: what the worker is asked for; its ``id`` is filled in.
        version: the only one that may answer; None for whichever leads.
        lane: the version; None while there is none to take it.
        started: when it was sent to a worker.
        deaths: workers that died over it.

    """

    body: Sequence[bytes]
    length: int
    done: Callable[[Reply], None]
    deadline: float
    order: Score | Infer = field(default_factory=Score)
    version: int | None = None
    lane: Lane | None = None
    came: float = field(default_factory=monotonic)
    started: float = 0.0
    deaths: int = 0
    id: int = field(default_factory=_ids.__next__)


class Lane:
    """A version on this server.

    Args:
        installed: where it lies.
        size: bytes of its files.
        settings: the server's.
        on_change: called when its worker came, went or became idle while it does not lead.
        on_answer: called with every request that is answered here.

    """

    def __init__(
        self,
        installed: Installed,
        size: int,
        settings: Settings,
        on_change: Callable[[Lane], None],
        on_answer: Callable[[Lease, Reply], None],
    ) -> None:
        self.installed = installed
        self.name = f"{installed.model}@{installed.version}"
        self.role: policy.Role = "none"
        self.state: policy.State = "absent"
        self.leads = False
        self.probed = False
        self.expected = 0.0  # until then a switch to it is
        self.fault: FarshoreError | None = None
        self.broken = False
        self.crashes = 0  # in a row
        self.retry_at = 0.0
        self.need = memory.estimate(size)
        self.since = 0.0  # when its worker became ready, or was started
        self.load_seconds = 0.0
        self.leading_since = 0.0
        self.requests = self.errors = self.deaths = 0
        self.last_success = 0.0  # seconds since 1970, for statistics
        self.stages = {name: Histogram() for name in ("wait", "decode", "infer", "read")}
        self.queue: deque[Lease] = deque()
        self.running: dict[int, Lease] = {}
        self._given_up: dict[int, Lease] = {}  # sent to the worker, which may compute for them still; nobody waits
        self.service = 0.0  # seconds in a worker, smoothed
        self._newest: deque[float] = deque(maxlen=RECENT)  # seconds that its newest requests were computed
        self.worker: WorkerProcess | None = None
        self.unseen: Callable[[Compared | None], None] | None = None  # hears comparisons; None for "the worker is gone"
        self._together = -1e9  # when several requests last ran at once
        self._measured = 0.0  # when its memory was
        self._settings = settings
        self._on_change = on_change
        self._on_answer = on_answer
        self._window = settings.width + 1  # one more than run at once, so that no thread waits for the front
        self._checks: dict[int, asyncio.Future[tuple[CaseResult, ...]]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def leases(self) -> int:
        """Requests that hold this version."""
        return len(self.queue) + len(self.running)

    @property
    def idle(self) -> bool:
        """Whether nothing is left of it here."""
        return self.state == "absent" and not self.leases and not self._checks

    @property
    def crowded(self) -> bool:
        """Whether several requests ran at once lately."""
        return monotonic() - self._together < _LATELY

    def view(self) -> policy.Version:
        """This version as the policy sees it."""
        held = self.leases + len(self._checks)
        return policy.Version(
            self.installed.digest, self.role, self.state, self.leads, held, self.crashes, self.broken,
            self.retry_at, self.probed, self.expected, self.need,
        )  # fmt: skip

    def forgive(self) -> None:
        """Forget what went wrong: somebody asks for this version anew."""
        self.broken, self.crashes, self.retry_at, self.fault = False, 0, 0.0, None

    def load(self, *, crowded: bool = False, aside: bool = False) -> None:
        """Start a worker and let it load.

        Args:
            crowded: be ready for several requests at once, not for a lone one.
            aside: let others go first, for something else answers meanwhile.

        """
        self.state, self.since = "loading", monotonic()
        worker = WorkerProcess(self._on_frame, self._on_death)
        self.worker = worker
        try:
            worker.start(self._settings, aside=aside)
        except OSError as error:
            self.fault = Unavailable(f"no worker could be started: {error.strerror}")
            self._gone()
            return
        installed, settings = self.installed, self._settings
        root = str(settings.root.absolute())
        tuned = not settings.threads  # a number that was given goes before one that was measured
        worker.send(Load(root, installed.model, installed.digest, settings.width, settings.max_pixels, crowded, tuned))

    def refuse(self, fault: FarshoreError) -> None:
        """It cannot be loaded here."""
        self.fault, self.broken = fault, True
        self._notify()

    def end(self) -> None:
        """End the worker; it holds nothing. Its memory is free once it is gone."""
        if self.worker is not None:
            self.state = "ending"
            self.worker.kill()

    def lead(self) -> None:
        """Take traffic."""
        self.leads, self.leading_since = True, monotonic()
        if self.worker is not None:
            self.worker.send(Lead())

    def accept(self, lease: Lease) -> None:
        """Give a request its lease on this version."""
        lease.lane = self
        self.queue.append(lease)
        self._dispatch()

    def take_all(self) -> list[Lease]:
        """Requests that wait here, to be leased to another version."""
        waiting = list(self.queue)
        self.queue.clear()
        for lease in waiting:
            lease.lane = None
        return waiting

    def cancel(self, lease: Lease) -> None:
        """Nobody waits for that request any more."""
        if self.running.pop(lease.id, None) is not None:
            if self.worker is not None:
                self.worker.send(Cancel(lease.id))
                self._given_up[lease.id] = lease
            self._dispatch()
        else:
            self.queue.remove(lease)
        lease.lane = None
        self._let_go()

    async def settled(self) -> None:
        """Wait until the worker is ready, or gone, or given up.

        Raises:
            Unavailable: nothing of that happened for long: other versions of the model keep it from its turn.

        """
        patience = 2 * self._settings.load_seconds
        try:
            async with asyncio.timeout(patience) as limit:
                while self.state in {"loading", "ending"} or (
                    self.state == "absent" and not self.broken and self.fault is None
                ):
                    await self.changed()
                    if self.state == "loading":  # its turn came; from here on the clock of loading counts
                        limit.reschedule(asyncio.get_running_loop().time() + patience)
        except TimeoutError:
            raise Unavailable("its turn to load did not come") from None

    async def check(self) -> tuple[CaseResult, ...]:
        """Answer the acceptance cases in the worker.

        Raises:
            Unavailable: it died over them.

        """
        assert self.worker is not None
        number = next(_ids)
        future = self._checks[number] = asyncio.get_running_loop().create_future()
        self.worker.send(Check(number))
        try:
            async with asyncio.timeout(self._settings.load_seconds):
                cases: tuple[CaseResult, ...] = await future
                return cases
        except TimeoutError:
            if self.worker is not None:
                self.worker.kill()
            raise Unavailable("the acceptance cases took too long") from None
        finally:
            self._checks.pop(number, None)

    def look(self, now: float) -> None:
        """What only time tells: requests that waited too long, workers that hang, workers that live well."""
        while self.queue and self.queue[0].deadline < now:
            lease = self.queue.popleft()
            self.finish(
                lease, Reply(503, error=Unavailable("waited too long for its turn: send fewer requests at once"))
            )
        if self.state == "loading" and now - self.since > self._settings.load_seconds:
            self.fault = Unavailable(f"loading took longer than {self._settings.load_seconds:g} seconds")
            self._kill()
        elif self.worker is not None and not self.worker.killed:
            self._end_if_hung(now - self._settings.hang_seconds)
        if self.worker is not None and self.state == "ready" and now - self._measured > _LATELY:
            self.need, self._measured = self.worker.memory() or self.need, now
        if self.state == "ready" and self.crashes and now - self.since > self._settings.steady_seconds:
            self.crashes = 0

    def _end_if_hung(self, latest: float) -> None:
        """End a worker that has computed on one request since before ``latest``, also if nobody waits for it any more: it keeps a thread
        from the others.
        """
        sent = (*self.running.values(), *self._given_up.values())
        hung = min(sent, key=lambda each: each.started, default=None)  # what came after it may only wait behind it
        if hung is None or hung.started >= latest:
            return
        self.fault = Unavailable(
            f"the worker computed longer than {self._settings.hang_seconds:g} seconds and was ended"
        )
        if self.running.pop(hung.id, None) is not None:  # it would hang again: only the others get a second worker
            self.finish(hung, Reply(503, error=self.fault))
        self._kill()

    def pardon(self, seconds: float) -> None:
        """Nobody could do anything in the last seconds, for the machine or this process stood still: they do not count."""
        self.since += seconds
        for lease in (*self.running.values(), *self._given_up.values()):
            lease.started += seconds
        for lease in (*self.queue, *self.running.values()):
            lease.deadline += seconds

    @property
    def latency(self) -> float:
        """95th percentile of the seconds that its newest requests were computed, waiting apart; 0 while there were too few."""
        found = sorted(self._newest)
        return found[int(0.95 * (len(found) - 1))] if len(found) >= ENOUGH else 0.0

    @property
    def memory(self) -> int:
        """Bytes that its worker held when it was last measured; 0 if it never was."""
        return self.need if self._measured else 0

    def finish(self, lease: Lease, reply: Reply) -> None:
        """Answer a request; its lease ends."""
        self.requests += 1
        self.errors += reply.status >= 500
        lease.lane = None
        self._on_answer(lease, reply)
        lease.done(reply)

    def _dispatch(self) -> None:
        worker = self.worker
        if worker is None or self.state != "ready":
            return
        while self.queue and len(self.running) < self._window:
            lease = self.queue.popleft()
            lease.started = monotonic()
            self.running[lease.id] = lease
            worker.send(structs.replace(lease.order, id=lease.id), lease.body, lease.length)
            if len(self.running) > 1:
                self._together = lease.started

    def _on_frame(self, message: ToFront, body: bytes) -> None:
        worker = self.worker
        if worker is None or self.state == "ending":
            return  # late words
        match message:
            case Answer():
                self._answered(message, body)
            case Ready():
                now = monotonic()
                self.state, self.load_seconds, self.since, self.fault = "ready", now - self.since, now, None
                self.need, self._measured = worker.memory() or self.need, now
                self._window = message.width + 1
                if self.leads:  # it comes back after a crash
                    worker.send(Lead())
                self._dispatch()
                self._notify()
            case Failed():
                self.fault = from_code(message.code, message.message)
                self.broken = isinstance(self.fault, _HOPELESS)
            case Checked():
                future = self._checks.get(message.id)
                if future is not None and not future.done():
                    future.set_result(message.cases)
            case Compared():
                if self.unseen is not None:
                    self.unseen(message)

    def _answered(self, message: Answer, body: bytes) -> None:
        lease = self.running.pop(message.id, None)
        if lease is None:
            self._given_up.pop(message.id, None)
            return
        now = monotonic()
        self.service += 0.1 * (now - lease.started - self.service) if self.service else now - lease.started
        if message.status == 200:
            self.last_success = time()
            self.stages["wait"].add(lease.started - lease.came)
            for name, milliseconds in zip(("decode", "infer", "read"), message.stages, strict=True):
                self.stages[name].add(milliseconds / 1e3)
            self._newest.append(sum(message.stages) / 1e3)
        self._dispatch()
        self.finish(lease, _reply(message, body, self.installed))
        self._let_go()

    def _on_death(self) -> None:
        if self.state != "ending":
            self._gone()
            return
        self.state, self.worker = "absent", None
        self._given_up.clear()
        for future in self._checks.values():
            if not future.done():
                future.set_exception(Unavailable("the worker was ended"))
        self._notify()

    def _kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()

    def _gone(self) -> None:
        """The worker died by itself: keep what it had not answered, decide when to try again."""
        self.state, self.worker = "absent", None
        self._given_up.clear()
        self.crashes += 1
        self.deaths += 1
        if self.fault is None:
            self.fault = Unavailable("the worker died")
        log.warning("%s: %s (%d in a row)", self.name, self.fault.message, self.crashes)
        # The first restart is at once; from then on each waits twice as long.
        self.retry_at = monotonic() + (min(30.0, 0.25 * 2.0 ** (self.crashes - 1)) if self.crashes > 1 else 0.0)
        for future in self._checks.values():
            if not future.done():
                future.set_exception(Unavailable(f"{self.fault.message} over its acceptance cases"))
        for lease in reversed(self.running.values()):
            lease.deaths += 1
            if lease.deaths < ATTEMPTS:
                self.queue.appendleft(lease)
            else:
                self.finish(lease, Reply(503, error=Unavailable("the worker died over this request, twice")))
        self.running.clear()
        self._notify()

    def _let_go(self) -> None:
        if not self.leads and not self.leases:
            self._notify()

    def _notify(self) -> None:
        if self.worker is None and self.unseen is not None:
            self.unseen(None)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._on_change(self)

    async def changed(self) -> None:
        """Wait until something about the worker changes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future


def _reply(message: Answer, body: bytes, source: Installed) -> Reply:
    """What a worker answered."""
    if message.status == 200:
        return Reply(200, body, source, head=message.head)
    return Reply(message.status, b"", source, frames.error_in(body))
