"""Plans: what a rollout will move, and cost, told before anything starts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import cache, partial
from typing import Any

from msgspec import Struct

from farshore.core import documents, wire
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError, NotFound
from farshore.core.manifest import File, Manifest
from farshore.hub import deployments, forecast, refs, selector
from farshore.hub.builds import Builds
from farshore.hub.database import Database
from farshore.hub.forecast import Facts, Forecast
from farshore.hub.layering import link_of
from farshore.hub.records import deployments as deployment_rows
from farshore.hub.records import devices, ledger, models
from farshore.hub.records.devices import Twin
from farshore.hub.records.models import Version
from farshore.hub.registry import Registry

PAGE = 500


class Agent(Struct, frozen=True):
    """``reported.agent``, as far as plans need it."""

    runtimes: tuple[str, ...] = ()
    memory: int = 0
    machine: str = ""


class Plan(Struct, frozen=True):
    """What a rollout will do.

    Attributes:
        version: that it brings.
        selector: devices that it brings it to.
        forecasts: one for each of them.
        exact: whether every patch that may be used is built; otherwise more may be saved than the forecasts say.

    """

    version: Version
    selector: str
    forecasts: list[Forecast]
    exact: bool


class Plans:
    """Forecasts over the fleet.

    Args:
        database: open.
        registry: has the manifests.
        builds: has the patches, and builds those that are needed.

    """

    def __init__(self, database: Database, registry: Registry, builds: Builds) -> None:
        self._database, self._registry, self._builds = database, registry, builds

    def plan(self, deployment: str, where: str, ref: str, seconds: float) -> Plan:
        """What bringing a version to the devices of a deployment will move and cost.

        Args:
            deployment: its name; there may be none yet.
            where: a selector for a new deployment; "" for all.
            ref: ``name@3``, ``name@alias`` or ``name``.
            seconds: to wait for patches that have to be built.

        Raises:
            Invalid, NotFound: as :meth:`Rollouts.start`.

        """
        with self._database.reading() as tx:
            version, row = refs.resolve(tx, ref), deployment_rows.one(tx, deployment)
            if row is not None:
                deployments.check_same(row, version.model, where)
            chosen = row.selector if row is not None else where or "*"
            links = {one.name: one for one in ledger.every_link(tx)}
        manifest, needs = self._registry.manifest(version), list[tuple[Twin, Facts, Needs]]()
        manifest_of = cache(self._manifest)
        for twin in self._matching(chosen):
            facts = facts_of(twin)
            have = forecast.held(facts, manifest_of)
            missing = forecast.missing(facts, manifest, have)
            needs.append((twin, facts, Needs(missing, have)))
        exact = self._build({one for _, _, one in needs}, seconds)
        smallest = cache(self._smallest)
        found = []
        for twin, facts, need in needs:
            name = link_of(twin.tags)
            link = links.get(name, ledger.Link(name))
            found.append(forecast.forecast(twin.device, facts, need.files, partial(smallest, need.have), link))
        return Plan(version, chosen, found, exact)

    def _matching(self, text: str) -> Iterator[Twin]:
        chosen, after = selector.parse(text), ""
        while True:
            with self._database.reading() as tx:
                page = devices.page(tx, after, PAGE)
            yield from (row for one, row in page if chosen.matches(one.id, row.tags, row.reported.values))
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


def facts_of(twin: Twin) -> Facts:
    """What a device's twin tells of it; what is malformed there counts as not told."""
    said: Any = twin.reported.values
    try:
        agent = documents.convert(said.get("agent", {}), Agent, what="reported.agent")
        models_ = wire.reported_models(said)
    except FarshoreError:
        return Facts((), 0, "", {})
    return Facts(agent.runtimes, agent.memory, agent.machine, models_)
