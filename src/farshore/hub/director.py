"""The hub's part of trust: it keeps all signed metadata, signs what is online, and orders each device.

Root, targets and publishers' keys are elsewhere (``farshore keys``), unless this hub is a *development* one: without keys given
to it, it makes a ring of its own, so that trying Farshore needs no ceremony. Documents are kept in the database, written in
the transaction that makes them true.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Raw
from sqlalchemy import Connection
from tuf.api.metadata import Root, Snapshot, Targets

from farshore.core import wire
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, FarshoreError, Invalid, NotFound
from farshore.core.trust import PublicKey, SigningKey
from farshore.core.wire import News
from farshore.hub import moments
from farshore.hub.database import Database
from farshore.hub.records import changes, deployments, devices, metadata, models
from farshore.hub.records.models import Version
from farshore.store import files, keys
from farshore.trust import director, repository
from farshore.trust.chain import TOP, Chain
from farshore.trust.director import Order
from farshore.trust.metadata import moment, read
from farshore.trust.releases import Release, floor_of, listed, role_of
from farshore.trust.repository import Holders, cosign, holders_of, publishers_of, renewed, sign

log = logging.getLogger(__name__)

ONLINE = ("timestamp", "snapshot", director.ROLE)
OFFLINE = ("root", "targets", "publisher")
_SIGNED = "farshore_signed"
LISTED = 6
"""Newest versions of a model that its role lists, besides those in use: a role is fetched anew at every push."""


@dataclass(frozen=True, slots=True)
class State:
    """All documents at one moment: the line of roots, and the chain that they make."""

    roots: tuple[bytes, ...]
    chain: Chain

    @property
    def targets(self) -> Targets:
        assert self.chain.targets is not None
        return self.chain.targets.signed


class Director:
    """Keeper of the metadata.

    Args:
        database: open.
        folder: of the hub's own keys; made when missing.
        clock: tells the time.

    Raises:
        Invalid: keys are missing that devices believe.

    """

    _state: State

    def __init__(self, database: Database, folder: Path, clock: moments.Clock) -> None:
        self._database, self._clock = database, clock
        self._folder, self._ring = folder, folder / "development"
        files.make_folder(folder, mode=0o700)
        files.sweep(folder)
        with database.writing() as tx:
            if not metadata.every(tx)[0]:
                self._begin(tx)
        self._lock = threading.Lock()
        self.changed()
        self._keys = self._online_keys(self._state.chain.root.signed, self._state.targets)
        self._settle_keys()
        if self.development and self._ring_key("targets").public not in self._holders("targets"):
            files.remove_tree(self._ring)  # the hub was taken over, and cut off before it forgot these
        self.renew()

    @property
    def development(self) -> bool:
        """Whether this hub holds the keys of root, targets and publishers itself."""
        return self._ring.exists()

    @property
    def online(self) -> dict[str, str]:
        """The hub's own public keys, by role: the next ones, where they are made and not yet in use."""
        found = {}
        for role, key in self._keys.items():
            path = self._next(role)
            found[role] = str((keys.read(path) if path.exists() else key).public)
        return found

    def prepare(self) -> None:
        """Make the hub's next keys. They are used from the moment on that a root and targets name them."""
        for role in ONLINE:
            if not self._next(role).exists():
                keys.write(self._next(role), SigningKey(secrets.token_bytes(32)))

    def state(self) -> State:
        """All documents."""
        return self._state

    def changed(self) -> None:
        """To be called when a transaction that wrote documents has been committed."""
        with self._lock, self._database.reading() as tx:
            self._state = _state(tx)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of the database in which versions may be settled."""
        with self._database.writing() as tx:
            tx.info.pop(_SIGNED, None)
            yield tx
            signed = tx.info.pop(_SIGNED, False)
        if signed:
            self.changed()

    # -- for devices -----------------------------------------------------------------------------------------------

    def roots(self) -> tuple[bytes, ...]:
        """All roots, first to last."""
        return self.state().roots

    def news(self, device: str, nonce: str, held: Mapping[str, int], desired: dict[str, Any]) -> News:
        """The answer to a device's question: its order, and the metadata that it lacks.

        Args:
            device: its id.
            nonce: its question.
            held: versions of what it has, by role.
            desired: its whole desired section, with ``$version``.

        """
        state, now = self.state(), int(self._clock())
        order = Order(device, desired["$version"], nonce, now, now + director.LIFE, director.digest_of(desired))
        wanted = {"timestamp", "snapshot", "targets"} | {role_of(name) for name in _names(desired)}
        documents, versions = state.chain.documents(), state.chain.held()
        lacking = {
            role: Raw(documents[role]) for role in wanted if role in documents and held.get(role) != versions[role]
        }
        roots = tuple(Raw(body) for body in state.roots[max(held.get("root", 0), 0) :])
        return News(Raw(director.seal(order, self._keys[director.ROLE])), roots, lacking)

    # -- for publishers --------------------------------------------------------------------------------------------

    def draft(self, tx: Connection, model: str, added: Mapping[int, Release]) -> bytes:
        """The role of a model's publisher, unsigned, as it would be with further versions.

        It lists the newest versions, and those in use: that an alias or a deployment names, or a device has or should have.

        Args:
            tx: open.
            model: name.
            added: versions that are to be in it.

        """
        used = set(models.all_aliases(tx, [model]).get(model, {}).values())
        used |= deployments.numbers(tx, model) | devices.held_numbers(tx, model)
        before, there = _role(tx, model), models.manifests(tx, model)
        known = {} if before is None else listed(before, model)
        every = {number: one for number, one in known.items() if number in there} | dict(added)
        kept = set(sorted(every)[-LISTED:]) | used | set(added)
        floor = 1 if before is None else floor_of(before)
        releases = {number: one for number, one in every.items() if number in kept and number >= floor}
        version = 1 if before is None else before.version + 1
        return sign(repository.role(model, releases, floor, version, self._clock()), [])

    def sign_role(self, tx: Connection, model: str, draft: bytes) -> bytes:
        """Sign a role in the publisher's stead; the first time, delegate the model to that key.

        Raises:
            Conflict: this is no development hub.

        """
        if not self.development:
            raise Conflict(f"a publisher's signature is needed for {model}")
        publisher = self._ring_key("publisher")
        targets = read(metadata.one(tx, "targets") or b"", Targets, "targets").signed
        publishers = publishers_of(targets)
        if model not in publishers:
            publishers[model] = Holders((publisher.public,))
            new = repository.targets(holders_of(targets, director.ROLE), publishers, targets.version + 1, self._clock())
            body = sign(new, [self._ring_key("targets")])
            metadata.put(tx, "targets", new.version, body)
        return cosign(draft, [publisher])

    def publish(self, tx: Connection, model: str, body: bytes) -> Targets:
        """Take a signed role; snapshot and timestamp name it from now on. Call :meth:`changed` after the commit.

        Returns:
            what it says.

        Raises:
            Denied: not signed by enough keys of the model's publisher.
            Conflict: it is not the next one.
            Corrupt: it cannot be read.

        """
        _, documents = metadata.every(tx)
        role, targets = role_of(model), read(documents["targets"], Targets, "targets").signed
        if model not in publishers_of(targets):
            raise Denied(f"nobody may publish {model!r} yet: the holder of the targets key runs `farshore keys allow`")
        document = read(body, Targets, role)
        if document.version != _version(documents.get(role)) + 1:
            raise Conflict(f"{model}: another version was published meanwhile; push again")
        metadata.put(tx, role, document.version, body)
        self._sign_online(tx)
        return document.signed

    def settle(self, tx: Connection, version: Version) -> None:
        """See to it that devices will take a version when they are told to.

        Args:
            tx: of :meth:`writing`.
            version: that a deployment, a rollout or an operator's hand is about to name.

        Raises:
            Conflict: its publisher does not stand for it any more.

        """
        role, ref = _role(tx, version.model), f"{version.model}@{version.number}"
        if role is not None and version.number < floor_of(role):
            raise Conflict(f"{ref}: its publisher withdrew all versions below {floor_of(role)}")
        if role is not None and version.number in listed(role, version.model):
            return
        if not self.development:
            raise Conflict(
                f"{ref} is too old for its publisher to stand for it still: push its files once more, then deploy it"
            )
        draft = self.draft(tx, version.model, {version.number: _release(tx, version)})
        self.publish(tx, version.model, self.sign_role(tx, version.model, draft))
        tx.info[_SIGNED] = True

    def lists(self, tx: Connection, version: Version) -> bool:
        """Whether the publisher stands for a version now."""
        role = _role(tx, version.model)
        return role is not None and version.number in listed(role, version.model)

    # -- for the holders of offline keys ---------------------------------------------------------------------------

    def adopt(self, root: bytes | None, documents: Mapping[str, bytes]) -> None:
        """Take documents that were signed elsewhere: the next root, targets, publishers' roles, all or none.

        In a development hub a new root ends that state: the hub signs it with its own root key as well, so that devices which
        know that one follow, and deletes the ring.

        Args:
            root: the next root.
            documents: by role.

        Raises:
            Denied, Corrupt, Conflict: devices would not believe it.
            Invalid: it leaves out a key of this hub.

        """
        ends = root is not None and self.development
        with self._database.writing() as tx:
            if root is not None:
                body = cosign(root, [self._ring_key("root")]) if ends else root
                metadata.put(tx, "root", len(self.state().roots) + 1, body)
            for role, body in sorted(documents.items(), key=lambda item: item[0] != "targets"):
                if role in ("root", "snapshot", "timestamp"):
                    raise Invalid(f"{role} is not taken here")
                metadata.put(tx, role, read(body, Targets, role).version, body)
            self._keys = self._named_keys(tx)
            self._sign_online(tx)
            changes.add(
                tx, "trust.changed", ", ".join([*(["root"] if root else []), *sorted(documents)]), self._clock()
            )
        self.changed()
        self._settle_keys()
        if ends:
            files.remove_tree(self._ring)

    def renew(self) -> None:
        """Sign snapshot and timestamp anew when it is time; a development hub also what would expire within half its life."""
        chain, now = self.state().chain, self._clock()
        assert chain.timestamp is not None
        if self.development:
            self._renew_offline(chain)
        due = moment(now + repository.LIVES["timestamp"] - repository.RENEWED)
        if chain.timestamp.signed.expires <= due or chain.snapshot is None or chain.snapshot.signed.expires <= due:
            with self._database.writing() as tx:
                self._sign_online(tx)
            self.changed()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _begin(self, tx: Connection) -> None:
        """The first start: own keys, and a development ring."""
        files.make_folder(self._ring, mode=0o700)
        for path in (
            *(self._folder / f"{role}.key" for role in ONLINE),
            *(self._ring / f"{role}.key" for role in OFFLINE),
        ):
            if not path.exists():
                keys.write(path, SigningKey(secrets.token_bytes(32)))
        now = self._clock()
        holders = {role: Holders((self._key(self._folder / f"{role}.key").public,)) for role in ONLINE}
        holders |= {role: Holders((self._ring_key(role).public,)) for role in OFFLINE}
        first = repository.root({role: holders[role] for role in TOP}, 1, now)
        metadata.put(tx, "root", 1, sign(first, [self._ring_key("root")]))
        names = [one.name for one in models.all_models(tx, "", 1 << 30)]
        publishers = dict.fromkeys(names, holders["publisher"])
        targets = repository.targets(holders[director.ROLE], publishers, 1, now)
        metadata.put(tx, "targets", 1, sign(targets, [self._ring_key("targets")]))
        for name in names:
            releases = {
                number: Release(Digest(digest), size) for number, (digest, size) in models.manifests(tx, name).items()
            }
            role = sign(repository.role(name, releases, 1, 1, now), [self._ring_key("publisher")])
            metadata.put(tx, role_of(name), 1, role)
        self._keys = {role: self._key(self._folder / f"{role}.key") for role in ONLINE}
        self._sign_online(tx)

    def _sign_online(self, tx: Connection) -> None:
        """Snapshot and timestamp of what the transaction has written; checked as a device would check it."""
        _, documents = metadata.every(tx)
        now = self._clock()
        versions = {
            role: read(body, Targets, role).version
            for role, body in documents.items()
            if role not in ("snapshot", "timestamp")
        }
        if "snapshot" in documents:  # a role that was named once is named for ever: devices take less for an attack
            before = read(documents["snapshot"], Snapshot, "snapshot")
            versions = {
                name.removesuffix(".json"): meta.version for name, meta in before.signed.meta.items()
            } | versions
        snapshot = repository.snapshot(versions, repository.next_version(_version(documents.get("snapshot")), now), now)
        number = repository.next_version(_version(documents.get("timestamp")), now)
        timestamp = repository.timestamp(snapshot.version, number, now)
        metadata.put(tx, "snapshot", snapshot.version, sign(snapshot, [self._keys["snapshot"]]))
        metadata.put(tx, "timestamp", timestamp.version, sign(timestamp, [self._keys["timestamp"]]))
        _state(tx)  # raises if it is not as devices will believe

    def _renew_offline(self, chain: Chain) -> None:
        now, half = self._clock(), {"root": repository.LIVES["root"] / 2, "targets": repository.LIVES["targets"] / 2}
        new: dict[str, bytes] = {}
        assert chain.targets is not None
        if chain.targets.signed.expires <= moment(now + half["targets"]):
            again = renewed(chain.targets.signed, repository.LIVES["targets"], now)
            new["targets"] = sign(again, [self._ring_key("targets")])
        for role, document in chain.roles.items():
            if document.signed.expires <= moment(now + repository.ROLE_LIFE / 2):
                new[role] = sign(renewed(document.signed, repository.ROLE_LIFE, now), [self._ring_key("publisher")])
        root = None
        if chain.root.signed.expires <= moment(now + half["root"]):
            root = sign(renewed(chain.root.signed, repository.LIVES["root"], now), [self._ring_key("root")])
        if new or root:
            with self._database.writing() as tx:
                if root is not None:
                    metadata.put(tx, "root", chain.root.version + 1, root)
                for role, body in new.items():
                    metadata.put(tx, role, _version(body), body)
                self._sign_online(tx)
            self.changed()

    def _named_keys(self, tx: Connection) -> dict[str, SigningKey]:
        """The hub's keys that root and targets name, as the transaction has them."""
        roots, documents = metadata.every(tx)
        chain = Chain.begin(roots[0])
        for body in roots[1:]:
            chain = chain.with_root(body)
        return self._online_keys(chain.root.signed, read(documents["targets"], Targets, "targets").signed)

    def _online_keys(self, root: Root, targets: Targets) -> dict[str, SigningKey]:
        found = {}
        for role in ONLINE:
            holders = holders_of(targets if role == director.ROLE else root, role)
            wanted = {key.id for key in holders.keys}
            candidates = [self._key(self._folder / f"{role}.key")]
            candidates += [keys.read(self._next(role))] if self._next(role).exists() else []
            fitting = [key for key in candidates if key.public.id in wanted]
            if not fitting:
                raise Invalid(
                    f"the {role} key of this hub, {candidates[-1].public}, is not among those that are named for it"
                )
            found[role] = fitting[0]
        return found

    def _holders(self, role: str) -> list[PublicKey]:
        return list(holders_of(self._state.chain.root.signed, role).keys)

    def _settle_keys(self) -> None:
        """Give the next keys, once they are in use, the names of those before them."""
        for role, key in self._keys.items():
            if self._next(role).exists() and keys.read(self._next(role)).public.id == key.public.id:
                keys.write(self._folder / f"{role}.key", key)
                files.remove(self._next(role))

    def _next(self, role: str) -> Path:
        return self._folder / f"{role}.next.key"

    def _key(self, path: Path) -> SigningKey:
        try:
            return keys.read(path)
        except NotFound:
            raise Invalid(f"{path} is missing, and devices believe no other key: restore it from a backup") from None

    def _ring_key(self, role: str) -> SigningKey:
        return self._key(self._ring / f"{role}.key")


def _state(tx: Connection) -> State:
    """Everything that is written down, as a device that trusts the first root comes to believe it."""
    roots, documents = metadata.every(tx)
    chain = Chain.begin(roots[0])
    for body in roots[1:]:
        chain = chain.with_root(body)
    chain = chain.with_timestamp(documents["timestamp"])
    chain = chain.with_snapshot(documents["snapshot"]).with_targets(documents["targets"])
    for role, body in documents.items():
        if role not in TOP:
            chain = chain.with_role(role, body)
    return State(tuple(roots), chain)


def _role(tx: Connection, model: str) -> Targets | None:
    """What the model's publisher says, as the transaction has it; it was verified when it was written."""
    body = metadata.one(tx, role_of(model))
    return None if body is None else read(body, Targets, role_of(model)).signed


def _release(tx: Connection, version: Version) -> Release:
    return Release(Digest(version.digest), models.manifests(tx, version.model)[version.number][1])


def _version(body: bytes | None) -> int:
    return 0 if body is None else repository.version_of(body)


def _names(desired: dict[str, Any]) -> list[str]:
    try:
        return list(wire.desired_models(desired))
    except FarshoreError:
        return []
