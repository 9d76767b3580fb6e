"""Plans: what a rollout will move, and cost, told before anything starts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import cache, partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from farshore.core import documents, wire
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, NotFound
from farshore.core.manifest import File, Manifest
from farshore.core.twin import key_of, name_of
from farshore.hub import deployments, forecast, moments, refs, rollouts, selector
from farshore.hub.builds import Builds
from farshore.hub.database import Database
from farshore.hub.deployment import Rule, retries, winners
from farshore.hub.forecast import Facts, Forecast
from farshore.hub.layering import link_of
from farshore.hub.records import deployments as deployment_rows
from farshore.hub.records import devices, ledger, models
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.devices import ACCEPTED, Device, Twin
from farshore.hub.records.models import Version
from farshore.hub.registry import Registry
from farshore.hub.resolution import compiled
from farshore.hub.rollout import OVER, Budget, Foreseen, Wave, bucket
from farshore.hub.selector import Selector

PAGE = 500


class Agent(Struct, frozen=True):
    """``reported.agent``, as far as plans need it."""

    runtimes: tuple[str, ...] = ()
    memory: int = 0
    machine: str = ""
    room: int | None = None


class Plan(Struct, frozen=True):
    """What a rollout will do.

    Attributes:
        version: that it brings.
        selector: devices that it brings it to.
        forecasts: one for each of them.
        exact: whether every patch that may be used is built; otherwise more may be saved than the forecasts say.
        others: devices that it selects and that stay with what somebody else says of the model: how many, by who that is.

    """

    version: Version
    selector: str
    forecasts: list[Forecast]
    exact: bool
    others: dict[str, int]


class Asked(Struct, frozen=True):
    """What is planned.

    Attributes:
        deployment: its name; there may be none yet.
        selector: for a new deployment; "" for all.
        ref: ``name@3``, ``name@alias`` or ``name``.
        priority: of a new deployment.
        waves: how far the rollout opens, step by step; whom a budget still reaches goes by that.
        budget: what it may move and cost.
        key: the rollout's name; "" for the one that it would be given.

    """

    deployment: str
    selector: str
    ref: str
    priority: int = 0
    waves: tuple[Wave, ...] = (Wave(percent=100),)
    budget: Budget | None = None
    key: str = ""


class Plans:
    """Forecasts over the fleet.

    Args:
        database: open.
        registry: has the manifests.
        builds: has the patches, and builds those that are needed.
        clock: tells the time.

    """

    def __init__(self, database: Database, registry: Registry, builds: Builds, clock: moments.Clock) -> None:
        self._database, self._registry, self._builds, self._clock = database, registry, builds, clock

    def plan(self, asked: Asked, seconds: float) -> Plan:
        """What bringing a version to the devices of a deployment will move and cost.

        Args:
            asked: see there.
            seconds: to wait for patches that have to be built.

        Raises:
            Invalid, NotFound: as :meth:`Rollouts.start`.

        """
        with self._database.reading() as tx:
            version, row = refs.resolve(tx, asked.ref), deployment_rows.one(tx, asked.deployment)
            if row is not None:
                deployments.check_same(row, version.model, asked.selector)
            rule = _rule(asked, version, row)
            rules = [rule, *(compiled(tx, one) for one in deployment_rows.every(tx) if one.id != asked.deployment)]
            links = {one.name: one for one in ledger.every_link(tx)}
            used = ledger.used(tx, moments.text(self._clock())[:7])
            key = asked.key or rollouts.name(tx, asked.deployment, version.number)
        manifest, needs = self._registry.manifest(version), list[tuple[Device, Twin, Facts, Needs]]()
        manifest_of, others = cache(self._manifest), Counter[str]()
        for device, twin in self._matching(rule.selector):
            other = self._held_by(rules, rule, twin)
            if other:
                others[other] += 1
                continue
            facts = facts_of(twin)
            have = forecast.held(facts, manifest_of)
            needs.append((device, twin, facts, Needs(forecast.missing(facts, manifest, have), have)))
        exact = self._build({need for device, _, _, need in needs if device.state == ACCEPTED}, seconds)
        smallest, found = cache(self._smallest), []
        for device, twin, facts, need in needs:
            name = link_of(twin.tags)
            one = forecast.forecast(
                twin.device, facts, need.files, partial(smallest, need.have), links.get(name, ledger.Link(name)),
                freed=forecast.freed(facts, manifest, manifest_of), used=used.get((twin.device, name), 0),
            )  # fmt: skip
            found.append(one if device.state == ACCEPTED else _unheard(one, device))
        told = {twin.device: twin for _, twin, _, _ in needs}
        return Plan(version, text_of(asked, row), within(found, told, asked, key), exact, dict(others))

    def foresee(self, twin: Twin, digest: str) -> Foreseen:
        """What bringing the version with this manifest to one device will take; ``open`` while a patch is being built for it."""
        manifest, facts = self._manifest(digest), facts_of(twin)
        if manifest is None:
            return Foreseen(0, 0.0)
        have = forecast.held(facts, self._manifest)
        files = forecast.missing(facts, manifest, have)
        if any(self._builds.ask(one, sorted(have)) is not None for one in files or ()):
            return Foreseen(0, 0.0, open=True)
        with self._database.reading() as tx:
            link = ledger.link(tx, link_of(twin.tags))
        found = forecast.forecast(twin.device, facts, files, partial(self._smallest, have), link)
        return Foreseen(found.bytes, found.money)

    def _held_by(self, rules: list[Rule], rule: Rule, twin: Twin) -> str:
        """Who else says what a device runs of the model; "" if ``rule`` does."""
        entry = twin.manual.get("models", {}).get(key_of(rule.model))
        if entry is not None and not retries(entry):
            return "an operator's hand"
        named = twin.desired.values.get("models", {})
        told = {name_of(key): one for key, one in named.items()}
        won = winners(rules, twin.device, twin.tags, told, self._admitted, twin.reported.values)
        choice = won.get(rule.model)
        return "" if choice is None or choice.rule.id == rule.id else f"deployment {choice.rule.id}"

    def _admitted(self, key: str) -> Sequence[int]:
        with self._database.reading() as tx:
            return rollouts.admitted(tx)(key)

    def _matching(self, chosen: Selector) -> Iterator[tuple[Device, Twin]]:
        after = ""
        while True:
            with self._database.reading() as tx:
                page = devices.page(tx, after, PAGE, chosen=chosen)
            yield from ((one, row) for one, row in page if chosen.matches(one.id, row.tags, row.reported.values))
            if len(page) < PAGE:
                return
            after = page[-1][0].id

    def _manifest(self, digest: str) -> Manifest | None:
        with self._database.reading() as tx:
            version = models.by_digest(tx, digest)
        try:
            return None if version is None else self._registry.manifest(version)
        except NotFound:
            return None

    def _smallest(self, have: frozenset[Digest], digest: Digest) -> int | None:
        routes = self._builds.routes(digest, sorted(have))
        return routes[0].size if routes else None

    def _build(self, needs: set[Needs], seconds: float) -> bool:
        """See to it that patches are there; whether all that could be are."""
        end, open_ = time.monotonic() + seconds, True
        while open_:
            futures: set[Future[None]] = set()
            for need in needs:
                for digest in need.files or ():
                    future = self._builds.ask(digest, sorted(need.have))
                    if future is not None:
                        futures.add(future)
            if not futures:
                return True
            left = end - time.monotonic()
            open_ = left > 0 and bool(wait(futures, left, return_when="FIRST_COMPLETED").done)
        return False


class Needs:
    """What a device has to fetch, and what it holds; alike devices need alike."""

    def __init__(self, files: dict[Digest, File] | None, have: frozenset[Digest]) -> None:
        self.files, self.have = files, have
        self._key = (None if files is None else frozenset(files), have)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Needs) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def within(found: list[Forecast], twins: Mapping[str, Twin], asked: Asked, key: str) -> list[Forecast]:
    """Forecasts with those marked that a budget does not reach, in the order in which waves take devices in."""
    budget, taken, over = asked.budget, (0.0, 0.0), ""
    if budget is None:
        return found
    result = {}
    for one in sorted(found, key=lambda one: _turn(twins[one.device], asked.waves, key)):
        if not one.trouble:
            lacks = None if over else budget.lacks(taken, (one.bytes, one.money))
            over = over or (f"{OVER}{one.device} needs {lacks}" if lacks is not None else "")
            taken = taken if over else (taken[0] + one.bytes, taken[1] + one.money)
        result[one.device] = replace(one, trouble=over) if over and not one.trouble else one
    return [result[one.device] for one in found]


def _turn(twin: Twin, waves: Sequence[Wave], key: str) -> tuple[int, float, str]:
    """When it is a device's turn, as far as that can be known beforehand: counts take those that ask first."""
    place = bucket(key, twin.device)
    for number, wave in enumerate(waves):
        if wave.percent is not None and place < wave.percent:
            return number, place, twin.device
        chosen = selector.parse(wave.selector) if wave.selector else None
        if chosen is not None and chosen.matches(twin.device, twin.tags, twin.reported.values):
            return number, place, twin.device
    return len(waves), place, twin.device


def text_of(asked: Asked, row: Deployment | None) -> str:
    """The selector that is planned for."""
    return row.selector if row is not None else asked.selector or "*"


def _rule(asked: Asked, version: Version, row: Deployment | None) -> Rule:
    """The deployment as it will be when all waves are open."""
    return Rule(
        id=asked.deployment,
        selector=selector.parse(text_of(asked, row)),
        model=version.model,
        version=version.number,
        digest=version.digest,
        priority=row.priority if row is not None else asked.priority,
        serial=row.serial if row is not None else 1 << 62,
    )


def _unheard(one: Forecast, device: Device) -> Forecast:
    """The forecast of a device that the hub does not listen to."""
    return Forecast(one.device, "none", 0, 0, link=one.link, trouble=f"the hub does not listen to it: {device.state}")


def facts_of(twin: Twin) -> Facts:
    """What a device's twin tells of it; what is malformed there counts as not told."""
    said: Any = twin.reported.values
    try:
        agent = documents.convert(said.get("agent", {}), Agent, what="reported.agent")
        models_ = wire.reported_models(said)
    except FarshoreError:
        return Facts((), 0, "", {})
    return Facts(agent.runtimes, agent.memory, agent.machine, models_, agent.room)
