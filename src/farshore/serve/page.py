"""The page of ``/metrics``: what the pool knows, family by family."""

from __future__ import annotations

import os

from farshore.serve import memory
from farshore.serve.intake import Intake
from farshore.serve.metrics import Labels, Text
from farshore.serve.pool import Pool


def metrics_of(pool: Pool, intake: Intake) -> bytes:
    """All families.

    Args:
        pool: the models.
        intake: what the doors hold and refused.

    """
    text = Text()
    text.family(
        "farshore_rejected_total", "counter", "Requests refused before a model was chosen, by door and reason.",
        [((("door", door), ("code", code)), count) for (door, code), count in intake.refused.items()],
    )  # fmt: skip
    text.family("farshore_buffered_bytes", "gauge", "Bytes of all bodies in memory.", [((), intake.buffered)])
    _models(text, pool)
    _versions(text, pool)
    _shadows(text, pool)
    held = memory.held(os.getpid())
    text.family("farshore_front_memory_bytes", "gauge", "Proportional set size of this process.", [((), held)])
    return text.encode()


def _models(text: Text, pool: Pool) -> None:
    models = [((("model", model.name),), model) for model in pool.models.values()]
    text.family(
        "farshore_requests_total", "counter", "Answered requests by model and status.",
        [((*labels, ("status", str(status))), n) for labels, model in models for status, n in model.counts.items()],
    )  # fmt: skip
    text.histogram(
        "farshore_request_seconds", "Time from the whole request to its answer.",
        [(labels, model.latency) for labels, model in models],
    )  # fmt: skip
    text.family(
        "farshore_waiting", "gauge", "Requests that are not answered yet.",
        [(labels, model.outstanding) for labels, model in models],
    )  # fmt: skip
    text.family(
        "farshore_switches_total", "counter", "Versions that took over.",
        [(labels, model.switches) for labels, model in models],
    )  # fmt: skip


def _versions(text: Text, pool: Pool) -> None:
    lanes = [
        (_labels(lane.installed.model, lane.installed.version), lane)
        for model in pool.models.values()
        for lane in model.lanes.values()
    ]
    text.histogram(
        "farshore_stage_seconds", "Time of one stage of an answered picture.",
        [((*labels, ("stage", stage)), each) for labels, lane in lanes for stage, each in lane.stages.items()],
    )  # fmt: skip
    text.family(
        "farshore_version_leads", "gauge", "1 for the version that takes new requests.",
        [((*labels, ("digest", lane.installed.digest)), int(lane.leads)) for labels, lane in lanes],
    )  # fmt: skip
    text.family(
        "farshore_worker_deaths_total", "counter", "Times a version's worker died by itself.",
        [(labels, lane.deaths) for labels, lane in lanes],
    )  # fmt: skip
    text.family(
        "farshore_worker_memory_bytes", "gauge", "Proportional set size of a version's worker.",
        [(labels, lane.worker.memory()) for labels, lane in lanes if lane.worker is not None],
    )  # fmt: skip


def _shadows(text: Text, pool: Pool) -> None:
    running = [
        (_labels(model.name, model.shadow.lane.installed.version), model.shadow)
        for model in pool.models.values()
        if model.shadow is not None
    ]
    text.family(
        "farshore_shadow_compared", "gauge", "Answers of a shadow that were compared with those of the version in traffic.",
        [(labels, shadow.compared) for labels, shadow in running],
    )  # fmt: skip
    text.family(
        "farshore_shadow_agreed", "gauge", "The shares by which they were the same, in sum.",
        [(labels, shadow.serving().agreed) for labels, shadow in running],
    )  # fmt: skip
    text.family(
        "farshore_shadow_missed", "gauge", "Requests that a shadow was to answer and did not, being busy.",
        [(labels, shadow.missed) for labels, shadow in running],
    )  # fmt: skip


def _labels(model: str, version: int) -> Labels:
    return (("model", model), ("version", str(version)))
