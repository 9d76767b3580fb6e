"""Deployments: standing rules, made and changed by operators. Which of them wins on a device: :mod:`.deployment`."""

from __future__ import annotations

from sqlalchemy import Connection

from farshore.core.errors import NotFound
from farshore.core.manifest import check_name
from farshore.hub import auth, moments, refs, selector
from farshore.hub.database import Database
from farshore.hub.records import changes, deployments, devices
from farshore.hub.records.deployments import Deployment


class Deployments:
    """All deployments. Each costs a constant number of writes, whatever the fleet's size.

    Args:
        database: open.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: moments.Clock) -> None:
        self._database = database
        self._clock = clock

    def every(self) -> list[Deployment]:
        with self._database.reading() as tx:
            return deployments.every(tx)

    def one(self, key: str) -> tuple[Deployment, dict[str, int]]:
        """A deployment, and how many devices hold its version in each role.

        Raises:
            NotFound: there is none.

        """
        with self._database.reading() as tx:
            found = _existing(tx, key)
            return found, devices.holder_counts(tx, found.digest)

    def put(self, key: str, where: str, ref: str, priority: int) -> tuple[Deployment, bool]:
        """Make or change a standing rule: devices that match ``where`` should run ``ref``, resolved now and recorded.

        Args:
            key: its name; "" for a new one with a random name.
            where: a selector.
            ref: ``name@3``, ``name@alias`` or ``name``.
            priority: higher wins; among equals the deployment made last.

        Returns:
            the deployment, and whether it is new.

        Raises:
            Invalid: name, selector or ref malformed.
            NotFound: no such version.

        """
        key, now = check_name(key or f"d-{auth.make_id()}"), self._clock()
        selector.parse(where)
        with self._database.writing() as tx:
            old, version = deployments.one(tx, key), refs.resolve(tx, ref)
            row = Deployment(
                serial=old.serial if old else 0,
                id=key,
                selector=where,
                ref=ref,
                model=version.model,
                version=version.number,
                digest=version.digest,
                priority=priority,
                created=old.created if old else now,
                changed=now,
            )
            if old is None:
                deployments.add(tx, row, version.id)
            else:
                deployments.change(tx, row, version.id)
            _changed(tx, "deployment.changed" if old else "deployment.created", key, now)
            return _existing(tx, key), old is None

    def remove(self, key: str) -> None:
        """Delete a deployment: on each device the next one of lower priority holds from its next sync on.

        Raises:
            NotFound: there is none.

        """
        with self._database.writing() as tx:
            if not deployments.remove(tx, key):
                raise NotFound(f"no deployment {key!r}")
            _changed(tx, "deployment.removed", key, self._clock())


def _existing(tx: Connection, key: str) -> Deployment:
    found = deployments.one(tx, key)
    if found is None:
        raise NotFound(f"no deployment {key!r}")
    return found


def _changed(tx: Connection, kind: str, key: str, now: float) -> None:
    changes.bump(tx, changes.RULES)
    changes.add(tx, kind, key, now)
