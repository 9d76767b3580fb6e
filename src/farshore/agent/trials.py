"""What speaks against a version on trial. A part of :mod:`farshore.agent.plan`; pure."""

from __future__ import annotations

from farshore.agent.state import Local, Trial
from farshore.core.control import Serving
from farshore.core.wire import Conditions, Fault

MAX_BOOTS = 2
"""Starts of the machine within a shadow or a trial after which the version is held to be the cause."""

MAX_CRASHES = 3
"""Deaths of a version's worker within its shadow or its trial."""

MIN_ERRORS = 5
"""Failed answers within a shadow or a trial that make a verdict, when they are more than half of all."""

DESERTED = "it could not live: the inference server went back to another version"


def fault_of(model: str, trial: Trial, asked: Conditions | None, local: Local) -> Fault | None:
    """Why a trial has failed; None while it has not.

    Args:
        model: whose.
        trial: as noted.
        asked: what it must show; None for nothing but to live.
        local: snapshot of the device.

    """
    if trial.boots >= MAX_BOOTS:
        return Fault("unavailable", f"the machine restarted {trial.boots} times in its trial")
    serving = local.status(model).serving
    if serving is None or not trial.switched:
        return None
    if serving.digest != trial.digest:
        return Fault("unavailable", DESERTED)
    if serving.crashes >= MAX_CRASHES:
        return Fault("unavailable", f"its worker crashed {serving.crashes} times in its trial")
    if serving.errors >= MIN_ERRORS and serving.errors * 2 > serving.requests:
        return Fault("unavailable", f"{serving.errors} of {serving.requests} requests failed in its trial")
    missed = None if asked is None else _missed(asked, trial, serving)
    return None if missed is None else Fault("unavailable", f"in its trial {missed}")


def _missed(asked: Conditions, trial: Trial, serving: Serving) -> str | None:
    """Which of a trial's conditions is not met, with the figures; None while all are, or too little is known."""
    if asked.errors is not None and serving.errors >= MIN_ERRORS and serving.errors > asked.errors * serving.requests:
        return f"{serving.errors} of {serving.requests} requests failed; at most {asked.errors:.3g} of them may"
    if asked.latency is not None and trial.latency and serving.latency > asked.latency * trial.latency:
        times = serving.latency / trial.latency
        return f"it took {times:.3g} times as long as the version before; at most {asked.latency:.3g} is asked"
    return None
