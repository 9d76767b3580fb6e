"""Every byte of every document flipped: rejected, or provably of the same meaning."""

from __future__ import annotations

import pytest
from tests.sim.repository import NOW, Repository

from farshore.core.errors import FarshoreError
from farshore.trust import director, repository
from farshore.trust.chain import Chain
from farshore.trust.metadata import moment

BITS = (0x01, 0x20, 0x80)


@pytest.fixture(scope="module")
def repo():
    made = Repository()
    made.publish("detector", 1, b"manifest 1")
    made.publish("detector", 2, b"manifest 2")
    made.floors["detector"] = 2
    made.new_role("detector")
    made.new_snapshot()
    made.new_root()
    return made


def flipped(data):
    bent = bytearray(data)
    for at in range(len(bent)):
        for bit in BITS:
            bent[at] ^= bit
            yield bytes(bent)
            bent[at] ^= bit


def attempts(believe, data):
    """How many flips were believed; each of them says exactly what the original says."""
    kept = 0
    for bent in flipped(data):
        try:
            believe(bent)
        except FarshoreError:
            continue
        assert repository.same_payload(bent, data), bent
        kept += 1
    return kept


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "model/detector"])
def test_every_byte_of_metadata(repo, role):
    first = Chain.begin(repo.roots[0])
    whole = repo.refresh(first, models=("detector",))
    bare = {
        "root": first.with_root,
        "timestamp": first.with_root(repo.roots[1]).with_timestamp,
        "snapshot": lambda data: _before(whole, "snapshot").with_snapshot(data),
        "targets": lambda data: _before(whole, "targets").with_targets(data),
        "model/detector": lambda data: _before(whole, role).with_role(role, data),
    }[role]
    data = repo.documents[role]
    bare(data)  # as it is, it is believed
    kept = attempts(bare, data)
    print(f"{role}: {len(data)} bytes, {len(data) * len(BITS)} flips, {kept} of the same meaning")
    assert kept < len(data) * len(BITS) / 2  # letters of a signature in capitals; one of three where two are needed


def test_every_byte_of_a_pinned_root(repo):
    data = repo.roots[0]
    kept = attempts(Chain.begin, data)
    assert kept < len(data) * len(BITS) / 2


def test_every_byte_of_an_order(repo):
    targets = repo.refresh().targets.signed
    desired = {"$version": 7, "models": {"detector": {"version": 1}}}
    data = repo.order("d", desired, "n" * 22)
    right = director.unseal(data, targets)
    director.check(right, device="d", nonce="n" * 22, seq=7, desired=director.digest_of(desired))
    for bent in flipped(data):
        try:
            found = director.unseal(bent, targets)
        except FarshoreError:
            continue
        assert found == right


def test_every_byte_of_what_lies_on_the_disk(repo):
    """A flip on flash: what is damaged is left out or unchanged in meaning, and comes again from the hub."""
    documents = repo.refresh(models=("detector",)).documents()
    for role in ("timestamp", "model/detector"):
        for bent in flipped(documents[role]):
            chain = Chain.load({**documents, role: bent})
            if role in chain.held():
                assert repository.same_payload(chain.documents()[role], documents[role])
    chain = repo.refresh(Chain.load({**documents, "timestamp": b"{}"}), models=("detector",))
    chain.check_current(moment(NOW))


def _before(chain: Chain, role: str) -> Chain:
    """The chain as it was before a document came."""
    order = ["timestamp", "snapshot", "targets"]
    kept = order[: order.index(role)] if role in order else order
    return Chain.load({name: data for name, data in chain.documents().items() if name in ("root", *kept)})
