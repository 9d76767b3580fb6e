"""What a twin's desired section should say: deployments × tags × what operators wrote by hand, compiled once and asked often."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from farshore.core import twin
from farshore.hub import deployment, rollouts, selector
from farshore.hub.deployment import Choice, Rule
from farshore.hub.records import deployments
from farshore.hub.records import rollouts as rollout_rows
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.devices import Twin


class Resolution:
    """Resolves twins; keeps the compiled deployments as long as they hold."""

    def __init__(self) -> None:
        self._rules: tuple[int, list[Rule]] = (-1, [])

    def wanted(self, tx: Connection, row: Twin) -> tuple[dict[str, Any], dict[str, Choice]]:
        """The values that desired should have, and which deployments made it so.

        Args:
            tx: open; ``row`` was read in it.
            row: a device's twin, or a module's.

        """
        if row.module:
            return deployment.effective(row.manual, {}), {}
        rules = self.ruled(tx, row)
        named = row.desired.values.get("models", {})
        told = {twin.name_of(key): one for key, one in named.items()}
        won = deployment.winners(rules, row.device, row.tags, told, rollouts.admitted(tx), row.reported.values)
        return deployment.effective(row.manual, won), won

    def ruled(self, tx: Connection, row: Twin) -> list[Rule]:
        """The deployments, compiled: those that hold for ``row``, which was read in ``tx``."""
        count, rules = self._rules
        if count != row.rules:
            rules = [_rule(tx, one) for one in deployments.every(tx)]
            self._rules = (row.rules, rules)
        return rules


def _rule(tx: Connection, row: Deployment) -> Rule:
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
    )
