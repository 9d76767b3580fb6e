"""Rollouts as operators start and steer them, and as devices move them on. What becomes of one: :mod:`.rollout`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec
from sqlalchemy import Connection

from farshore.core import windows
from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.core.wire import ReportedModel
from farshore.hub import auth, deployments, moments, refs, rollout, selector
from farshore.hub.database import Database
from farshore.hub.deployment import Choice
from farshore.hub.director import Director
from farshore.hub.gate import DAY, Gate, Tally, counts_of
from farshore.hub.records import changes, ledger, rollouts
from farshore.hub.records import deployments as deployment_rows
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.rollouts import Entry, Member
from farshore.hub.rollout import Budget, Event, Foreseen, Rollout, Terms, Wave

KEPT = 365 * 86400.0
PLAIN = Terms()
NONE: Mapping[str, Foreseen] = MappingProxyType({})
MAX_NAME = 63
MOST_ANSWERS = 1_000_000
"""Answers of one device that count in a wave's tally, so that no device outweighs a fleet and sums stay exact."""

MOST_TIMES = 1000.0
"""Times the previous version's latency or memory that a device can put into a wave's average."""


class Rollouts:
    """All rollouts. Starting, advancing and ending one costs a constant number of writes, whatever the fleet's size.

    Args:
        database: open.
        director: sees to it that devices will take what they are told to run.
        clock: tells the time.

    """

    def __init__(self, database: Database, director: Director, clock: moments.Clock) -> None:
        self._database, self._director, self._clock = database, director, clock

    def newest(self, limit: int) -> list[Entry]:
        with self._database.reading() as tx:
            return rollouts.newest(tx, limit)

    def one(self, key: str) -> tuple[Entry, list[Tally]]:
        """A rollout, and what its devices have said, wave by wave.

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            found = _existing(tx, key)
            return found, rollouts.tally(tx, found.serial, len(found.now.waves))

    def members(self, key: str, states: tuple[str, ...], limit: int) -> list[Member]:
        """Devices in a rollout.

        Raises:
            NotFound: there is no such rollout.

        """
        with self._database.reading() as tx:
            return rollouts.members_in(tx, _existing(tx, key).serial, states, limit)

    def timeline(self, key: str, before: int | None, limit: int) -> list[changes.Change]:
        """What happened to a rollout, the newest first; see :meth:`.Fleet.timeline`.

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            return changes.about(tx, _existing(tx, key).now.id, ("rollout.",), before, limit)

    def start(
        self,
        key: str,
        deployment: str,
        where: str,
        ref: str,
        waves: Sequence[Wave],
        gate: Gate,
        priority: int,
        terms: Terms = PLAIN,
        activate: tuple[str, ...] | None = None,
    ) -> tuple[Entry, list[Tally]]:
        """Bring a version to the devices of a deployment, wave by wave.

        Args:
            key: its name; "" for one made of deployment and version.
            deployment: whose version changes; made if there is none of this name.
            where: a selector for a new deployment; "" for all devices, or for a deployment that is there.
            ref: ``name@3``, ``name@alias`` or ``name``; resolved now and recorded.
            waves: how far it opens, step by step.
            gate: what must be seen before each next step.
            priority: of a new deployment.
            terms: see there.
            activate: times of day in which devices may switch to the version, from now on; None leaves what the deployment says.

        Raises:
            Invalid: a name, selector, ref, wave or window malformed; or a budget of money where links have several currencies.
            NotFound: no such version.
            Conflict: the name is taken, the deployment names the version already, is of another model, or is being
                changed by another rollout; or the version's publisher does not stand for it any more.

        """
        waves, now = rollout.check_waves(waves), self._clock()
        selector.parse(where or "*")
        check_name(deployment)
        for text in activate or ():
            windows.parse(text)
        with self._director.writing() as tx:
            version, row = refs.resolve(tx, ref), deployment_rows.one(tx, deployment)
            _check_currency(tx, terms.budget)
            key = check_name(key or name(tx, deployment, version.number))
            if rollouts.one(tx, key) is not None:
                raise Conflict(f"there is a rollout {key!r} already: choose another name")
            deployments.check_settled(tx, row)
            deployments.check_native(tx, deployment)
            self._director.settle(tx, version)
            if row is not None:
                _check_fits(tx, row, version.model, version.digest, where)
            begun, new = Rollout(key, waves, gate, "running", 0, now, terms=terms, held=terms.switch), row is None
            if row is None:
                row = Deployment(
                    serial=0,
                    id=deployment,
                    selector=where or "*",
                    ref=ref,
                    model=version.model,
                    version=version.number,
                    digest=version.digest,
                    priority=priority,
                    created=now,
                    changed=now,
                    version_id=version.id,
                )
                deployment_rows.add(tx, row)
            if activate is not None:
                deployment_rows.set_activate(tx, deployment, activate)
            serial = rollouts.add(tx, row, version.id, ref, begun, now, new=new)
            deployment_rows.roll(tx, deployment, ref, version.id, serial, now)
            deployments.changed(tx, "rollout.started", key, now)
        return self.one(key)

    def pause(self, key: str, why: str) -> tuple[Entry, list[Tally]]:
        """See :func:`.rollout.pause`."""
        return self._change(key, lambda one, *_: rollout.pause(one, why), "paused")

    def resume(self, key: str, budget: Budget | None = None) -> tuple[Entry, list[Tally]]:
        """See :func:`.rollout.resume`; with another ``budget``, or the one it has.

        Raises:
            Invalid: a budget of money where links have several currencies.
            Conflict: its gate would pause it again at once.

        """
        with self._database.reading() as tx:
            _check_currency(tx, budget)

        def resume(one: Rollout, tallies: Sequence[Tally], now: float) -> Rollout:
            terms = one.terms if budget is None else msgspec.structs.replace(one.terms, budget=budget)
            return msgspec.structs.replace(rollout.resume(one, tallies, now), terms=terms)

        return self._change(key, resume, "resumed")

    def advance(self, key: str) -> tuple[Entry, list[Tally]]:
        """See :func:`.rollout.open_next`."""
        return self._change(key, lambda one, tallies, now: rollout.open_next(one, now, tallies), "advanced")

    def abort(self, key: str, why: str) -> tuple[Entry, list[Tally]]:
        """End it: nobody gets the version any more, who has it keeps it."""
        return self._change(key, lambda one, *_: rollout.end(one, "aborted", why), "aborted")

    def roll_back(self, key: str, why: str) -> tuple[Entry, list[Tally]]:
        """End it, also when it is done or aborted: the deployment names again what it named before.

        Raises:
            Conflict: the deployment was changed since, or it is rolled back already.

        """
        return self._change(key, lambda one, *_: rollout.end(one, "rolled back", why), "rolled back")

    def tick(self) -> bool:
        """See what time has done to rollouts; whether any moved."""
        now, moved = self._clock(), False
        with self._database.reading() as tx:
            live = rollouts.live(tx)
            due = [one.now.id for one in live if _judged(tx, one, now)[0] != one.now]
        for key in due:
            with self._database.writing() as tx:
                moved |= _judge(tx, _existing(tx, key), now)
        return moved

    def forget(self, tx: Connection, now: float) -> None:
        """Delete what ended long ago."""
        rollouts.forget(tx, now - KEPT)

    def _change(
        self, key: str, change: Callable[[Rollout, Sequence[Tally], float], Rollout], kind: str
    ) -> tuple[Entry, list[Tally]]:
        with self._database.writing() as tx:
            found, now = _existing(tx, key), self._clock()
            after = change(found.now, rollouts.tally(tx, found.serial, len(found.now.waves)), now)
            _write(tx, found, after, [Event(kind, after.reason)], now)
        return self.one(key)


