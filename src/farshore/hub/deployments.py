"""Deployments: standing rules, made and changed by operators. Which of them wins on a device: :mod:`.deployment`."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from farshore.core import windows
from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.core.manifest import check_name
from farshore.hub import auth, moments, refs, selector
from farshore.hub.database import Database
from farshore.hub.director import Director
from farshore.hub.records import changes, configurations, deployments, devices, rollouts
from farshore.hub.records.configurations import Manner
from farshore.hub.records.deployments import Deployment
from farshore.hub.rollout import ENDED


class Deployments:
    """All deployments. Each costs a constant number of writes, whatever the fleet's size.

    Args:
        database: open.
        director: sees to it that devices will take what they are told to run.
        clock: tells the time.

    """

    def __init__(self, database: Database, director: Director, clock: moments.Clock) -> None:
        self._database = database
        self._director = director
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

    def manners(self) -> dict[str, Manner]:
        """How each is told, and what IoT Hub's clients wrote on it, by name."""
        with self._database.reading() as tx:
            return configurations.manners(tx)

    def put(
        self,
        key: str,
        where: str,
        ref: str,
        priority: int,
        activate: tuple[str, ...] | None = None,
        manner: Callable[[Manner], Manner] | None = None,
    ) -> tuple[Deployment, bool]:
        """Make or change a standing rule: devices that match ``where`` should run ``ref``, resolved now and recorded.

        Args:
            key: its name; "" for a new one with a random name.
            where: a selector.
            ref: ``name@3``, ``name@alias`` or ``name``.
            priority: higher wins; among equals the deployment made last.
            activate: times of day in which devices may switch to the version; None leaves what was said before, or says always.
            manner: from how devices were told before, how they are to be told, and what IoT Hub's clients wrote on it; where that
                is the classic contract, its ZIP file is made already. None leaves it.

        Returns:
            the deployment, and whether it is new.

        Raises:
            Invalid: name, selector, ref or window malformed.
            NotFound: no such version.
            Conflict: the version's publisher does not stand for it any more; a rollout is changing the deployment; or a
                configuration has that name.

        """
        key, now = check_name(key or f"d-{auth.make_id()}"), self._clock()
        selector.parse(where)
        for text in activate or ():
            windows.parse(text)
        with self._director.writing() as tx:
            old, version = deployments.one(tx, key), refs.resolve(tx, ref)
            check_settled(tx, old)
            if configurations.one(tx, key) is not None:
                raise Conflict(f"there is a configuration {key!r}: choose another name")
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
                version_id=version.id,
                activate=activate if activate is not None else old.activate if old else (),
            )
            if old is None:
                deployments.add(tx, row)
            else:
                deployments.change(tx, row)
            if manner is not None:
                configurations.set_manner(tx, key, manner(configurations.manner(tx, key)))
            made = _existing(tx, key)
            changed(tx, "deployment.changed" if old else "deployment.created", key, now, old, made)
            self._director.settle(tx, version)
            return made, old is None

    def remove(self, key: str) -> None:
        """Delete a deployment: on each device the next one of lower priority holds from its next sync on.

        Raises:
            NotFound: there is none.
            Conflict: a rollout is changing it.

        """
        with self._database.writing() as tx:
            held = deployments.one(tx, key)
            check_settled(tx, held)
            if not deployments.remove(tx, key):
                raise NotFound(f"no deployment {key!r}")
            changed(tx, "deployment.removed", key, self._clock(), held)


def _existing(tx: Connection, key: str) -> Deployment:
    found = deployments.one(tx, key)
    if found is None:
        raise NotFound(f"no deployment {key!r}")
    return found


def check_settled(tx: Connection, row: Deployment | None) -> None:
    """Pass if no rollout is changing the deployment.

    Raises:
        Conflict: one is.

    """
    rolling = None if row is None or row.rollout is None else rollouts.by_serial(tx, row.rollout)
    if row is not None and rolling is not None and rolling.now.state not in ENDED:
        raise Conflict(f"rollout {rolling.now.id} is changing deployment {row.id}: abort it or roll it back first")


def check_native(tx: Connection, key: str) -> None:
    """Pass if devices are told of the deployment ``key`` in Farshore's words: only these say enough for a rollout.

    Raises:
        Conflict: a module is, in the classic contract.

    """
    module = configurations.manner(tx, key).classic
    if module:
        raise Conflict(f"deployment {key} tells module {module} in the classic contract: change it as a whole, at once")


def check_same(row: Deployment, model: str, where: str) -> None:
    """Pass if a rollout of ``model`` to ``where`` can be the deployment's.

    Raises:
        Conflict: it is of another model.
        Invalid: it has another selector.

    """
    if row.model != model:
        raise Conflict(f"deployment {row.id} is of model {row.model}, not {model}: choose another deployment")
    if where and where != row.selector:
        raise Invalid(f"deployment {row.id} has the selector {row.selector}: leave --to away, or name a new deployment")


def changed(
    tx: Connection, kind: str, key: str, now: float, before: Deployment | None = None, after: Deployment | None = None
) -> None:
    """Note a change of what runs where: compiled rules are out of date from now on."""
    changes.bump(tx, changes.RULES)
    changes.add(tx, kind, key, now, before=before, after=after)
