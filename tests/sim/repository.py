"""A hub's signed metadata in memory, with every key at hand, so that tests can play each holder, and each thief."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.trust import SigningKey
from farshore.trust import director, repository
from farshore.trust.chain import Chain
from farshore.trust.director import Order
from farshore.trust.refresh import Refresh
from farshore.trust.releases import Release, role_of
from farshore.trust.repository import Holders

NOW = 1_800_000_000.0


def key(name: str) -> SigningKey:
    """A key that is the same each time."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


ROOTS = [key("root 1"), key("root 2"), key("root 3")]
TARGETS, SNAPSHOT, TIMESTAMP, DIRECTOR = key("targets"), key("snapshot"), key("timestamp"), key("director")
PUBLISHER = key("publisher")


@dataclass
class Repository:
    """Keys and documents; ``documents`` are what a hub would hand out, ``roots`` the whole line of roots.

    Whatever is changed here is signed with the keys that stand here at that moment.
    """

    now: float = NOW
    roots: list[bytes] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    releases: dict[str, dict[int, Release]] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    root_keys: list[SigningKey] = field(default_factory=lambda: list(ROOTS))
    targets_key: SigningKey = TARGETS
    snapshot_key: SigningKey = SNAPSHOT
    timestamp_key: SigningKey = TIMESTAMP
    director_key: SigningKey = DIRECTOR
    publishers: dict[str, SigningKey] = field(default_factory=dict)
    signed: float = 0.0

    def __deepcopy__(self, _memo: object) -> Repository:
        return replace(
            self, roots=list(self.roots), documents=dict(self.documents), versions=dict(self.versions),
            releases={model: dict(known) for model, known in self.releases.items()}, floors=dict(self.floors),
            root_keys=list(self.root_keys), publishers=dict(self.publishers),
        )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.roots:
            self.new_root()
            self.new_targets()
            self.new_snapshot()

    def new_root(self, *also: SigningKey, version: int | None = None) -> bytes:
        """Sign the next root with all root keys, and with ``also``."""
        number = version or len(self.roots) + 1
        holders = {
            "root": Holders(tuple(one.public for one in self.root_keys), min(2, len(self.root_keys))),
            "targets": Holders((self.targets_key.public,)),
            "snapshot": Holders((self.snapshot_key.public,)),
            "timestamp": Holders((self.timestamp_key.public,)),
        }
        data = repository.sign(repository.root(holders, number, self.now), [*self.root_keys, *also])
        self.roots.append(data)
        self.documents["root"] = data
        return data

    def new_targets(self) -> bytes:
        publishers = {model: Holders((one.public,)) for model, one in self.publishers.items()}
        signed = repository.targets(Holders((self.director_key.public,)), publishers, self._next("targets"), self.now)
        self.documents["targets"] = repository.sign(signed, [self.targets_key])
        return self.documents["targets"]

    def new_role(self, model: str) -> bytes:
        role = role_of(model)
        signed = repository.role(
            model, self.releases.get(model, {}), self.floors.get(model, 1), self._next(role), self.now
        )
        self.documents[role] = repository.sign(signed, [self.publishers[model]])
        return self.documents[role]

    def new_snapshot(self) -> bytes:
        versions = {name: number for name, number in self.versions.items() if name not in ("snapshot", "timestamp")}
        signed = repository.snapshot(versions, self._online("snapshot"), self.now)
        self.documents["snapshot"] = repository.sign(signed, [self.snapshot_key])
        self.new_timestamp()
        return self.documents["snapshot"]

    def new_timestamp(self) -> bytes:
        signed = repository.timestamp(self.versions["snapshot"], self._online("timestamp"), self.now)
        self.documents["timestamp"] = repository.sign(signed, [self.timestamp_key])
        self.signed = self.now
        return self.documents["timestamp"]

    def publish(self, model: str, number: int, manifest: bytes) -> Digest:
        """A version more; the first makes the model."""
        digest = digests.of(manifest)
        if model not in self.publishers:
            self.publishers[model] = PUBLISHER
            self.new_targets()
        self.releases.setdefault(model, {})[number] = Release(digest, len(manifest))
        self.new_role(model)
        self.new_snapshot()
        return digest

    def order(self, device: str, desired: dict, nonce: str = "", *, seq: int | None = None, **other) -> bytes:
        """The director's order; ``other`` members are put in place of the true ones."""
        number = desired.get("$version", 0) if seq is None else seq
        members = {
            "device": device, "seq": number, "nonce": nonce, "issued": int(self.now),
            "expires": int(self.now) + director.LIFE, "desired": director.digest_of(desired),
        }  # fmt: skip
        return director.seal(Order(**{**members, **other}), self.director_key)

    def refresh(self, chain: Chain | None = None, now=None, models: tuple[str, ...] = ()) -> Chain:
        """What a device that trusts the first root believes after it was given all that is here."""
        once = Refresh(chain or Chain.begin(self.roots[0]), now)
        self.drive(once.top())
        for model in models:
            self.drive(once.find(f"{model}/1"))
        return once.chain

    def drive(self, asking):
        """Answer a workflow from what is here; its result."""
        answer = None
        try:
            while True:
                want = asking.send(answer)
                answer = self.answer(want)
        except StopIteration as end:
            return end.value

    def answer(self, want):
        if want.role == "root":
            return self.roots[want.version - 1] if want.version <= len(self.roots) else None
        return self.documents.get(want.role)

    def _next(self, role: str) -> int:
        self.versions[role] = self.versions.get(role, 0) + 1
        return self.versions[role]

    def _online(self, role: str) -> int:
        self.versions[role] = repository.next_version(self.versions.get(role, 0), self.now)
        return self.versions[role]
