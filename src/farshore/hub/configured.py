"""What configurations, and deployments in the classic contract, give to the twins that are stored."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from farshore.core.errors import FarshoreError
from farshore.hub import classic, configuration, query
from farshore.hub.configuration import Content, Given, Part, Rule, Subject
from farshore.hub.records import bundles, configurations, deployments, devices, models
from farshore.hub.records.deployments import Deployment
from farshore.hub.records.devices import Twin


def given(tx: Connection, rules: Sequence[Rule], row: Twin) -> Given:
    """What configurations make of a twin.

    Args:
        tx: open; ``row`` was read in it.
        rules: from :func:`compiled`.
        row: a device's twin, or a module's.

    """
    if not rules:
        return Given({}, {})
    if not row.module:
        return configuration.given(rules, subject(row))
    device = devices.twin(tx, row.device)
    return Given({}, {}) if device is None else configuration.given(rules, subject(device), subject(row))


def subject(row: Twin) -> Subject:
    """A twin as conditions see it."""
    return Subject(row.device, row.module, row.tags, row.desired.values, row.reported.values)


def classic_content(tx: Connection, row: Deployment, module: str) -> Content | None:
    """What a deployment gives to a module in the classic contract; None while there is no ZIP file of its version."""
    bundle = bundles.of_version(tx, row.version_id)
    if bundle is None:
        return None
    return Content("classic", {module: tuple(Part((key,), value) for key, value in classic.values_of(bundle).items())})


def version_of(tx: Connection, digest: str) -> tuple[str, int] | None:
    """Model and number of the version with this manifest digest."""
    found = models.by_digest(tx, digest)
    return None if found is None else (found.model, found.number)


def compiled(tx: Connection) -> list[Rule]:
    """All of them, ready to be asked."""
    found = []
    for row in configurations.every(tx):
        try:
            target, content = query.target(row.selector), configuration.read(row.content)
        except FarshoreError:  # a former version of the hub took it
            continue
        found.append(Rule(row.id, target, row.priority, row.created, content))
    manners = configurations.manners(tx)
    for one in deployments.every(tx) if any(manner.classic for manner in manners.values()) else ():
        module = manners[one.id].classic
        told = classic_content(tx, one, module) if module else None
        if told is not None:
            found.append(Rule(one.id, query.target(one.selector), one.priority, one.created, told))
    return found
