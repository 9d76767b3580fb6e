"""Why is a device not on the version that one expects? A short chain of reasons, the first cause last. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from farshore.core.wire import ReportedModel, Target
from farshore.hub import rollout
from farshore.hub.deployment import Choice, Rule, retries
from farshore.hub.gate import Tally
from farshore.hub.rollout import Rollout

SILENT = 3.0
"""Times its usual interval after which a silent device counts as offline."""

WORDS = {
    "waiting": "it waits", "downloading": "it is downloading", "installing": "it is installing", "probing": "it is trying it out",
    "shadow": "it lets it answer unseen, to compare",
    "activating": "it is switching", "trial": "it is on trial",
}  # fmt: skip


class Reason(Struct, frozen=True):
    """One link of the chain.

    Attributes:
        code: for programs: ``running``, ``told``, ``no-deployment``, ``held``, ``not-in-wave``, ``gate``, ``paused``,
            ``over-budget``, ``counting``, ``aborted``, ``standing``, ``offline``, ``never-seen``, ``not-told``, ``waiting``,
            ``window``, ``cap``, ``switch``, ``activation``, ``downloading``, ``installing``, ``probing``, ``shadow``, ``activating``,
            ``trial``, ``failed``, ``rolled-back``.
        text: for people, one sentence.

    """

    code: str
    text: str


class Case(Struct, frozen=True):
    """All that the answer depends on.

    Attributes:
        device, model: who, and about what.
        rule: the deployment that would hold if its rollout were over; None if none matches.
        choice: what holds now; None if nothing does.
        manual: an operator's own entry for the model; None if there is none.
        told: version number that desired names; None if it names none.
        said: what the device reports of the model.
        seen: seconds since it was last heard; None if never.
        interval: seconds between two syncs of a device that waits.
        standing: ``accepted``, or why the hub does not listen to it.
        tallies: of the rule's rollout.
        last: the newest rollout of the deployment that would hold, or of the model if none does, ended or not; None if there was none.
        brought: number of the version that it brings.
        counting: the rollout has a budget and waits for patches before it knows what the device will take.

    """

    device: str
    model: str
    rule: Rule | None
    choice: Choice | None
    manual: Mapping[str, Any] | None
    told: int | None
    said: ReportedModel | None
    seen: float | None
    interval: float
    standing: str
    tallies: Sequence[Tally]
    counting: bool = False
    last: Rollout | None = None
    brought: int = 0


def chain(case: Case) -> list[Reason]:
    """Reasons, from what was asked to the first cause; a single ``running`` if all is as expected."""
    return _chain(case) + _rolled_back(case)


def _rolled_back(case: Case) -> list[Reason]:
    """That a newer version was there, and went."""
    last = case.last
    if last is None or last.state != "rolled back" or (case.rule is not None and case.rule.rollout is not None):
        return []
    return [Reason("rolled-back", f"rollout {last.id} to {case.model}@{case.brought} was rolled back: {last.reason}")]


def _chain(case: Case) -> list[Reason]:
    found = _wanted(case)
    if found:
        return found
    current = None if case.said is None else case.said.current
    target = None if case.said is None else case.said.target
    if current is not None and target is None and current.version == case.told:
        return [Reason("running", f"{case.device} runs {case.model}@{current.version}")]
    wants = f"{case.device} should run {case.model}@{case.told}"
    wants += f" and runs {case.model}@{current.version}" if current is not None else " and runs none"
    reasons = [Reason("not-told" if target is None else "told", wants)]
    if target is not None and target.version in {0, case.told}:
        reasons.append(_doing(case, target))
    return reasons + _silence(case)


def _wanted(case: Case) -> list[Reason]:
    """Why the hub does not even tell the device to run what one expects."""
    name = case.model
    if case.manual is not None and not retries(case.manual):
        if case.rule is None or case.told != case.rule.version:
            return [
                Reason(
                    "held",
                    f"an operator holds {name}@{case.told} in the twin of {case.device}, against all deployments",
                ),
                *_silence(case),
            ]
        return []
    if case.rule is None:
        return [Reason("no-deployment", f"no deployment of {name} selects {case.device}")]
    if case.choice is not None and case.choice.digest == case.rule.digest:
        return []
    rolling = case.rule.rollout
    if rolling is None:
        return []
    wants = Reason("told", f"deployment {case.rule.id} brings {name}@{case.rule.version} by rollout {rolling.id}")
    if rolling.state == "aborted":
        return [wants, Reason("aborted", f"rollout {rolling.id} was aborted: {rolling.reason}")]
    if rolling.state == "paused" and rolling.reason.startswith(rollout.OVER):
        return [wants, Reason("over-budget", f"rollout {rolling.id} is {rolling.reason}")]
    if rolling.state == "paused":
        return [wants, Reason("paused", f"rollout {rolling.id} is paused: {rolling.reason}")]
    if case.counting:
        text = f"rollout {rolling.id} has a budget, and patches are being built: what {case.device} will fetch is not known yet"
        return [wants, Reason("counting", text), *_silence(case)]
    newest = rolling.waves[rolling.wave]
    reasons = [
        wants,
        Reason(
            "not-in-wave",
            f"wave {rolling.wave + 1} of {len(rolling.waves)} ({newest}) is open, and {case.device} is not in it",
        ),
    ]
    lacking = rollout.lacking(rolling, case.tallies[rolling.wave])
    if lacking is not None:
        reasons.append(Reason("gate", f"the gate of wave {rolling.wave + 1} is closed: {lacking}"))
    elif rolling.gate.soak:
        reasons.append(
            Reason("gate", f"wave {rolling.wave + 1} is good and must stay so for {rollout.span(rolling.gate.soak)}")
        )
    return reasons + _silence(case)


def _doing(case: Case, target: Target) -> Reason:
    state, fault = target.state, target.fault.message if target.fault else ""
    if state == "failed":
        return Reason("failed", f"it gave it up: {fault}" if fault else "it gave it up")
    if state == "ready":
        return _ready(case, target.cause)
    share = f" ({target.done * 100 // target.size} %)" if state == "downloading" and target.size else ""
    return Reason(target.cause or state, f"{WORDS.get(state, state)}{share}" + (f": {fault}" if fault else ""))


def _ready(case: Case, cause: str) -> Reason:
    """It is installed and tried out, and does not run yet."""
    here = f"{case.model}@{case.told} is installed there and tried out"
    if cause == "activation":
        times = ", ".join(case.rule.activate) if case.rule is not None else ""
        return Reason("activation", f"{here}, and is switched to in its window" + (f" {times}" if times else ""))
    rolling = None if case.rule is None else case.rule.rollout
    order = f": farshore rollout advance {rolling.id}" if rolling is not None else ""
    return Reason("switch", f"{here}, and waits for the switch{order}")


def _silence(case: Case) -> list[Reason]:
    if case.standing != "accepted":
        return [Reason("standing", f"the hub does not listen to {case.device}: {case.standing}")]
    if case.seen is None:
        return [Reason("never-seen", f"{case.device} was never heard of since it enrolled")]
    if case.seen > case.interval * SILENT:
        return [Reason("offline", f"{case.device} was not heard of for {rollout.span(case.seen)}")]
    return []
