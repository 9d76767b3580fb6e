"""One simulated device: the agent's own deciders over a disk, a link and an inference server in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from farshore.agent import limits, plan, report, shadowing
from farshore.agent.journal import Journal
from farshore.agent.report import Reporter
from farshore.agent.shadowing import Cast, EndShadow
from farshore.agent.state import Device, Local, ModelState, Notes, Shadow, Trial, Version
from farshore.core import wire
from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, Unavailable
from farshore.core.manifest import Manifest, choose_variant
from farshore.core.sketch import Counts
from farshore.core.wire import Fault, SyncReply, SyncRequest

RUNTIMES = ("onnxruntime",)
MEMORY, MACHINE = 4 << 30, "aarch64"
INSTALL, PROBE, CAST, SWITCH = 0.5, 4.0, 0.1, 0.2
REQUESTS = 2.0
"""Requests a second that a device's camera asks."""
LATENCY = 0.05
POLL = 60.0
"""Seconds between syncs of a device with nothing to say."""

CLASSES = ("ship", "buoy", "sailboat")
"""What its camera sees, each as often as the others."""
_NOWHERE = Path("nowhere")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a version does on devices.

    Attributes:
        fit: whether it passes its probe.
        crashes: deaths of its worker a minute.
        errors: share of requests that it answers with an error.
        agreement: share of answers that are the same as the previous version's.
        seen: share of what it finds, that it takes for the first of :data:`CLASSES` whatever it is.
        surer: by how much its confidences lie above the previous version's.
        latency: times the usual.

    """

    fit: bool = True
    crashes: float = 0.0
    errors: float = 0.0
    agreement: float = 0.98
    seen: float = 0.0
    surer: float = 0.0
    latency: float = 1.0


class Hub:
    """What a device asks of its hub; may raise ``Unavailable`` like any link."""

    def sync(self, device: Simulated, request: SyncRequest) -> SyncReply:
        raise NotImplementedError

    def manifest(self, device: Simulated, digest: Digest) -> Manifest:
        raise NotImplementedError

    def size(self, device: Simulated, digest: Digest) -> int:
        """Bytes of the cheapest route to a file."""
        raise NotImplementedError


class _Notes(Journal):
    """The journal without its file."""

    def __init__(self) -> None:
        super().__init__(_NOWHERE)

    def _keep(self, notes: Notes) -> None:
        self.notes = notes


class _Reports(Reporter):
    """The reporter without its file."""

    def __init__(self) -> None:
        super().__init__(_NOWHERE)

    def _keep(self, sent: Any) -> None:
        self._sent = sent


@dataclass(slots=True)
class _Shadow:
    """A candidate beside what answers: a share of the requests since, and what came of them so far."""

    digest: Digest
    share: float = 0.0
    since: float = 0.0
    asked: int = 0
    errors: int = 0
    agreed: int = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(slots=True)
class Simulated:
    """A device.

    Attributes:
        name: its id.
        hub: its hub.
        behaviour: of a version, by manifest digest.
        chance: all that is random about it.
        rate: bytes a second of its link.
        trial: seconds a new version must answer.
        skew: seconds by which its clock is wrong.
        away: it is switched off, or its link is, until then; seconds of virtual time.
        disk: bytes free on its disk, for ever: what is written there is not taken off.
        history: versions that answered, in order.

    """

    name: str
    hub: Hub
    behaviour: Callable[[str], Behaviour]
    chance: random.Random
    rate: float = 16_000.0
    trial: float = 60.0
    skew: float = 0.0
    away: float = 0.0
    disk: int = 1 << 50
    notes: _Notes = field(default_factory=_Notes)
    reports: _Reports = field(default_factory=_Reports)
    blobs: dict[Digest, int] = field(default_factory=dict)
    begun: dict[Digest, int] = field(default_factory=dict)
    states: dict[str, ModelState] = field(default_factory=dict)
    serving: dict[str, tuple[Digest, float]] = field(default_factory=dict)
    candidates: dict[str, _Shadow] = field(default_factory=dict)
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    history: list[tuple[str, int]] = field(default_factory=list)
    synced: float = -1e9

    def turn(self, now: float) -> float:
        """Do one thing; returns the moment of virtual time at which to be asked again.

        Args:
            now: virtual time.

        """
        if now < self.away:
            return self.away
        local, desired = self._local(now), self.notes.desired()
        verdicts = plan.verdicts(desired, local, now + self.skew)
        step = plan.choose(verdicts, desired, local)
        section = report.reported(desired, local, verdicts, None)
        change = self.reports.change(section)
        if (change is not None and now - self.synced >= 2.0) or now - self.synced >= POLL:
            self._sync(section, change, now)
            return now + self.chance.uniform(0.1, 1.0)
        if step is not None:
            return now + self._act(step, local, now)
        holds = [one.until - self.skew for one in verdicts.values() if isinstance(one, plan.Hold) and one.until]
        return max(min([self.synced + POLL, *holds]), now + 0.1)

    def running(self, model: str) -> Version | None:
        """The version that answers."""
        state = self.states.get(model)
        return None if state is None or state.current is None else state.installed.get(state.current)

    def reboot(self, now: float) -> None:
        """The machine starts anew: trials count that, and what is current is loaded."""
        self.notes.started(f"boot at {now}")
        self.serving = {model: (digest, now) for model, (digest, _) in self.serving.items()}
        self.candidates.clear()

    def _sync(self, section: dict[str, Any], change: dict[str, Any] | None, now: float) -> None:
        if change is not None:
            self.reports.sending(change)
        self.synced = now
        try:
            counted = (self.name, self.reports.number) if change is not None else ("", 0)
            reply = self.hub.sync(self, SyncRequest(self.notes.notes.seen, change, 1, "", {}, *counted))
        except Unavailable:
            return
        if change is not None:
            self.reports.accepted(section)
        if reply.desired is not None:
            self.notes.accept(reply.desired, reply.desired["$version"])

    def _local(self, now: float) -> Local:
        desired, names = self.notes.desired() or {}, set()
        names |= {*self.states, *desired, *self.notes.notes.models}
        models = {name: self._state(name, desired.get(name)) for name in names}
        held = {*self.serving, *self.candidates}
        status = Status(
            RUNTIMES, {model: ModelStatus(self._serving(model, now), self._candidate(model, now)) for model in held}
        )
        facts = Device(MEMORY, MACHINE, None, 0, self.trial)
        shut = limits.shut([], self.notes.settings(), self.notes.notes.spent, now + self.skew, 0)
        return Local(
            device=facts, models=models, blobs=dict(self.blobs), partials=dict(self.begun), free=self.disk,
            server=status, runtimes=RUNTIMES, shut=shut,
        )  # fmt: skip

    def _state(self, name: str, want: wire.DesiredModel | None) -> ModelState:
        state, note = self.states.get(name, ModelState()), self.notes.note(name)
        wanted = None
        if want is not None and want.digest not in state.installed and want.digest in self.manifests:
            wanted = self._version(Digest(want.digest))
        return ModelState(state.current, state.previous, state.installed, wanted, note)

    def _version(self, digest: Digest) -> Version:
        manifest = self.manifests[digest]
        variant = choose_variant(manifest, RUNTIMES, MEMORY, MACHINE)
        files = {} if variant is None else {one: file.size for one, file in manifest.needed(variant).items()}
        return Version(manifest.version, digest, None if variant is None else variant.name, files)

    def _serving(self, model: str, now: float) -> Serving | None:
        if model not in self.serving:
            return None
        digest, since = self.serving[model]
        does, seconds = self.behaviour(digest), max(now - since, 0.0)
        requests = int(seconds * REQUESTS)
        version = self.states[model].installed[digest].number
        crashes = int(does.crashes * seconds / 60)
        return Serving(
            digest, version, requests, int(requests * does.errors), crashes, seconds, latency=LATENCY * does.latency
        )

    def _candidate(self, model: str, now: float) -> Serving | None:
        """What the inference server says of a candidate; what it was asked in the shadow it was asked one by one."""
        shadow = self.candidates.get(model)
        if shadow is None:
            return None
        does, seconds = self.behaviour(shadow.digest), max(now - shadow.since, 0.0)
        while shadow.share and shadow.asked < int(seconds * REQUESTS * shadow.share):
            self._compare(shadow, does)
        return Serving(
            shadow.digest, self.manifests[shadow.digest].version, shadow.asked, shadow.errors,
            int(does.crashes * seconds / 60) if shadow.share else 0, seconds if shadow.share else 0.0,
            compared=shadow.asked - shadow.errors, agreed=shadow.agreed, share=shadow.share, sketch=shadow.counts.told(),
        )  # fmt: skip

    def _compare(self, shadow: _Shadow, does: Behaviour) -> None:
        shadow.asked += 1
        if self.chance.random() < does.errors:
            shadow.errors += 1
            return
        shadow.agreed += self.chance.random() < does.agreement
        score, thing = self.chance.uniform(0.3, 1.0), self.chance.choice(CLASSES)
        taken = CLASSES[0] if self.chance.random() < does.seen else thing
        shadow.counts.add([(thing, score)], [(taken, min(score + does.surer, 1.0))])

    def _act(self, step: plan.Step, local: Local, now: float) -> float:
        """Do a step; returns the seconds that it takes."""
        try:
            return self._do(step, local, now)
        except FarshoreError as error:
            if not isinstance(step, plan.CollectGarbage | plan.Confirm | plan.Drop | plan.Park | EndShadow):
                self.notes.end(step.model, Fault(error.code, error.message), strike=False)
            return 1.0

    def _do(self, step: plan.Step, local: Local, now: float) -> float:
        match step:
            case plan.FetchManifest():
                return self._fetch_manifest(step, now)
            case plan.Download():
                return self._download(step, now)
            case plan.Install():
                return self._install(step, local)
            case plan.Probe():
                return self._probe(step, now)
            case plan.Park():
                self.candidates.pop(step.model, None)
                return 0.1
            case Cast():
                return self._cast(step, now)
            case EndShadow():
                return self._end_shadow(step, local)
            case plan.Activate():
                return self._activate(step, local, now)
            case plan.Confirm():
                return self._confirm(step, local)
            case plan.RollBack():
                return self._roll_back(step, local, now)
            case plan.Drop():
                return self._drop(step)
            case plan.CollectGarbage():
                return self._collect(step)

    def _begin(self, step: Any, now: float, *, strike: bool = False) -> None:
        self.notes.begin(step.model, plan.kind(step), now + self.skew, strike=strike)

    def _fetch_manifest(self, step: plan.FetchManifest, now: float) -> float:
        self._begin(step, now)
        self.manifests[step.digest] = self.hub.manifest(self, step.digest)
        self.notes.write(step.model, attempt=None)
        return 1500 / self.rate

    def _download(self, step: plan.Download, now: float) -> float:
        """All that the link's caps leave of the cheapest route; the rest when they leave more."""
        self._begin(step, now)
        given, here = self.notes.settings(), self.begun.pop(step.digest, 0)
        rest = self.hub.size(self, step.digest) - here
        count = min(rest, limits.left(given, self.notes.notes.spent, now + self.skew))
        if count < rest:
            self.begun[step.digest] = here + count
        else:
            self.blobs[step.digest] = step.size
        self.notes.write(step.model, attempt=None, fetched=self.notes.note(step.model).fetched + count)
        self.notes.spend(count, now + self.skew)
        return count / min(self.rate, given.rate or self.rate)

    def _install(self, step: plan.Install, local: Local) -> float:
        state, wanted = self.states.get(step.model, ModelState()), local.model(step.model).wanted
        assert wanted is not None
        self.states[step.model] = _with(state, installed={**state.installed, step.digest: wanted})
        self.notes.write(step.model, attempt=None)
        return INSTALL

    def _probe(self, step: plan.Probe, now: float) -> float:
        self._begin(step, now, strike=True)
        if self.behaviour(step.digest).fit:
            self.candidates[step.model] = _Shadow(step.digest)
            self.notes.write(step.model, attempt=None, probed=True)
        else:
            fault = Fault("invalid", "an acceptance case was missed")
            self.notes.write(step.model, attempt=None, failed=fault)
        return PROBE

    def _cast(self, step: Cast, now: float) -> float:
        shadow = self.notes.note(step.model).shadow
        begun = Shadow() if shadow is None else replace(shadow, begun=shadow.begun + 1)
        self.notes.write(step.model, shadow=begun)
        self._begin(step, now, strike=True)
        self.candidates[step.model] = _Shadow(step.digest, step.share, now)
        self.notes.write(step.model, attempt=None)
        return CAST

    def _end_shadow(self, step: EndShadow, local: Local) -> float:
        note = self.notes.note(step.model)
        changes = shadowing.ended(step, note, shadowing.shown(step, local))
        if changes:
            self.notes.write(step.model, **changes)
        if step.wanted:
            self.candidates[step.model].share = 0.0
        else:
            self.candidates.pop(step.model, None)
        return 0.1

    def _activate(self, step: plan.Activate, local: Local, now: float) -> float:
        before = local.status(step.model).serving
        latency = 0.0 if before is None else before.latency
        compared = shadowing.evidence(self.notes.note(step.model), step.digest)
        trial = Trial(step.digest, step.back, latency=latency, **compared)
        self.notes.write(step.model, trial=trial)
        self._begin(step, now, strike=True)
        self._point(step.model, step.digest, now)
        self.candidates.pop(step.model, None)
        self.notes.write(step.model, attempt=None, trial=replace(trial, switched=True, gap=SWITCH))
        return SWITCH

    def _confirm(self, step: plan.Confirm, local: Local) -> float:
        self.notes.write(step.model, trial=None, attempt=None, shown=self._shown(step.model, local))
        return 0.0

    def _roll_back(self, step: plan.RollBack, local: Local, now: float) -> float:
        shown = self._shown(step.model, local)
        note, state = self.notes.note(step.model), self.states[step.model]
        if step.back is None:
            self.states[step.model] = _with(state, current=None)
            self.serving.pop(step.model, None)
        else:
            self._point(step.model, step.back, now)
        kept = {digest: one for digest, one in self.states[step.model].installed.items() if digest != step.digest}
        self.states[step.model] = _with(self.states[step.model], installed=kept)
        meant = {"failed": step.fault, "probed": False} if note.digest == step.digest else {}
        self.notes.write(step.model, trial=None, attempt=None, shown=shown, **meant)
        return SWITCH

    def _shown(self, model: str, local: Local) -> wire.Trial | None:
        note = self.notes.note(model)
        return (None if note.trial is None else note.trial.shown(local.status(model).serving)) or note.shown

    def _drop(self, step: plan.Drop) -> float:
        self.states.pop(step.model, None)
        self.serving.pop(step.model, None)
        self.candidates.pop(step.model, None)
        self.notes.forget(step.model)
        return 0.1

    def _collect(self, step: plan.CollectGarbage) -> float:
        for model, digest in step.versions:
            state = self.states[model]
            kept = {one: entry for one, entry in state.installed.items() if one != digest}
            previous = None if state.previous == digest else state.previous
            self.states[model] = _with(state, installed=kept, previous=previous)
        for blob in step.blobs:
            self.blobs.pop(blob, None)
        return 0.1

    def _point(self, model: str, digest: Digest, now: float) -> None:
        state = self.states[model]
        if state.current != digest:
            self.states[model] = _with(state, current=digest, previous=state.current)
            self.history.append((model, state.installed[digest].number))
        self.serving[model] = (digest, now)


def _with(state: ModelState, **changes: Any) -> ModelState:
    values: dict[str, Any] = {"current": state.current, "previous": state.previous, "installed": state.installed}
    return ModelState(**{**values, **changes})
