"""What holders of offline keys do: take a hub over from its development keys, change keys, renew, allow, withdraw.

Each ceremony reads what the hub has, checks it as a device would from the ring's own root on, makes the new documents, and gives
them to the hub in one piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tuf.api.metadata import Targets

from farshore.client.drafts import Draft, Published
from farshore.client.hub import Hub
from farshore.client.ring import Ring, publics_of
from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.core.trust import PublicKey, SigningKey
from farshore.trust import director, repository
from farshore.trust.chain import TOP, Chain
from farshore.trust.metadata import read
from farshore.trust.releases import FLOOR, Release, listed, role_of
from farshore.trust.repository import Holders, holders_of, publishers_of, renewed, sign

ROTATES = ("root", "targets", "publisher", "hub")
Clock = Callable[[], float]


@dataclass
class Change:
    """New documents on their way to the hub.

    Attributes:
        root: the next root; None if it stays.
        documents: by role.

    """

    root: bytes | None = None
    documents: dict[str, bytes] = field(default_factory=dict)


class Ceremony:
    """One ring and one hub.

    Args:
        ring: the offline keys.
        hub: where the documents are.
        clock: tells the time.

    """

    def __init__(self, ring: Ring, hub: Hub, clock: Clock = time.time) -> None:
        self._ring, self._hub, self._now = ring, hub, clock()

    def begin(self, roots: int, threshold: int, passphrase: bytes | None) -> Chain:
        """Make keys, and take the hub over from its development keys.

        Args:
            roots: how many root keys.
            threshold: how many of them must sign together.
            passphrase: seals every file; None for none.

        Raises:
            Conflict: the hub has offline keys already.

        """
        known = self._known(pinned=False)
        if not known[0].development:
            raise Conflict("this hub's keys are in somebody's ring already: use that ring")
        published, chain = known
        if not 1 <= threshold <= roots <= 16:
            raise Invalid(f"{threshold} of {roots} root keys: use 1 to 16 keys, and no more signatures than keys")
        root_keys = [self._ring.add(f"root-{number}", passphrase) for number in range(1, roots + 1)]
        targets_key, publisher = (self._ring.add(name, passphrase) for name in ("targets", "publisher"))
        online = {role: Holders((PublicKey.parse(text),)) for role, text in published.online.items()}
        holders = {
            "root": Holders(publics_of(root_keys), threshold), "targets": Holders((targets_key.public,)),
            "snapshot": online["snapshot"], "timestamp": online["timestamp"],
        }  # fmt: skip
        change = Change(sign(repository.root(holders, chain.root.version + 1, self._now), root_keys))
        names = publishers_of(_targets(chain))
        targets = repository.targets(
            online[director.ROLE], dict.fromkeys(names, Holders((publisher.public,))), _targets(chain).version + 1,
            self._now,
        )  # fmt: skip
        change.documents["targets"] = sign(targets, [targets_key])
        for name in names:
            again = renewed(chain.roles[role_of(name)].signed, repository.ROLE_LIFE, self._now)
            change.documents[role_of(name)] = sign(again, [publisher])
        return self._give(change)

    def rotate(self, what: str, passphrase: bytes | None, only: str = "") -> Chain:
        """Put new keys in the place of old ones.

        Args:
            what: ``root``, ``targets``, ``publisher`` or ``hub``.
            passphrase: seals the new files.
            only: id of the one key to replace; "" for all of the role.

        Raises:
            Denied: too few of the keys that must sign for it are in the ring.

        """
        if what not in ROTATES:
            raise Invalid(f"rotate {what[:40]!r}: one of {', '.join(ROTATES)}")
        if what == "hub":
            self._hub.next_keys()
        published, chain = self._known()
        return self._give(getattr(self, f"_rotate_{what}")(published, chain, passphrase, only))

    def revoke(self, keyid: str, passphrase: bytes | None) -> str:
        """Replace the key with this id, wherever it counts.

        Returns:
            the role that it had.

        Raises:
            NotFound: no key that counts has this id.

        """
        _, chain = self._known()
        for role in ("root", "targets", "timestamp", "snapshot"):
            if keyid in [key.id for key in holders_of(chain.root.signed, role).keys]:
                what = role if role in ("root", "targets") else "hub"
                self.rotate(what, passphrase, keyid if what == "root" else "")
                return role
        if keyid in [key.id for key in holders_of(_targets(chain), director.ROLE).keys]:
            self.rotate("hub", passphrase)
            return director.ROLE
        for name, holders in publishers_of(_targets(chain)).items():
            if keyid in [key.id for key in holders.keys]:
                self.rotate("publisher", passphrase, keyid)
                return role_of(name)
        raise NotFound(f"no key {keyid[:40]!r} counts at this hub: `farshore keys status` names those that do")

    def renew(self) -> Chain:
        """Sign everything that this ring can sign once more, for a new term; roles list what is in use now."""
        _, chain = self._known()
        change = Change()
        root_signers = self._may(holders_of(chain.root.signed, "root"), "root")
        if root_signers:
            change.root = sign(renewed(chain.root.signed, repository.LIVES["root"], self._now), root_signers)
        signers = self._may(holders_of(chain.root.signed, "targets"), "targets")
        if signers:
            again = renewed(_targets(chain), repository.LIVES["targets"], self._now)
            change.documents["targets"] = sign(again, signers)
        for name, holders in publishers_of(_targets(chain)).items():
            signers = self._may(holders, name)
            if signers and role_of(name) in chain.roles:
                change.documents[role_of(name)] = repository.cosign(self._redrafted(chain, name), signers)
        if change.root is None and not change.documents:
            raise Denied(f"no key in {self._ring.folder} may sign anything at this hub")
        return self._give(change)

    def allow(self, model: str, publisher: PublicKey | None) -> Chain:
        """Let a publisher's key release a model.

        Args:
            model: name.
            publisher: the key; None for this ring's own publisher key.

        """
        _, chain = self._known()
        if publisher is None:
            publisher = self._own_publisher()
        publishers = {**publishers_of(_targets(chain)), model: Holders((publisher,))}
        change = Change()
        change.documents["targets"] = self._targets(chain, publishers)
        known = chain.roles.get(role_of(model))
        if known is not None:
            again = renewed(known.signed, repository.ROLE_LIFE, self._now)
            change.documents[role_of(model)] = sign(again, self._ring.signers(publishers[model], model))
        return self._give(change)

    def withdraw(self, model: str, floor: int) -> Chain:
        """Forbid all versions of a model below ``floor``, on every device, by anyone's order."""
        _, chain = self._known()
        document = chain.roles.get(role_of(model))
        if document is None:
            raise NotFound(f"no version of {model!r} was published")
        signed = renewed(document.signed, repository.ROLE_LIFE, self._now)
        if floor > max(listed(signed, model), default=0):
            raise Invalid(f"{model}: there is no version {floor} that could stay; push it first")
        signed.unrecognized_fields[FLOOR] = floor
        holders = publishers_of(_targets(chain))[model]
        return self._give(Change(documents={role_of(model): sign(signed, self._ring.signers(holders, model))}))

    def sign(self, draft: Draft) -> bytes:
        """Sign the role of a push, if it changes nothing but what the push adds. The manifest was looked at before
        (:func:`farshore.client.drafts.check`).

        Raises:
            Denied: it says more than that, or the ring has no key that may.

        """
        model = draft.model
        _, chain = self._known()
        holders = publishers_of(_targets(chain)).get(model)
        if holders is None:
            self.allow(model, None)
            _, chain = self._known()
            holders = publishers_of(_targets(chain))[model]
        self._check_draft(chain, model, draft.role, {draft.version: Release(draft.digest, len(draft.manifest))})
        return repository.cosign(draft.role, self._ring.signers(holders, model))

    def state(self) -> tuple[Published, Chain]:
        """What the hub has, verified from the ring's root on."""
        return self._known()

    def _own_publisher(self) -> PublicKey:
        """This ring's publisher key; the newest, where there are several."""
        names = [(name, public) for name, public in self._ring.publics().values() if name.startswith("publisher")]
        if not names:
            raise NotFound(f"{self._ring.folder} has no publisher.key: name the publisher's public key")
        return max(names, key=lambda one: (len(one[0]), one[0]))[1]

    # -- the four rotations ----------------------------------------------------------------------------------------

    def _rotate_root(self, _published: Published, chain: Chain, passphrase: bytes | None, only: str) -> Change:
        old = holders_of(chain.root.signed, "root")
        signers = self._ring.signers(old, "root", every=True)
        kept = [key for key in old.keys if only and key.id != only]
        fresh = [self._ring.add(self._ring.free("root"), passphrase) for _ in range(len(old.keys) - len(kept))]
        new = {"root": Holders((*kept, *publics_of(fresh)), old.threshold)}
        return Change(self._root(chain, new, [*signers, *fresh]))

    def _rotate_targets(self, _published: Published, chain: Chain, passphrase: bytes | None, _only: str) -> Change:
        fresh = self._ring.add(self._ring.free("targets"), passphrase)
        again = renewed(_targets(chain), repository.LIVES["targets"], self._now)
        return Change(self._root(chain, {"targets": Holders((fresh.public,))}), {"targets": sign(again, [fresh])})

    def _rotate_publisher(self, _published: Published, chain: Chain, passphrase: bytes | None, only: str) -> Change:
        mine, publishers = self._ring.publics(), publishers_of(_targets(chain))
        held = {only} if only else mine.keys()
        affected = [name for name, one in publishers.items() if held & {key.id for key in one.keys}]
        fresh = self._ring.add(self._ring.free("publisher"), passphrase)
        publishers |= dict.fromkeys(affected, Holders((fresh.public,)))
        change = Change(documents={"targets": self._targets(chain, publishers)})
        for name in affected:
            if role_of(name) in chain.roles:
                again = renewed(chain.roles[role_of(name)].signed, repository.ROLE_LIFE, self._now)
                change.documents[role_of(name)] = sign(again, [fresh])
        return change

    def _rotate_hub(self, published: Published, chain: Chain, _passphrase: bytes | None, _only: str) -> Change:
        online = {role: Holders((PublicKey.parse(text),)) for role, text in published.online.items()}
        new = {role: online[role] for role in ("timestamp", "snapshot")}
        targets = self._targets(chain, publishers_of(_targets(chain)), online[director.ROLE])
        return Change(self._root(chain, new), {"targets": targets})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _root(self, chain: Chain, changed: Mapping[str, Holders], signers: list[SigningKey] | None = None) -> bytes:
        holders = {role: holders_of(chain.root.signed, role) for role in TOP} | dict(changed)
        if signers is None:
            signers = self._ring.signers(holders["root"], "root")
        return sign(repository.root(holders, chain.root.version + 1, self._now), signers)

    def _targets(self, chain: Chain, publishers: Mapping[str, Holders], directors: Holders | None = None) -> bytes:
        old = _targets(chain)
        new = repository.targets(directors or holders_of(old, director.ROLE), publishers, old.version + 1, self._now)
        return sign(new, self._ring.signers(holders_of(chain.root.signed, "targets"), "targets"))

    def _may(self, holders: Holders, what: str) -> list[SigningKey]:
        try:
            return self._ring.signers(holders, what)
        except Denied:
            return []

    def _redrafted(self, chain: Chain, model: str) -> bytes:
        """A role as the hub would list it now: what is neither new nor in use is left out."""
        draft = self._hub.role_draft(model)
        self._check_draft(chain, model, draft, {})
        return draft

    def _check_draft(self, chain: Chain, model: str, draft: bytes, added: Mapping[int, Release]) -> None:
        new = read(draft, Targets, role_of(model)).signed
        before = chain.roles.get(role_of(model))
        known = {} if before is None else listed(before.signed, model)
        for number, release in listed(new, model).items():
            if number in added:
                if release != added[number]:
                    raise Denied(f"{model}@{number}: the hub drafted another manifest than the one that it shows")
            elif known.get(number) != release:
                raise Denied(f"{model}@{number}: the hub changed what was signed before")
        floor = 1 if before is None else before.signed.unrecognized_fields.get(FLOOR, 1)
        if new.unrecognized_fields.get(FLOOR, 1) != floor or len(new.targets) != len(listed(new, model)):
            raise Denied(f"{model}: the hub's draft says more than a push may")
        if new.delegations is not None:
            raise Denied(f"{model}: the hub's draft delegates")

    def _known(self, *, pinned: bool = True) -> tuple[Published, Chain]:
        return verified(self._hub, self._ring.read("root.json") if pinned else None)

    def _give(self, change: Change) -> Chain:
        """Hand the documents over; what the hub then has is what the ring believes from now on."""
        self._hub.put_trust(change.root, change.documents)
        if change.root is not None:
            self._ring.keep("root.json", change.root)
        _, chain = self._known()
        assert chain.targets is not None
        self._ring.keep("root.json", chain.root.raw)
        self._ring.keep("targets.json", chain.targets.raw)
        return chain


def _targets(chain: Chain) -> Targets:
    assert chain.targets is not None
    return chain.targets.signed


def verified(hub: Hub, pin: bytes | None) -> tuple[Published, Chain]:
    """What a hub has published, verified as a device would.

    Args:
        hub: to ask.
        pin: the root that its line of roots must lead through; None for its first.

    Raises:
        Denied, Corrupt: devices would not believe it, or it is not the right hub.

    """
    published = hub.trust()
    roots = [bytes(raw) for raw in published.roots]
    if pin is not None:
        at = next((at for at, data in enumerate(roots) if repository.same_payload(data, pin)), None)
        if at is None:
            raise Denied("this hub does not have the root of the key ring: is it the right hub?")
        roots = roots[at:]
    chain = Chain.begin(roots[0])
    for data in roots[1:]:
        chain = chain.with_root(data)
    documents = {role: bytes(raw) for role, raw in published.documents.items()}
    chain = chain.with_timestamp(documents["timestamp"]).with_snapshot(documents["snapshot"])
    chain = chain.with_targets(documents["targets"])
    for role, data in documents.items():
        if role not in TOP:
            chain = chain.with_role(role, data)
    return published, chain
