"""The census: how the fleet stands, in figures, and what of it wants an operator's eye, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection

from farshore.core import wire
from farshore.core.errors import FarshoreError
from farshore.hub import moments, rollout, selector, why
from farshore.hub.database import Database
from farshore.hub.records import census, changes, devices, rollouts
from farshore.hub.records.devices import PENDING, QUARANTINED
from farshore.hub.rollout import ENDED

CHUNK = 500
SHOWN = 20
"""Most lines of one kind that want attention; the figures beside them count all."""

READ = 2000
"""Most reports that are read for failures."""

LATELY = 7 * 86400.0

Kind = Literal["rollout", "failed", "quarantined", "pending", "silent"]


class Version(Struct, frozen=True):
    """A version of a model, and how many devices run it; ``due`` of how many it is wanted that do not run it."""

    version: int
    devices: int = 0
    due: int = 0


class Share(Struct, frozen=True):
    """A model on the fleet: its versions, the newest first; ``devices`` run any of them."""

    model: str
    devices: int
    versions: list[Version]


class Attention(Struct, frozen=True, omit_defaults=True):
    """Something that wants an operator's eye.

    Attributes:
        kind: ``rollout``: it was stopped, rolled back, or waits for approval; ``failed``: devices gave a version up;
            ``quarantined``, ``pending``: a device that is kept out; ``silent``: one that was not heard of.
        text: the reason in one sentence.
        device: whose; of ``failed``, the first of them.
        devices: how many, for the same reason.
        rollout: its id, of kind ``rollout``.
        model, version: what was given up, of kind ``failed``.
        since: when it began, if that is known.

    """

    kind: Kind
    text: str
    device: str = ""
    devices: int = 0
    rollout: str = ""
    model: str = ""
    version: int = 0
    since: str = ""


class Summary(Struct, frozen=True):
    """The fleet in figures.

    Attributes:
        devices: all of them.
        states: how many are ``accepted``, ``pending``, ``quarantined``, ``revoked``.
        heard, silent, never: of those accepted: heard of lately, not lately, never yet.
        failed: that gave up a version that they are told to run.
        interval: seconds after which a silent device counts as silent.
        models: what runs, by model.
        moving: rollouts that have not ended.
        attention: what wants an operator's eye, the gravest first.

    """

    devices: int
    states: dict[str, int]
    heard: int
    silent: int
    never: int
    failed: int
    interval: float
    models: list[Share]
    moving: list[str]
    attention: list[Attention]


class Census:
    """Counts.

    Args:
        database: open.
        clock: tells the time.
        interval: seconds between two syncs of a device that waits.
        lag: seconds by which "last seen" may lie behind in the database.

    """

    def __init__(self, database: Database, clock: moments.Clock, interval: float, lag: float) -> None:
        self._database, self._clock, self._lag = database, clock, lag
        self.silence = interval * why.SILENT + lag
        self._kept: tuple[int, float, Summary] | None = None

    def summary(self, where: str = "") -> Summary:
        """The fleet in figures, or those of its devices that a selector matches.

        Rollouts are told of only for the whole fleet. Its figures are kept until anything changes, or "last seen" may have.

        Args:
            where: a selector; "" for all.

        Raises:
            Invalid: the selector is malformed.

        """
        now = self._clock()
        if where not in {"", "*"}:
            return self._count(where, now)
        with self._database.reading() as tx:
            serial = changes.newest(tx)
        kept = self._kept
        if kept is not None and kept[0] == serial and 0 <= now - kept[1] < self._lag:
            return kept[2]
        found = self._count(where, now)
        self._kept = (serial, now, found)
        return found

    def _count(self, where: str, now: float) -> Summary:
        with self._database.reading() as tx:
            parts = [census.EVERYBODY] if where in {"", "*"} else [census.among(some) for some in self._ids(tx, where)]
            counted = _Counted()
            for whom in parts:
                counted.add(tx, whom, now - self.silence)
            steered, moving = ([], []) if where not in {"", "*"} else _rollouts(tx, now)
        return Summary(
            devices=sum(counted.states.values()),
            states=dict(counted.states),
            heard=counted.heard[0],
            silent=counted.heard[1],
            never=counted.heard[2],
            failed=counted.failed,
            interval=self.silence,
            models=counted.models(),
            moving=moving,
            attention=[*steered, *counted.attention(now)],
        )

    def _ids(self, tx: Connection, where: str) -> Iterator[Sequence[str]]:
        chosen, after = selector.parse(where), ""
        while True:
            page = devices.page(tx, after, CHUNK, chosen=chosen)
            some = [one.id for one, row in page if chosen.matches(one.id, row.tags, row.reported.values)]
            if some:
                yield some
            if len(page) < CHUNK:
                return
            after = page[-1][0].id


class _Counted:
    """Sums over parts of the fleet."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.heard = (0, 0, 0)
        self.failed = 0
        self._versions: dict[tuple[str, int], list[int]] = {}
        self._running: Counter[str] = Counter()
        self._faults: dict[tuple[str, int, str], list[str]] = {}
        self._kept: list[tuple[str, str, str]] = []
        self._silent: list[tuple[str, float]] = []

    def add(self, tx: Connection, whom: ColumnElement[bool], since: float) -> None:
        self.states.update(census.states(tx, whom))
        one, two, three = census.heard(tx, whom, since)
        self.heard = (self.heard[0] + one, self.heard[1] + two, self.heard[2] + three)
        for share in census.shares(tx, whom):
            self._versions.setdefault((share.model, share.version), [0, 0])[0] += share.devices
            self._running[share.model] += share.devices
        for late in census.late(tx, whom):
            self._versions.setdefault((late.model, late.version), [0, 0])[1] += late.devices
        self._kept += census.standing(tx, whom, (QUARANTINED, PENDING), SHOWN)
        self._silent += census.silent(tx, whom, since, SHOWN)
        for device, report in census.failing(tx, whom, READ):
            self._fail(device, report)

    def models(self) -> list[Share]:
        found: dict[str, list[Version]] = {}
        for (model, version), (runs, due) in sorted(self._versions.items(), key=lambda one: (one[0][0], -one[0][1])):
            found.setdefault(model, []).append(Version(version, runs, due))
        return [Share(model, self._running[model], versions) for model, versions in found.items()]

    def attention(self, now: float) -> list[Attention]:
        found = [
            Attention("failed", text, device=who[0], devices=len(who), model=model, version=version)
            for (model, version, text), who in sorted(self._faults.items(), key=lambda one: (-len(one[1]), one[0]))
        ][:SHOWN]
        for state in (QUARANTINED, PENDING):
            kept = [one for one in self._kept if one[1] == state][:SHOWN]
            kind: Kind = "quarantined" if state == QUARANTINED else "pending"
            text = "it waits for an operator's approval"
            found += [Attention(kind, reason or text, device=device, devices=1) for device, _, reason in kept]
        for device, seen in sorted(self._silent, key=lambda one: (one[1], one[0]))[:SHOWN]:
            text = f"not heard of for {rollout.span(now - seen)}"
            found.append(Attention("silent", text, device=device, devices=1, since=moments.text(seen)))
        return found

    def _fail(self, device: str, report: dict[str, object]) -> None:
        try:
            said = wire.reported_models(report)
        except FarshoreError:
            return  # a report that cannot be read says nothing
        gave_up = False
        for model, state in said.items():
            if state.target is not None and state.target.state == "failed":
                gave_up = True
                text = state.target.fault.message if state.target.fault is not None else "it gave it up"
                self._faults.setdefault((model, state.target.version, text), []).append(device)
        self.failed += gave_up


def _rollouts(tx: Connection, now: float) -> tuple[list[Attention], list[str]]:
    """Rollouts that an operator should look at, and those in motion."""
    found, moving = [], []
    for one in rollouts.newest(tx, 100):
        if one.now.state not in ENDED:
            moving.append(one.now.id)
        stopped = one.now.state == "paused" or (one.now.state == "rolled back" and now - one.changed < LATELY)
        if stopped:
            text = f"{one.now.state}: {one.now.reason}" if one.now.reason else one.now.state
            found.append(Attention("rollout", text, rollout=one.now.id, model=one.model, version=one.version,
                                   since=moments.text(one.changed)))  # fmt: skip
    return found, moving
