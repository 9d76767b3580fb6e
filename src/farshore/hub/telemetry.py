"""How versions did on devices, as their rollouts saw it: latency, agreement, classes found, and how far all of it moved."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection

from farshore.core import sketch
from farshore.core.errors import NotFound
from farshore.hub.database import Database
from farshore.hub.gate import Tally
from farshore.hub.records import models, rollouts
from farshore.hub.records.rollouts import Entry


class ClassRate(Struct, frozen=True):
    """A class, and its share of what the version before and the new one found on the same inputs."""

    name: str
    before: float
    after: float


class Behaviour(Struct, frozen=True, omit_defaults=True):
    """How a version did on the devices of a rollout.

    Attributes:
        rollout: its id; ``state`` and ``created`` are of it.
        model, version: what it brought; ``before`` the version that it replaced.
        devices: that confirmed or gave it up; ``failed`` of these.
        requests: answered in trials; ``errors`` share of them with an error.
        latency, memory: times the previous version's, on average over devices.
        gap: seconds without an answer at the switch, on average.
        compared: answers compared with the previous version's; ``agreement`` share of the same.
        class_shift: total variation distance between the classes that both found, 0 to 1.
        score_shift: population stability index between the confidences of both.
        classes: the commonest first; a class "" stands for all that are not told apart.
        scores_before, scores_after: findings by confidence, in even bins from 0 to 1.

    """

    rollout: str
    state: str
    created: float
    model: str
    version: int
    before: int | None = None
    devices: int = 0
    failed: int = 0
    requests: int = 0
    errors: float | None = None
    latency: float | None = None
    memory: float | None = None
    gap: float | None = None
    compared: int = 0
    agreement: float | None = None
    class_shift: float | None = None
    score_shift: float | None = None
    classes: list[ClassRate] = []
    scores_before: tuple[float, ...] = ()
    scores_after: tuple[float, ...] = ()


class Telemetry:
    """What rollouts saw of versions.

    Args:
        database: open.

    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_model(self, model: str, limit: int) -> list[Behaviour]:
        """A model's newest rollouts, newest first.

        Raises:
            NotFound: no such model.

        """
        with self._database.reading() as tx:
            if models.model(tx, model) is None:
                raise NotFound(f"no model {model!r}")
            found = rollouts.of_model(tx, model, limit)
            return [_behaviour(one, _sum(tx, one)) for one in found]


def _sum(tx: Connection, found: Entry) -> Tally:
    """What the devices of all waves have said together."""
    total = Tally()
    for tally in rollouts.tally(tx, found.serial, len(found.now.waves)):
        total = add(total, tally)
    return total


def add(one: Tally, other: Tally) -> Tally:
    """Two tallies together: all their members are sums."""
    values: dict[str, Any] = {}
    for name in Tally.__struct_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, dict):
            keys = {**left, **right}
            nothing = (0.0, 0.0)
            values[name] = {
                key: tuple(map(sum, zip(left.get(key, nothing), right.get(key, nothing), strict=True))) for key in keys
            }
        elif isinstance(left, tuple):
            values[name] = tuple(map(sum, zip(left, right, strict=True))) if left and right else left or right
        else:
            values[name] = left + right
    return structs.replace(one, **values)


def _behaviour(found: Entry, told: Tally) -> Behaviour:
    def mean(total: float, count: int) -> float | None:
        return total / count if count else None

    compared = bool(told.compared and told.classes)
    return Behaviour(
        rollout=found.now.id,
        state=found.now.state,
        created=found.created,
        model=found.model,
        version=found.version,
        before=found.before,
        devices=told.decided,
        failed=told.failed,
        requests=told.requests,
        errors=mean(told.errors, told.requests),
        latency=mean(told.latency, told.timed),
        memory=mean(told.memory, told.weighed),
        gap=mean(told.gap, told.switched),
        compared=told.compared,
        agreement=mean(told.agreed, told.compared),
        class_shift=sketch.total_variation(told.classes) if compared else None,
        score_shift=sketch.stability_index(told.scores_before, told.scores_after) if compared else None,
        classes=_rates(told),
        scores_before=told.scores_before,
        scores_after=told.scores_after,
    )


def _rates(told: Tally) -> list[ClassRate]:
    sums = [sum(pair[side] for pair in told.classes.values()) or 1.0 for side in (0, 1)]
    found = [ClassRate(name, one / sums[0], other / sums[1]) for name, (one, other) in told.classes.items()]
    return sorted(found, key=lambda rate: (-rate.before, rate.name))
