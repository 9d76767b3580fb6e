"""Who may do what: roles, each on one fleet. Pure.

A grant is a pair, and stays one: to be an operator of one fleet and a publisher of another gives nobody an operator's rights on
the second. A fleet is a name. A device belongs to the fleet that its tag ``fleet`` names; a model to the one that its name
begins with, up to the first dot: ``north.detector`` is the fleet ``north``'s. Devices and models without one belong to nobody in
particular: models may be read and rolled out by everybody, and all else is for those who have the role on ``*``, every fleet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from farshore.core.errors import Denied

Role = Literal["viewer", "operator", "publisher", "admin"]
Fleet = Annotated[str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9_-]{0,30})\Z")]
EVERY = "*"
NONE = ""
TAG = "fleet"

INCLUDES: Mapping[str, frozenset[str]] = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "publisher": frozenset({"viewer", "publisher"}),
    "admin": frozenset({"viewer", "operator", "publisher", "admin"}),
}


class Grant(Struct, frozen=True, forbid_unknown_fields=True):
    """A role on a fleet."""

    role: Role
    fleet: Fleet

    def __str__(self) -> str:
        return f"{self.role}:{self.fleet}"


ALL = (Grant("admin", EVERY),)


class Caller(Struct, frozen=True):
    """Who asks.

    Attributes:
        name: the operator's.
        grants: what they may do, here and now.
        via: the token or session that they come with, by its id.

    """

    name: str
    grants: tuple[Grant, ...]
    via: str = ""

    def may(self, role: str, fleet: str) -> bool:
        """Whether the caller has ``role`` on ``fleet``."""
        return any(role in INCLUDES[one.role] and one.fleet in {EVERY, fleet} for one in self.grants)

    def may_somewhere(self, role: str) -> bool:
        """Whether the caller has ``role`` on any fleet at all."""
        return any(role in INCLUDES[one.role] for one in self.grants)

    def may_read_model(self, model: str) -> bool:
        """Whether the caller may see, and tell devices to run, a model."""
        fleet = fleet_of_model(model)
        return self.may_somewhere("viewer") if fleet == NONE else self.may("viewer", fleet)

    def need(self, role: str, fleet: str) -> None:
        """Pass if the caller has ``role`` on ``fleet``.

        Raises:
            Denied: they have not; the message says what they lack, and nothing of what is there.

        """
        if not self.may(role, fleet):
            where = f"on fleet {fleet!r}" if fleet not in {EVERY, NONE} else "on every fleet ('*')"
            raise Denied(f"this needs the role {role} {where}: ask an admin")

    def need_somewhere(self, role: str) -> None:
        """Pass if the caller has ``role`` on any fleet; errors as :meth:`need`."""
        if not self.may_somewhere(role):
            raise Denied(f"this needs the role {role}: ask an admin")

    def need_model(self, model: str) -> None:
        """Pass if the caller may read ``model``; errors as :meth:`need`."""
        if not self.may_read_model(model):
            self.need("viewer", fleet_of_model(model))


def fleet_of_model(name: str) -> str:
    """The fleet that a model belongs to; :data:`NONE` for all."""
    head, dot, _ = name.partition(".")
    return head if dot else NONE


def fleet_of_tags(tags: Mapping[str, Any]) -> str:
    """The fleet that a device with these tags belongs to."""
    found = tags.get(TAG)
    return found if isinstance(found, str) else NONE


def within(asked: Iterable[Grant], held: Iterable[Grant]) -> tuple[Grant, ...]:
    """Those of ``asked`` that ``held`` covers: what a token is worth when its owner has lost a role."""
    owner = Caller("", tuple(held))
    return tuple(one for one in asked if owner.may(one.role, one.fleet))
