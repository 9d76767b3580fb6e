"""The client's workflow of TUF (specification, section 5.3 to 5.6) without a network: it asks for bytes and is given them.

A shell drives the generators: each :class:`Want` is answered with bytes, or None when there is nothing newer. A device
answers from the reply to its sync; the conformance tests' client over HTTP. What was believed stands in ``chain`` at any
moment, also after a refusal: it may be kept.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import MetaFile, TargetFile, Targets

from farshore.core.errors import Denied, FarshoreError
from farshore.trust.chain import Chain
from farshore.trust.metadata import Document, check_expiry, limit_of

MAX_ROOTS = 256
MAX_ROLES = 32
"""Roles looked into for one target: python-tuf's limit."""


@dataclass(frozen=True, slots=True)
class Want:
    """Metadata asked for.

    Attributes:
        role: whose.
        version: which; None for the newest.
        limit: bytes that may be read.

    """

    role: str
    version: int | None
    limit: int


Asking = Generator[Want, bytes | None, None]


class Refresh:
    """One round.

    Args:
        chain: to begin with.
        now: for expiry; None leaves that question to later.
        kept: bytes of delegated roles that may be right, by name; they are checked like all others.

    Attributes:
        chain: what is believed so far.

    """

    def __init__(self, chain: Chain, now: datetime | None = None, kept: Mapping[str, bytes] | None = None) -> None:
        self.chain = chain
        self._now = now
        self._kept = {name: document.raw for name, document in chain.roles.items()} | dict(kept or {})

    def top(self) -> Asking:
        """Root, timestamp, snapshot, targets.

        Raises:
            Corrupt, Denied, Expired: something offered is not believed.

        """
        yield from self._root()
        data = yield Want("timestamp", None, limit_of("timestamp"))
        if data is not None:
            self.chain = self.chain.with_timestamp(data, self._now)
        if self.chain.timestamp is None:
            raise Denied("metadata of timestamp: none came")
        check_expiry(self.chain.timestamp.signed, "timestamp", self._now)
        meta = self.chain.timestamp.signed.snapshot_meta
        if self.chain.snapshot is None or self.chain.snapshot.version != meta.version:
            self.chain = self.chain.with_snapshot((yield from _needed("snapshot", meta)), self._now)
        assert self.chain.snapshot is not None
        check_expiry(self.chain.snapshot.signed, "snapshot", self._now)
        meta = self.chain.meta("targets")
        if not _is_named(meta, self.chain.targets):
            self.chain = self.chain.with_targets((yield from _needed("targets", meta)), self._now)
        assert self.chain.targets is not None
        check_expiry(self.chain.targets.signed, "targets", self._now)

    def find(self, path: str) -> Generator[Want, bytes | None, TargetFile | None]:
        """What a target path stands for: a walk over the delegations, the first that knows it wins.

        Raises:
            Corrupt, Denied, Expired: a role on the way is not believed.

        """
        assert self.chain.targets is not None
        ahead: list[tuple[str, Targets]] = [("targets", self.chain.targets.signed)]
        visited: set[str] = set()
        while ahead and len(visited) <= MAX_ROLES:
            name, delegator = ahead.pop()
            if name in visited:
                continue
            signed = delegator if name == "targets" else (yield from self._role(name, delegator))
            if path in signed.targets:
                return signed.targets[path]
            visited.add(name)
            below: list[tuple[str, Targets]] = []
            if signed.delegations is not None:
                for child, terminating in signed.delegations.get_roles_for_target(path):
                    below.append((child, signed))
                    if terminating:
                        ahead = []
                        break
            ahead += reversed(below)
        return None

    def _root(self) -> Asking:
        for _ in range(MAX_ROOTS):
            data = yield Want("root", self.chain.root.version + 1, limit_of("root"))
            if data is None:
                break
            self.chain = self.chain.with_root(data)
        check_expiry(self.chain.root.signed, "root", self._now)

    def _role(self, name: str, delegator: Targets) -> Generator[Want, bytes | None, Targets]:
        known = self.chain.roles.get(name)
        if known is not None and known.by is delegator and known.version == self.chain.meta(name).version:
            check_expiry(known.signed, name, self._now)
            return known.signed
        if name in self._kept:
            try:
                self.chain = self.chain.with_role(name, self._kept[name], delegator, self._now)
                return self.chain.roles[name].signed
            except FarshoreError:
                pass  # older than what the snapshot names, or another delegator's: asked for anew
        data = yield from _needed(name, self.chain.meta(name))
        self.chain = self.chain.with_role(name, data, delegator, self._now)
        self._kept[name] = data
        return self.chain.roles[name].signed


def _needed(role: str, meta: MetaFile) -> Generator[Want, bytes | None, bytes]:
    data = yield Want(role, meta.version, meta.length if meta.length is not None else limit_of(role))
    if data is None:
        raise Denied(f"metadata of {role}: version {meta.version} is named and did not come")
    return data


def _is_named(meta: MetaFile, document: Document[Targets] | None) -> bool:
    if document is None or document.version != meta.version:
        return False
    try:
        meta.verify_length_and_hashes(document.raw)
    except LengthOrHashMismatchError:
        return False
    return True
