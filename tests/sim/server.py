"""An inference server in memory: the far side of the agent on its own machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sim.clock import VirtualClock

from farshore.core import control
from farshore.core.control import CaseResult, ModelStatus, Serving, Status
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Unavailable
from farshore.core.sketch import Sketch
from farshore.store.slots import Slots

GAP, LATENCY, MEMORY = 0.1, 0.05, 50_000_000


@dataclass
class SimServer:
    """Serves what the slots hold; versions misbehave as told.

    Attributes:
        unfit: manifest digests that fail their probe.
        crashing: that crash in traffic; ``failing``: that answer with errors; ``slow``: that take three times as long.
        worse: that answer otherwise than the version before; ``shy``: that are refused a shadow, as with too little memory.
        up: whether it answers the agent.
        forgetful: lets a probed candidate go at once, as with too little memory.

    """

    slots: Slots
    clock: VirtualClock
    unfit: set[Digest] = field(default_factory=set)
    crashing: set[Digest] = field(default_factory=set)
    failing: set[Digest] = field(default_factory=set)
    slow: set[Digest] = field(default_factory=set)
    worse: set[Digest] = field(default_factory=set)
    shy: set[Digest] = field(default_factory=set)
    up: bool = True
    forgetful: bool = False
    serving: dict[str, tuple[Digest, float]] = field(default_factory=dict)
    candidates: dict[str, Digest] = field(default_factory=dict)
    shadows: dict[str, tuple[Digest, float, float]] = field(default_factory=dict)
    runtimes: tuple[str, ...] = ("onnxruntime",)
    calls: list[tuple[str, str, Digest]] = field(default_factory=list)

    def restart(self) -> None:
        """What a start of the process does: read the links."""
        self.candidates.clear()
        self.shadows.clear()
        self.serving.clear()
        for model in self.slots.models():
            current = self.slots.current(model)
            if current is not None:
                self.serving[model] = (current.digest, self.clock.monotonic())

    def look(self) -> Status | str:
        if not self.up:
            return "away"
        return Status(self.runtimes, {model: self._status(model) for model in {*self.serving, *self.candidates}})

    def probe(self, model: str, digest: Digest) -> control.Probe:
        self._called("probe", model, digest)
        self.slots.verify(self.slots.find(model, digest))
        if digest in self.unfit:
            return control.Probe(ok=False, cases=(CaseResult("scene", ok=False, why="expected a cat"),))
        self.candidates[model] = digest
        return control.Probe(ok=True)

    def shadow(self, model: str, digest: Digest, share: float) -> None:
        self._called("shadow", model, digest)
        self.slots.find(model, digest)
        if digest in self.shy or model not in self.serving:
            raise Conflict("not enough memory for two versions at once")
        known = self.shadows.get(model)
        since = known[2] if known is not None and known[0] == digest else self.clock.monotonic()
        self.candidates[model] = digest
        self.shadows[model] = digest, share, since

    def switch(self, model: str, digest: Digest) -> float:
        self._called("switch", model, digest)
        if model in self.serving and self.serving[model][0] == digest:
            return 0.0
        warm = self.candidates.pop(model, None)
        forgetful, self.forgetful = self.forgetful, False
        if warm != digest or forgetful:
            raise Conflict(f"{digest} does not stand warm")
        self.serving[model] = (digest, self.clock.monotonic())
        return GAP

    def drop(self, model: str, digest: Digest) -> None:
        self._called("drop", model, digest)
        if self.candidates.get(model) == digest:
            del self.candidates[model]
            self.shadows.pop(model, None)
        current = self.slots.current(model)
        if model in self.serving and self.serving[model][0] == digest and (current is None or current.digest != digest):
            del self.serving[model]

    def _status(self, model: str) -> ModelStatus:
        warm = self.candidates.get(model)
        candidate = None if warm is None else self._candidate(model, warm)
        if model not in self.serving:
            return ModelStatus(candidate=candidate)
        digest, since = self.serving[model]
        seconds = self.clock.monotonic() - since
        crashes = int(seconds) if digest in self.crashing else 0
        errors = int(seconds * 10) if digest in self.failing else 0
        slow = digest in self.slow
        now = Serving(
            digest, 1, int(seconds * 10), errors, crashes, seconds, latency=LATENCY * (3 if slow else 1), memory=MEMORY
        )
        return ModelStatus(now, candidate)

    def _candidate(self, model: str, digest: Digest) -> Serving:
        known, share, since = self.shadows.get(model, (None, 0.0, 0.0))
        if known != digest or not share:
            return Serving(digest, 1)
        seconds = self.clock.monotonic() - since
        requests = int(seconds * 10 * share)
        errors = requests if digest in self.failing else 0
        crashes = int(seconds) if digest in self.crashing else 0
        compared = requests - errors
        agreed = compared // 2 if digest in self.worse else compared
        sketch = Sketch((("ship", compared, agreed),)) if compared else None
        return Serving(
            digest, 1, requests, errors, crashes, seconds, compared=compared, agreed=agreed, share=share, sketch=sketch
        )

    def _called(self, what: str, model: str, digest: Digest) -> None:
        if not self.up:
            raise Unavailable("the inference server does not answer")
        self.calls.append((what, model, digest))