def admitted(tx: Connection) -> Callable[[str], Sequence[int]]:
    """How many devices a rollout has taken in, by wave: what :func:`.deployment.winners` asks for."""

    def count(key: str) -> Sequence[int]:
        found = rollouts.one(tx, key)
        return [] if found is None else [one.admitted for one in rollouts.tally(tx, found.serial, len(found.now.waves))]

    return count


def taken(tx: Connection, key: str) -> tuple[float, float]:
    """Bytes and money that a rollout's devices moved, and that are foreseen for those under way."""
    found = rollouts.one(tx, key)
    sums = [] if found is None else rollouts.tally(tx, found.serial, len(found.now.waves))
    return sum(one.bytes for one in sums), sum(one.money for one in sums)


def exhaust(tx: Connection, key: str, why: str, now: float) -> None:
    """A rollout stops within its budget, which has no room for the next device."""
    found = rollouts.one(tx, key)
    if found is not None and found.now.state == "running":
        after = rollout.pause(found.now, rollout.OVER + why)
        _write(tx, found, after, [Event("paused", after.reason)], now)


def admit(
    tx: Connection, device: str, choices: Iterable[Choice], now: float, foreseen: Mapping[str, Foreseen] = NONE
) -> None:
    """Note that rollouts take a device in; ``foreseen`` is what that will take, for those with a budget."""
    for choice in choices:
        if choice.wave is None or choice.rule.rollout is None:
            continue
        found = rollouts.one(tx, choice.rule.rollout.id)
        if found is not None and rollouts.member(tx, found.serial, device) is None:
            more = foreseen.get(found.now.id)
            evidence = {} if more is None else {"bytes": float(more.bytes), "money": more.money}
            rollouts.write_member(tx, Member(found.serial, device, choice.wave, "admitted", evidence, now))
            rollouts.count(tx, found.serial, choice.wave, {"admitted": 1, **evidence})


