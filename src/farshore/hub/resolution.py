"""What a twin's desired section should say: deployments × tags × what operators wrote by hand, compiled once and asked often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from farshore.core import twin
from farshore.hub import configuration, configured, deployment, layering, rollouts, selector
from farshore.hub.configuration import Given
from farshore.hub.deployment import Choice, Rule
from farshore.hub.layering import Layer
from farshore.hub.records import configurations, deployments, layers, ledger
from farshore.hub.records import rollouts as rollout_rows
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.devices import Twin
from farshore.hub.rollout import Foreseen

Foresee = Callable[[Twin, str], Foreseen]
"""What bringing the version with this manifest to a device will take."""


def _nothing(_row: Twin, _digest: str) -> Foreseen:
    return Foreseen(0, 0.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a twin's desired section should say, and why.

    Attributes:
        values: of the section.
        won: which deployments made it so, by model.
        foreseen: of rollouts with a budget that take the device in, by their id.
        refused: rollouts that stop here, for their budget has no room: why, by their id.
        counting: rollouts that wait for patches before they know what the device will take.

    """

    values: dict[str, Any]
    won: dict[str, Choice] = field(default_factory=dict)
    foreseen: dict[str, Foreseen] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    counting: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """All that desired sections depend on beside the twin, as of a count of its changes."""

    count: int
    rules: list[Rule] = field(default_factory=list)
    configurations: list[configuration.Rule] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    links: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Resolution:
    """Resolves twins; keeps the compiled deployments as long as they hold.

    Attributes:
        foresee: asked where a rollout has a budget.

    """

    def __init__(self) -> None:
        self.foresee: Foresee = _nothing
        self._compiled = _Compiled(-1)

    def wanted(self, tx: Connection, row: Twin) -> Wanted:
        """What desired should say.

        Args:
            tx: open; ``row`` was read in it.
            row: a device's twin, or a module's.

        """
        known = self._known(tx, row)
        base = configured.given(tx, known.configurations, row).values
        manual = twin.merge(base, row.manual) if base else row.manual
        if row.module:
            return Wanted(manual)
        named = row.desired.values.get("models", {})
        told = {twin.name_of(key): one for key, one in named.items()}
        found = Wanted({})

        def affords(rule: Rule) -> bool:
            return self._affords(tx, row, rule, found)

        won = deployment.winners(
            known.rules, row.device, row.tags, told, rollouts.admitted(tx), row.reported.values, affords
        )
        given = layering.settled(known.links, known.layers, row.device, row.tags, row.reported.values)
        found.won.update(won)
        found.values.update(deployment.effective(manual, won, given))
        return found

    def given(self, tx: Connection, row: Twin) -> Given:
        """What configurations alone make of a twin, and which of them are meant for it."""
        return configured.given(tx, self._known(tx, row).configurations, row)

    def ready(self, row: Twin) -> bool:
        """Whether all is compiled that ``row`` needs: asking for it takes no time, then, save where a budget is counted."""
        known = self._compiled
        return known.count == row.rules and not any(
            one.rollout is not None and one.rollout.terms.budget is not None for one in known.rules
        )

    def ruled(self, tx: Connection, row: Twin) -> list[Rule]:
        """The deployments, compiled: those that hold for ``row``, which was read in ``tx``."""
        return self._known(tx, row).rules

    def _known(self, tx: Connection, row: Twin) -> _Compiled:
        known = self._compiled
        if known.count != row.rules:
            classic = {key for key, manner in configurations.manners(tx).items() if manner.classic}
            known = _Compiled(
                row.rules,
                [compiled(tx, one) for one in deployments.every(tx) if one.id not in classic],
                configured.compiled(tx),
                [Layer(one.id, selector.parse(one.selector), one.priority, one.settings) for one in layers.every(tx)],
                {one.name: one.settings for one in ledger.every_link(tx)},
            )
            self._compiled = known
        return known

    def _affords(self, tx: Connection, row: Twin, rule: Rule, found: Wanted) -> bool:
        """Whether a rollout's budget has room for a device; what that comes to is noted in ``found``."""
        rolling = rule.rollout
        if rolling is None or rolling.terms.budget is None:
            return True
        more = self.foresee(row, rule.digest)
        if more.open:
            found.counting.append(rolling.id)
            return False
        lacks = rolling.terms.budget.lacks(rollouts.taken(tx, rolling.id), (more.bytes, more.money))
        if lacks is not None:
            found.refused[rolling.id] = f"{row.device} needs {lacks}"
            return False
        found.foreseen[rolling.id] = more
        return True


def compiled(tx: Connection, row: Deployment) -> Rule:
    """A deployment, ready to be asked."""
    rolling = None if row.rollout is None else rollout_rows.by_serial(tx, row.rollout)
    before = None
    if rolling is not None and rolling.before is not None and rolling.before_digest is not None:
        before = (rolling.before, rolling.before_digest)
    return Rule(
        id=row.id,
        selector=selector.parse(row.selector),
        model=row.model,
        version=row.version,
        digest=row.digest,
        priority=row.priority,
        serial=row.serial,
        rollout=None if rolling is None else rolling.now,
        before=before,
        activate=row.activate,
    )
