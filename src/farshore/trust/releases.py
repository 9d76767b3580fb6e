"""Which versions of a model their publisher stands for: the one role per model, and what it says.

The role ``model/<name>`` lists manifests as targets ``<name>/<number>``, each with its length and SHA-256; ``min`` is the
lowest number that may still be installed, by anyone's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Targets

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Denied, Unavailable
from farshore.trust.chain import Chain
from farshore.trust.metadata import check_expiry
from farshore.trust.refresh import Refresh, Want

FLOOR = "min"


@dataclass(frozen=True, slots=True)
class Release:
    """A manifest that a publisher stands for: its digest, and its length in bytes."""

    digest: Digest
    size: int


def role_of(model: str) -> str:
    """The role of a model's publisher."""
    return f"model/{model}"


def path_of(model: str, number: int) -> str:
    """The target path of a version's manifest."""
    return f"{model}/{number}"


def floor_of(signed: Targets) -> int:
    """The lowest number that may be installed."""
    floor = signed.unrecognized_fields.get(FLOOR, 1)
    return floor if type(floor) is int else 1 << 62  # what cannot be read forbids


def listed(signed: Targets, model: str) -> dict[int, Release]:
    """The releases that a role lists, by number; paths that are no release of ``model`` are passed over."""
    found: dict[int, Release] = {}
    for path, target in signed.targets.items():
        name, _, number = path.partition("/")
        digest = target.hashes.get("sha256", "")
        if name == model and number.isdecimal() and path == path_of(model, int(number)):
            found[int(number)] = Release(digests.parse(f"sha256:{digest}"), target.length)
    return found


def check(chain: Chain, model: str, number: int, digest: Digest, now: datetime) -> None:
    """Pass if a version may be installed: its publisher stands for exactly this manifest under this number, and the number
    is not below the floor.

    Args:
        chain: what the device believes.
        model: name.
        number: as desired.
        digest: of the manifest, as desired.
        now: the time, as well as it is known.

    Raises:
        Expired: metadata on the way to it are; wait for newer ones.
        Unavailable: the publisher's metadata are not here yet.
        Denied: the publisher does not stand for it.

    """
    what = f"{model}@{number} {digests.short(digest)}"
    chain.check_current(now)
    asking = Refresh(chain).find(path_of(model, number))
    try:
        want: Want = next(asking)
    except StopIteration as end:
        target = end.value
    else:
        asking.close()
        raise Unavailable(f"{what}: metadata of {want.role} are not here yet")
    role = chain.roles.get(role_of(model))
    if target is None or role is None:
        raise Denied(f"{what} is not among the versions that its publisher signed")
    if target.hashes.get("sha256") != digests.hex_of(digest):
        raise Denied(f"{what}: its publisher signed another manifest under this number")
    check_expiry(role.signed, role_of(model), now)
    if number < floor_of(role.signed):
        raise Denied(f"{what}: its publisher withdrew all versions below {floor_of(role.signed)}")


def roles_for(models: Mapping[str, object] | set[str]) -> set[str]:
    """The roles that a device needs for ``models``."""
    return {role_of(model) for model in models}