def leave(tx: Connection, device: str) -> None:
    """Take a device that is deleted out of what rollouts count: waves do not wait for it, and its place is free."""
    for member, found in rollouts.memberships(tx, device):
        spent = _spent(tx, device, found, member, over=True)  # what it moved stays moved
        shares = {**_shares(member.state, member.evidence), "admitted": 1}
        shares |= {name: member.evidence.get(name, 0.0) - value for name, value in spent.items()}
        rollouts.count(tx, found.serial, member.wave, {name: -value for name, value in shares.items()})


def hear(tx: Connection, device: str, reported: Mapping[str, ReportedModel], now: float) -> bool:
    """Take what a device says about versions that rollouts gave it; whether a rollout moved by that."""
    moved = False
    for member, found in rollouts.memberships(tx, device):
        said = reported.get(found.model)
        if said is None:
            continue
        state = outcome(said, found.digest)
        evidence = (
            evidence_of(said, found.digest)
            | _found(tx, found, member, said)
            | _spent(tx, device, found, member, over=state != "admitted")
        )
        if (state, evidence) == (member.state, member.evidence):
            continue
        shares = _shares(state, evidence)
        old = _shares(member.state, member.evidence)
        delta = {name: shares.get(name, 0) - old.get(name, 0) for name in {*shares, *old}}
        rollouts.count(tx, found.serial, member.wave, delta)
        rollouts.write_member(tx, msgspec.structs.replace(member, state=state, evidence=evidence, at=now))
        fault = said.target.fault if state == "failed" and said.target is not None else None
        moved |= _judge(tx, found, now, "" if fault is None else f"{device}: {fault.message}")
    return moved


def outcome(said: ReportedModel, digest: str) -> str:
    """How far a device is with a version: ``admitted``, ``ready``, ``confirmed`` or ``failed``."""
    if said.target is not None and said.target.digest == digest and said.target.state in {"failed", "ready"}:
        return said.target.state
    here = said.current is not None and said.current.digest == digest
    return "confirmed" if here and said.target is None else "admitted"


def _found(tx: Connection, found: Entry, member: Member, said: ReportedModel) -> dict[str, float]:
    """What both versions found on a device, as counts by name."""
    trial = said.trial
    if trial is None or trial.digest != found.digest or trial.sketch is None:
        return {}
    return counts_of(trial.sketch, rollouts.tally(tx, found.serial, len(found.now.waves))[member.wave].classes)


def evidence_of(said: ReportedModel, digest: str) -> dict[str, float]:
    """A device's share of a wave's tally, from the trial of a version."""
    trial = said.trial
    if trial is None or trial.digest != digest:
        return {}
    requests, errors = _answers(trial.requests, trial.errors)
    compared, agreed = _answers(trial.compared, trial.agreed)
    found: dict[str, float] = {"requests": requests, "errors": errors, "compared": compared, "agreed": agreed}
    if trial.unseen:
        return found
    found |= {"gap": min(trial.gap, DAY), "switched": 1}
    if trial.latency and trial.latency_before:
        found |= {"latency": min(trial.latency / trial.latency_before, MOST_TIMES), "timed": 1}
    if trial.memory and trial.memory_before:
        found |= {"memory": min(trial.memory / trial.memory_before, MOST_TIMES), "weighed": 1}
    return found


