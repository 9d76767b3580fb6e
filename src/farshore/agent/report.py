"""What the device says of itself: only what changed since the hub last acknowledged, and nothing lost with an answer.

When an answer is lost nobody knows whether the report arrived. So what was sent is noted before it is sent, and the next report
says all of that again with today's values: whichever of the two states the hub is in, it ends in today's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from farshore import __version__
from farshore.agent import plan
from farshore.agent.plan import Desired, Hold, Verdict
from farshore.agent.shadowing import Cast, EndShadow
from farshore.agent.state import Local, ModelState, Version
from farshore.core import documents, twin, wire
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, Unavailable
from farshore.core.wire import Fault, ReportedModel, Running, State, Target
from farshore.store import files

log = logging.getLogger(__name__)

SKETCHES = 12
"""Models whose sketches are told: a kilobyte each at most, so that a section of a twin holds them beside all else."""

_STATES: dict[type[plan.Step], State] = {
    plan.FetchManifest: "downloading",
    plan.Download: "downloading",
    plan.CollectGarbage: "downloading",
    plan.Install: "installing",
    plan.Probe: "probing",
    Cast: "shadow",
    EndShadow: "shadow",
    plan.Park: "probing",
    plan.Activate: "activating",
    plan.Confirm: "trial",
    plan.RollBack: "trial",
}


def reported(
    desired: Desired | None, local: Local, verdicts: Mapping[str, Verdict], fault: Fault | None
) -> dict[str, Any]:
    """The whole reported section.

    Args:
        desired: by model name.
        local: snapshot of the device.
        verdicts: of :func:`farshore.agent.plan.verdicts` over both.
        fault: what is wrong with the desired section itself, if anything.

    """
    models, sketches = {}, SKETCHES
    for name in sorted({*local.models, *(desired or {})}):
        state, serving = local.model(name), local.status(name).serving
        model = ReportedModel(
            current=_running(state, state.current if serving is None else serving.digest),
            previous=_running(state, state.previous),
            target=_target(name, desired or {}, local, verdicts.get(name)),
            fetched=state.note.fetched,
            trial=_brief(state.note.shown, sketches),
        )
        sketches -= model.trial is not None and model.trial.sketch is not None
        models[twin.key_of(name)] = documents.builtins(model)
    agent: dict[str, Any] = {"version": __version__, "machine": local.device.machine, "memory": local.device.memory}
    agent["room"] = room(local)
    agent |= {"runtimes": list(local.runtimes)} | ({} if fault is None else {"fault": documents.builtins(fault)})
    agent |= {} if local.stale is None else {"stale": documents.builtins(local.stale)}
    return {"agent": agent, "models": models}


def _brief(shown: wire.Trial | None, sketches: int) -> wire.Trial | None:
    return shown if shown is None or sketches > 0 else replace(shown, sketch=None)


def room(local: Local) -> int:
    """Bytes that may still be written, by quota and disk: rounded down by up to a fifth, so that a disk that others write to, too,
    is not news all the time.
    """
    free = max(local.free - local.device.keep_free, 0)
    step = 1 << max(free.bit_length() - 3, 0)
    free = min(free - free % step, 1 << 50)
    if local.device.quota is None:
        return free
    used = sum(local.blobs.values()) + sum(local.partials.values())
    return min(max(local.device.quota - used, 0), free)


def _running(state: ModelState, digest: str | None) -> Running | None:
    version = next((entry for entry in state.installed.values() if entry.digest == digest), None)
    return None if version is None else Running(version.number, version.digest, version.variant or "")


def _target(model: str, desired: Desired, local: Local, verdict: Verdict) -> Target | None:
    """What is being done about the desired version; None when it runs and is confirmed."""
    want, state = desired.get(model), local.model(model)
    if want is None or verdict is None or isinstance(verdict, plan.Drop):
        return None
    hold = verdict if isinstance(verdict, Hold) else None
    trying = state.note.attempt.fault if state.note.attempt is not None else None
    version = state.installed.get(Digest(want.digest)) or state.wanted
    return Target(
        digest=want.digest,
        state=hold.state if hold is not None else _STATES[type(verdict)],  # type: ignore[index]
        version=want.version,
        done=0 if version is None else _coarse(local.done(version), version),
        size=0 if version is None else sum(version.files.values()),
        fault=hold.fault if hold is not None else trying,
        cause="" if hold is None else hold.cause,
    )


def _coarse(count: int, version: Version) -> int:
    """``count`` in tenths of a version: a report for every slice would eat what it reports on."""
    size = sum(version.files.values())
    return count if count >= size or size < 10 else count - count % (size // 10)


class _Sent(Struct, frozen=True):
    """What the hub acknowledged, and every member that was sent since without an answer (see :func:`touched`)."""

    accepted: dict[str, Any]
    doubtful: dict[str, Any]


class Reporter:
    """Finds what must be said.

    Args:
        path: file that remembers what the hub knows; a damaged one only costs a report in full.
        series: names the reports of this start of the agent.

    Attributes:
        number: reports sent so far.

    """

    def __init__(self, path: Path, series: str = "") -> None:
        self.series, self.number = series, 0
        self._path = path
        self._sent = _read(path)

    def change(self, section: dict[str, Any]) -> dict[str, Any] | None:
        """The merge patch that brings the hub to ``section``, or None if it knows all of it."""
        change = united(twin.difference(self._sent.accepted, section), reasserted(self._sent.doubtful, section))
        return change or None

    def sending(self, change: dict[str, Any]) -> None:
        """Note that ``change`` is about to be sent."""
        self.number += 1
        doubtful = touched(self._sent.doubtful, change)
        if doubtful != self._sent.doubtful:
            self._keep(_Sent(self._sent.accepted, doubtful))

    def accepted(self, section: dict[str, Any]) -> None:
        """Note that the hub has acknowledged the state ``section``."""
        self._keep(_Sent(section, {}))

    def _keep(self, sent: _Sent) -> None:
        self._sent = sent
        try:
            files.write_atomic(self._path, documents.canonical(sent), mode=0o600)
        except Unavailable as error:  # that the disk is full is just what has to be reported
            log.warning("%s", error.message)


def united(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A merge patch with the effect of both; where both give a value, that of ``other`` counts. Nulls are kept."""
    result = dict(one)
    for key, value in other.items():
        known = result.get(key)
        result[key] = united(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def touched(paths: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``paths`` and every member that ``change`` touches. Only the keys matter; those inside a deleted object are kept,
    for the deletion may be what was lost.
    """
    result = dict(paths)
    for key, value in change.items():
        known = result.get(key)
        result[key] = touched(known, value if isinstance(value, dict) else {}) if isinstance(known, dict) else value
    return result


def reasserted(change: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """A merge patch that gives every member of ``change`` its value in ``section``, null where there is none."""
    result: dict[str, Any] = {}
    for key, value in change.items():
        now = section.get(key)
        result[key] = reasserted(value, now) if isinstance(value, dict) and isinstance(now, dict) else now
    return result


def _read(path: Path) -> _Sent:
    try:
        return documents.decode(path.read_bytes(), _Sent, what="last report")
    except (OSError, FarshoreError) as error:
        if path.exists():
            log.warning("%s cannot be read (%s): reporting in full", path, error)
        return _Sent({}, {})
