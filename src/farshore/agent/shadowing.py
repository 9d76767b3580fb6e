"""Does a candidate run in the shadow of what answers, go on, or is it over? A part of :mod:`farshore.agent.plan`; pure.

The inference server counts, and forgets with its end; the journal knows whether a shadow was begun and how it ended. So after a crash
of either it is simply begun again, a few times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from farshore.agent.state import Local, ModelState, Note
from farshore.agent.trials import MAX_BOOTS, MAX_CRASHES, MIN_ERRORS
from farshore.core import wire
from farshore.core.control import Serving, Status
from farshore.core.digest import Digest
from farshore.core.wire import Conditions, DesiredModel, Fault

MAX_BEGUN = 5
"""Times that a shadow is begun and never comes to its end, after which the version is given up."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Let the inference server give the candidate a ``share`` of the requests, unseen by those who ask."""

    model: str
    digest: Digest
    share: float


@dataclass(frozen=True, slots=True)
class EndShadow:
    """Let it answer nothing any more, and note what it has shown.

    Attributes:
        wanted: it is the version that is on its way here; else it is let go.
        fault: it failed: quarantine it.

    """

    model: str
    digest: Digest
    wanted: bool
    fault: Fault | None = None


def stray(model: str, want: DesiredModel, local: Local) -> EndShadow | None:
    """A shadow that goes on though it is over, failed, or is no longer meant; None if there is none."""
    candidate, note = local.status(model).candidate, local.model(model).note
    if candidate is None or not candidate.share:
        return None
    wanted = (
        candidate.digest == want.digest == note.digest
        and note.failed is None
        and local.model(model).current != want.digest
    )
    if wanted and note.shadow is not None and not note.shadow.over and _asked(want) is not None:
        return None
    return EndShadow(model, Digest(candidate.digest), wanted)


def verdict(model: str, want: DesiredModel, local: Local) -> Cast | EndShadow | Literal["watch"] | None:
    """What the shadow of a version that is tried out asks for; None if it has none, or it is over."""
    state, asked = local.model(model), _asked(want)
    if (
        asked is None
        or not _comparable(state, want, local)
        or (state.note.shadow is not None and state.note.shadow.over)
    ):
        return None
    digest, candidate = Digest(want.digest), local.status(model).candidate
    casts = candidate is not None and candidate.digest == digest and candidate.share > 0
    fault = _fault(state.note, asked, candidate if casts else None)
    if fault is not None:
        return EndShadow(model, digest, wanted=False, fault=fault)
    if candidate is None or not casts or not candidate.ready:
        return Cast(model, digest, asked.shadow.share) if asked.shadow is not None else None
    return EndShadow(model, digest, wanted=True) if _enough(asked, candidate) else "watch"


def shown(step: EndShadow, local: Local) -> wire.Trial | None:
    """What a shadow that ends has shown; None if the inference server says nothing of it."""
    found = local.status(step.model).candidate
    if found is None or found.digest != step.digest or not found.share:
        return None
    return wire.Trial(
        found.digest, found.requests, found.errors, compared=found.compared, agreed=found.agreed, sketch=found.sketch,
        unseen=True,
    )  # fmt: skip


def ended(step: EndShadow, note: Note, shown: wire.Trial | None) -> dict[str, Any]:
    """What is to be noted of a shadow that ends; nothing if nobody meant it any more."""
    if note.digest != step.digest:
        return {}
    said = {"shown": shown or note.shown}
    if step.fault is not None:
        return {"failed": step.fault, "probed": False, "attempt": None, "shadow": None, **said}
    if step.wanted and note.shadow is not None and not note.shadow.over:
        return {"shadow": replace(note.shadow, over=True), **said}
    return {}


def evidence(note: Note, digest: Digest) -> dict[str, Any]:
    """What its shadow has shown, for the trial of a version that begins."""
    found = note.shown
    if found is None or not found.unseen or found.digest != digest:
        return {}
    return {"compared": found.compared, "agreed": found.agreed, "sketch": found.sketch}


def _asked(want: DesiredModel) -> Conditions | None:
    return want.trial if want.trial is not None and want.trial.shadow is not None else None


def _comparable(state: ModelState, want: DesiredModel, local: Local) -> bool:
    """Whether there is another version to compare with, and somebody to do it. Going back asks no questions."""
    return (
        state.current not in {None, want.digest} and state.previous != want.digest and isinstance(local.server, Status)
    )


def _fault(note: Note, asked: Conditions, shown: Serving | None) -> Fault | None:
    shadow = note.shadow
    if shadow is not None and shadow.boots >= MAX_BOOTS:
        return Fault("unavailable", f"the machine restarted {shadow.boots} times in its shadow")
    if shadow is not None and shadow.begun > MAX_BEGUN:
        return Fault("unavailable", f"its shadow was begun {shadow.begun} times and never came to its end")
    if shown is None:
        return None
    if shown.crashes >= MAX_CRASHES:
        return Fault("unavailable", f"its worker crashed {shown.crashes} times in its shadow")
    most = 0.5 if asked.errors is None else asked.errors
    if shown.errors >= MIN_ERRORS and shown.errors > most * shown.requests:
        return Fault(
            "unavailable",
            f"{shown.errors} of {shown.requests} requests failed in its shadow; at most {most:.3g} of them may",
        )
    return _disagreement(asked, shown)


def _disagreement(asked: Conditions, shown: Serving) -> Fault | None:
    """Judged when all is seen, or when no rest could make up for it: looking often must not make a good version fail by chance."""
    if asked.agreement is None or asked.shadow is None or shown.compared < asked.compared:
        return None
    to_come = 0 if _enough(asked, shown) else max(asked.shadow.answers - shown.compared, 0)
    if shown.agreed + to_come >= asked.agreement * (shown.compared + to_come):
        return None
    share = shown.agreed / shown.compared
    return Fault(
        "unavailable",
        f"in its shadow {share:.3g} of {shown.compared} answers were those of the version before;"
        f" at least {asked.agreement:.3g} of them must be",
    )


def _enough(asked: Conditions, shown: Serving) -> bool:
    shadow = asked.shadow
    return shadow is None or shown.compared >= shadow.answers or shown.seconds >= shadow.seconds