def _spent(tx: Connection, device: str, found: Entry, member: Member, *, over: bool) -> dict[str, float]:
    """What a member takes of its rollout's budget: what it moved, and until it is ``over`` no less than what was foreseen."""
    moved = ledger.moved(tx, device, found.now.id)
    counted = [member.evidence.get(name, 0.0) for name in ("bytes", "money")]
    sums = moved if over else [max(pair) for pair in zip(moved, counted, strict=True)]
    return {name: float(value) for name, value in zip(("bytes", "money"), sums, strict=True) if value}


def _answers(total: int, some: int) -> tuple[int, int]:
    """A device's answers and how many of them are of a kind: never more than there are, and no more than may count."""
    some = min(some, total)
    return (total, some) if total <= MOST_ANSWERS else (MOST_ANSWERS, some * MOST_ANSWERS // total)


def _shares(state: str, evidence: Mapping[str, float]) -> dict[str, float]:
    return {**evidence, **({state: 1} if state != "admitted" else {})}


def _judged(tx: Connection, found: Entry, now: float, last: str = "") -> tuple[Rollout, list[Event]]:
    return rollout.advance(found.now, rollouts.tally(tx, found.serial, len(found.now.waves)), now, last)


def _judge(tx: Connection, found: Entry, now: float, last: str = "") -> bool:
    after, events = _judged(tx, found, now, last)
    if after != found.now:
        _write(tx, found, after, events, now)
    return bool(events)


def _write(tx: Connection, found: Entry, after: Rollout, events: Iterable[Event], now: float) -> None:
    rollouts.change(tx, found.serial, after, now)
    if after.state != found.now.state:
        _settle(tx, found, after, now)
    for event in events:
        changes.add(tx, f"rollout.{event.kind.replace(' ', '-')}", found.now.id, now, detail=event.text)
        changes.bump(tx, changes.RULES)


def _settle(tx: Connection, found: Entry, after: Rollout, now: float) -> None:
    """What the end of a rollout does to its deployment."""
    row = deployment_rows.one(tx, found.deployment)
    if after.state == "done" and row is not None and row.rollout == found.serial:
        deployment_rows.roll(tx, found.deployment, row.ref, found.version_id, None, now)
    if after.state != "rolled back":
        return
    if row is None or row.digest != found.digest or row.rollout not in {None, found.serial}:
        raise Conflict(
            f"deployment {found.deployment} was changed since rollout {found.now.id}: nothing to go back from"
        )
    if found.before_id is None:
        if row.created != found.created:  # not this rollout's own
            raise Conflict(f"the version that deployment {found.deployment} named before is gone: name another one")
        deployment_rows.remove(tx, found.deployment)
    else:
        ref = f"{found.model}@{found.before}"
        deployment_rows.roll(tx, found.deployment, ref, found.before_id, None, now)


def _check_fits(tx: Connection, row: Deployment, model: str, digest: str, where: str) -> None:
    deployments.check_same(row, model, where)
    if row.digest == digest and row.rollout is None:
        raise Conflict(f"deployment {row.id} names {row.model}@{row.version} already")
    if row.rollout is not None:  # one that was aborted: some devices have its version, others not
        rolling = rollouts.by_serial(tx, row.rollout)
        name = rolling.now.id if rolling else row.id
        raise Conflict(
            f"deployment {row.id} stands between two versions, where rollout {name} was aborted: roll that back, "
            f"or settle it with farshore deployment create {row.id} --model {row.model}@{row.version}"
        )


def _check_currency(tx: Connection, budget: Budget | None) -> None:
    if budget is None or budget.money is None:
        return
    currencies = sorted({one.currency for one in ledger.every_link(tx) if one.price})
    if len(currencies) > 1:
        raise Invalid(f"links are priced in {', '.join(currencies)}: a budget of money needs one currency; use bytes")


def name(tx: Connection, deployment: str, version: int) -> str:
    """A free name made of deployment and version; a long deployment's is cut so that it stays a name."""
    ends = (f"-{version}", *(f"-{version}-{number}" for number in range(2, 100)))
    names = [deployment[: MAX_NAME - len(end)] + end for end in ends]
    return next((name for name in names if rollouts.one(tx, name) is None), f"r-{auth.make_id()}")


def _existing(tx: Connection, key: str) -> Entry:
    found = rollouts.one(tx, key)
    if found is None:
        raise NotFound(f"no rollout {key!r}")
    return found
