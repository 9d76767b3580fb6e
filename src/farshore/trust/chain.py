"""What a device believes: root → timestamp → snapshot → targets → publishers' roles. An immutable value.

Each ``with_…`` gives the chain after one more document, or says why that is not believed (TUF specification, section 5). Expiry
is asked only where a time is given: a device's own sync adopts what is newer and asks for expiry when it is about to
install, because its clock may be wrong by decades (:mod:`farshore.trust.director` brings the time).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from farshore.core.errors import Corrupt, Denied, FarshoreError
from farshore.trust.metadata import ED25519, Document, Expired, Kinds, T, check_expiry, read, verify

TOP = ("root", "timestamp", "snapshot", "targets")
Roles = Mapping[str, Document[Targets]]


@dataclass(frozen=True, slots=True)
class Chain:
    """See the module.

    Attributes:
        root: trusted.
        timestamp, snapshot, targets: signed by keys of that root; None while not known.
        roles: delegated roles, by name, each signed by keys that its delegator names.
        kinds: key types and schemes that count.

    """

    root: Document[Root]
    timestamp: Document[Timestamp] | None = None
    snapshot: Document[Snapshot] | None = None
    targets: Document[Targets] | None = None
    roles: Roles = field(default_factory=dict)
    kinds: Kinds = ED25519

    @classmethod
    def begin(cls, root: bytes, kinds: Kinds = ED25519) -> Chain:
        """A chain that believes ``root`` because it was pinned; it must still be signed by its own keys.

        Raises:
            Corrupt, Denied: it is no root, or does not vouch for itself.

        """
        document = read(root, Root, "root")
        verify(document.signed, "root", document, kinds)
        return cls(document, kinds=kinds)

    @classmethod
    def load(cls, documents: Mapping[str, bytes], kinds: Kinds = ED25519) -> Chain:
        """The chain that was kept, by role. What is damaged, or no longer signed by a trusted key, is left out and will be asked
        for again.

        Raises:
            Corrupt, Denied: as :meth:`begin`, of the root alone.

        """
        chain = cls.begin(documents["root"], kinds)
        for role in ("timestamp", "snapshot", "targets", *(name for name in documents if name not in TOP)):
            if role in documents:
                try:
                    chain = chain._restored(role, documents[role])  # noqa: SLF001 - its own
                except FarshoreError:
                    continue
        return chain

    def with_root(self, data: bytes) -> Chain:
        """The next root: signed by enough keys of this one and of its own. What its keys no longer sign is dropped: that cures
        a fast-forward by stolen keys.

        Raises:
            Corrupt, Denied: it is not believed.

        """
        new = read(data, Root, "root")
        verify(self.root.signed, "root", new, self.kinds)
        verify(new.signed, "root", new, self.kinds)
        if new.version != self.root.version + 1:
            raise Denied(f"metadata of root: version {new.version} after {self.root.version}")
        return Chain.load({**self.documents(), "root": new.raw}, self.kinds)

    def with_timestamp(self, data: bytes, now: datetime | None = None) -> Chain:
        """A timestamp, if it is not older than the one known; an equal version changes nothing.

        Raises:
            Corrupt, Denied: it is not believed.
            Expired: at ``now``.

        """
        new, old = self._read(data, Timestamp, "timestamp"), self.timestamp
        if old is not None:
            if new.version == old.version:
                return self
            _no_rollback("timestamp", old.version, new.version)
            _no_rollback("snapshot", old.signed.snapshot_meta.version, new.signed.snapshot_meta.version)
        check_expiry(new.signed, "timestamp", now)
        return replace(self, timestamp=new)

    def with_snapshot(self, data: bytes, now: datetime | None = None) -> Chain:
        """The snapshot that the timestamp names; no role in it may be older than before, or missing.

        Raises:
            Corrupt, Denied: it is not believed.
            Expired: at ``now``.

        """
        if self.timestamp is None:
            raise Denied("metadata of snapshot: no timestamp is known")
        meta = self.timestamp.signed.snapshot_meta
        _check_bytes("snapshot", meta, data)
        new = self._read(data, Snapshot, "snapshot")
        if self.snapshot is not None:
            for name, before in self.snapshot.signed.meta.items():
                after = new.signed.meta.get(name)
                if after is None:
                    raise Denied(f"metadata of snapshot: {name} is missing from version {new.version}")
                _no_rollback(name, before.version, after.version)
        _check_version("snapshot", meta, new.version)
        check_expiry(new.signed, "snapshot", now)
        return replace(self, snapshot=new)

    def with_targets(self, data: bytes, now: datetime | None = None) -> Chain:
        """The targets that the snapshot names. Roles that it no longer delegates to, or to other keys, are dropped.

        Raises:
            Corrupt, Denied: it is not believed.
            Expired: at ``now``.

        """
        meta = self.meta("targets")
        _check_bytes("targets", meta, data)
        new = self._read(data, Targets, "targets")
        _check_version("targets", meta, new.version)
        check_expiry(new.signed, "targets", now)
        return replace(self, targets=new, roles=self._still_delegated(new.signed))

    def with_role(self, role: str, data: bytes, delegator: Targets | None = None, now: datetime | None = None) -> Chain:
        """A delegated role's document of the version that the snapshot names.

        Args:
            role: its name.
            data: its bytes.
            delegator: who delegates to it; the top-level targets if None.
            now: see the module.

        Raises:
            Corrupt, Denied: it is not believed.
            Expired: at ``now``.

        """
        if delegator is None:
            if self.targets is None:
                raise Denied(f"metadata of {role}: no targets are known")
            delegator = self.targets.signed
        meta = self.meta(role)
        _check_bytes(role, meta, data)
        new = read(data, Targets, role)
        verify(delegator, role, new, self.kinds)
        _check_version(role, meta, new.version)
        check_expiry(new.signed, role, now)
        return replace(self, roles={**self.roles, role: replace(new, by=delegator)})

    def meta(self, role: str) -> MetaFile:
        """What the snapshot says of a role.

        Raises:
            Denied: nothing.

        """
        found = None if self.snapshot is None else self.snapshot.signed.meta.get(f"{role}.json")
        if found is None:
            raise Denied(f"metadata of {role}: the snapshot does not name it")
        return found

    def documents(self) -> dict[str, bytes]:
        """All that is believed, by role: what is kept, and :meth:`load` reads."""
        top = {"timestamp": self.timestamp, "snapshot": self.snapshot, "targets": self.targets}
        found = {"root": self.root.raw}
        found |= {role: document.raw for role, document in top.items() if document is not None}
        return found | {role: document.raw for role, document in self.roles.items()}

    def held(self) -> dict[str, int]:
        """The versions of all that is believed, by role."""
        top = {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot, "targets": self.targets}
        found = {role: document.version for role, document in top.items() if document is not None}
        return found | {role: document.version for role, document in self.roles.items()}

    def gap(self) -> str | None:
        """The first of the four top roles that is missing, or not of the version named by the one before; None when whole."""
        if self.timestamp is None:
            return "timestamp"
        if self.snapshot is None or self.snapshot.version != self.timestamp.signed.snapshot_meta.version:
            return "snapshot"
        named = self.snapshot.signed.meta.get("targets.json")
        if self.targets is None or named is None or self.targets.version != named.version:
            return "targets"
        return None

    def check_current(self, now: datetime) -> None:
        """Pass if the four top roles are whole and none is expired.

        Raises:
            Denied: one is missing.
            Expired: one is; the message names it.

        """
        gap = self.gap()
        if gap is not None:
            raise Denied(f"metadata of {gap} is missing")
        for role, document in zip(TOP, (self.root, self.timestamp, self.snapshot, self.targets), strict=True):
            assert document is not None
            check_expiry(document.signed, role, now)

    def without_roles(self, unneeded: set[str]) -> Chain:
        """The chain without some delegated roles."""
        return replace(self, roles={name: one for name, one in self.roles.items() if name not in unneeded})

    def _read(self, data: bytes, kind: type[T], role: str) -> Document[T]:
        document = read(data, kind, role)
        verify(self.root.signed, role, document, self.kinds)
        return document

    def _restored(self, role: str, data: bytes) -> Chain:
        """With a document from the disk, which was believed once: signatures are checked, order is not."""
        match role:
            case "timestamp":
                return replace(self, timestamp=self._read(data, Timestamp, role))
            case "snapshot":
                return replace(self, snapshot=self._read(data, Snapshot, role))
            case "targets":
                return replace(self, targets=self._read(data, Targets, role))
        if self.targets is None:
            return self
        document = read(data, Targets, role)
        verify(self.targets.signed, role, document, self.kinds)
        return replace(self, roles={**self.roles, role: replace(document, by=self.targets.signed)})

    def _still_delegated(self, targets: Targets) -> Roles:
        kept = {}
        for name, document in self.roles.items():
            try:
                verify(targets, name, document, self.kinds)
            except Denied:
                continue
            kept[name] = replace(document, by=targets)
        return kept


def _no_rollback(role: str, old: int, new: int) -> None:
    if new < old:
        raise Denied(f"metadata of {role}: version {new} after {old} would be a way back")


def _check_version(role: str, meta: MetaFile, version: int) -> None:
    if version != meta.version:
        raise Denied(f"metadata of {role}: version {version}, the one named is {meta.version}")


def _check_bytes(role: str, meta: MetaFile, data: bytes) -> None:
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise Corrupt(f"metadata of {role}: other bytes than were named ({error})") from error


__all__ = ["TOP", "Chain", "Expired"]
