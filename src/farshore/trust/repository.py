"""Making and signing metadata: for the hub, for ``farshore keys``, and for the simulated hub of the tests.

Times are seconds since 1970. Lives are what ``docs/security.md`` promises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

from securesystemslib.signer import Key, Signature
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from farshore.core import digest as digests
from farshore.core.errors import Invalid
from farshore.core.trust import PublicKey, SigningKey
from farshore.trust import director
from farshore.trust.chain import TOP
from farshore.trust.metadata import moment, tuf_key
from farshore.trust.releases import FLOOR, Release, path_of, role_of

S = TypeVar("S", bound=Signed)

DAY = 86400
LIVES = {"root": 730 * DAY, "targets": 365 * DAY, "snapshot": 7 * DAY, "timestamp": 7 * DAY}
ROLE_LIFE = 365 * DAY
RENEWED = DAY
"""Age at which the hub signs snapshot and timestamp anew. A nonce proves freshness to who is online; this is for who is not."""


@dataclass(frozen=True, slots=True)
class Holders:
    """Whose signatures make a role: public keys, and how many of them must sign."""

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.keys):
            raise Invalid(f"a threshold of {self.threshold} cannot be met by {len(self.keys)} keys")


def sign(signed: Root | Timestamp | Snapshot | Targets, keys: Iterable[SigningKey]) -> bytes:
    """The document with signatures of all ``keys``, in compact JSON."""
    return cosign(Metadata[Any](signed).to_bytes(), keys)


def cosign(data: bytes, keys: Iterable[SigningKey]) -> bytes:
    """A document with further signatures."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    for key in keys:
        metadata.signatures[key.public.id] = Signature(key.public.id, key.sign(metadata.signed_bytes).hex())
    return metadata.to_bytes()


def root(holders: Mapping[str, Holders], version: int, now: float) -> Root:
    """A root that names the holders of the four top roles.

    Args:
        holders: by role: root, timestamp, snapshot, targets.
        version: its number.
        now: the time.

    """
    keys: dict[str, Key] = {key.id: tuf_key(key) for one in holders.values() for key in one.keys}
    roles = {role: Role([key.id for key in holders[role].keys], holders[role].threshold) for role in TOP}
    return Root(version=version, expires=moment(now + LIVES["root"]), keys=keys, roles=roles)


def targets(directors: Holders, publishers: Mapping[str, Holders], version: int, now: float) -> Targets:
    """The top-level targets: it lists nothing itself, and says who directs and who publishes which model.

    Args:
        directors: whose orders devices obey.
        publishers: by model.
        version: its number.
        now: the time.

    """
    every: list[tuple[str, list[str], Holders]] = [(director.ROLE, [], directors)]
    every += [(role_of(model), [f"{model}/*"], holders) for model, holders in sorted(publishers.items())]
    keys: dict[str, Key] = {key.id: tuf_key(key) for _, _, holders in every for key in holders.keys}
    roles = {
        name: DelegatedRole(name, [key.id for key in holders.keys], holders.threshold, terminating=True, paths=paths)
        for name, paths, holders in every
    }
    return Targets(version=version, expires=moment(now + LIVES["targets"]), delegations=Delegations(keys, roles))


def role(model: str, releases: Mapping[int, Release], floor: int, version: int, now: float) -> Targets:
    """A publisher's role: the versions it stands for.

    Args:
        model: name.
        releases: by number.
        floor: lowest number that may be installed.
        version: of this document.
        now: the time.

    """
    files = {
        path_of(model, number): TargetFile(one.size, {"sha256": digests.hex_of(one.digest)}, path_of(model, number))
        for number, one in releases.items()
    }
    extra = {FLOOR: floor} if floor > 1 else {}
    return Targets(version=version, expires=moment(now + ROLE_LIFE), targets=files, unrecognized_fields=extra)


def snapshot(versions: Mapping[str, int], version: int, now: float) -> Snapshot:
    """A snapshot of the versions of targets and of all publishers' roles, by role name."""
    meta = {f"{name}.json": MetaFile(number) for name, number in versions.items()}
    return Snapshot(version=version, expires=moment(now + LIVES["snapshot"]), meta=meta)


def timestamp(snapshot_version: int, version: int, now: float) -> Timestamp:
    """The timestamp that makes a snapshot the present one."""
    return Timestamp(
        version=version, expires=moment(now + LIVES["timestamp"]), snapshot_meta=MetaFile(snapshot_version)
    )


def next_version(before: int, now: float) -> int:
    """The number of the hub's next snapshot or timestamp: seconds since 1970, or one more than the last.

    So a hub that was restored from a backup goes on above what devices have seen, not below.
    """
    return max(before + 1, int(now))


def holders_of(delegator: Root | Targets, role_name: str) -> Holders:
    """The holders of a role, out of metadata.

    Raises:
        Invalid: no such role.

    """
    try:
        found = delegator.get_delegated_role(role_name)
        keys = [delegator.get_key(keyid) for keyid in found.keyids]
    except ValueError as error:
        raise Invalid(f"no role {role_name!r}") from error
    return Holders(tuple(PublicKey(bytes.fromhex(key.keyval["public"])) for key in keys), found.threshold)


def publishers_of(signed: Targets) -> dict[str, Holders]:
    """Publishers by model, out of the top-level targets."""
    roles = (signed.delegations.roles or {}) if signed.delegations is not None else {}
    prefix = role_of("")
    return {name.removeprefix(prefix): holders_of(signed, name) for name in roles if name.startswith(prefix)}


def renewed(signed: S, life: float, now: float) -> S:
    """The same once more: next number, life from ``now``."""
    again = deepcopy(signed)
    again.version += 1
    again.expires = moment(now + life)
    return again


def version_of(data: bytes) -> int:
    """The version that a document says it has; nothing is verified."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    return int(metadata.signed.version)


def same_payload(one: bytes, other: bytes) -> bool:
    """Whether two documents say the same, whoever signed them. False where one cannot be read."""
    try:
        first, second = Metadata[Any].from_bytes(one), Metadata[Any].from_bytes(other)
    except DeserializationError:
        return False
    return first.signed_bytes == second.signed_bytes
