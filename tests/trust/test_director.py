from __future__ import annotations

import json

import pytest
from tests.sim.repository import Repository, key

from farshore.core.errors import Corrupt, Denied
from farshore.trust import director

DESIRED = {"$version": 3, "models": {}, "rate": 5}


@pytest.fixture
def repo():
    return Repository()


@pytest.fixture
def targets(repo):
    return repo.refresh().targets.signed


def test_an_order_says_who_when_and_what(repo, targets):
    order = director.unseal(repo.order("d", DESIRED, "n" * 22), targets)
    assert (order.device, order.seq, order.nonce) == ("d", 3, "n" * 22)
    assert order.expires - order.issued == director.LIFE
    director.check(order, device="d", nonce="n" * 22, seq=3, desired=director.digest_of(DESIRED))
    director.check(order, device="d", nonce="", seq=0, desired=director.digest_of(DESIRED))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "e"}, "for d, not for e"),
        ({"nonce": "m" * 22}, "another question"),
        ({"seq": 4}, "older than 4"),
        ({"desired": director.digest_of({})}, "another desired section"),
    ],
)
def test_what_an_order_is_not_obeyed_for(repo, targets, change, said):
    order = director.unseal(repo.order("d", DESIRED, "n" * 22), targets)
    right = {"device": "d", "nonce": "n" * 22, "seq": 3, "desired": director.digest_of(DESIRED)}
    with pytest.raises(Denied, match=said):
        director.check(order, **{**right, **change})


def test_who_may_order(repo, targets):
    repo.director_key = key("stranger")
    with pytest.raises(Denied, match="signed by 0 trusted keys"):
        director.unseal(repo.order("d", DESIRED), targets)
    assert targets.delegations is not None
    del targets.delegations.roles["director"]
    with pytest.raises(Denied, match="no director"):
        director.unseal(repo.order("d", DESIRED), targets)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"signed":{},"signatures":[]}', b"\xff", b" " * 5000])
def test_what_is_no_order(targets, data):
    with pytest.raises(Corrupt):
        director.unseal(data, targets)


def test_members_of_a_newer_hub_are_signed_and_passed_over(repo, targets):
    from farshore.core import documents

    body = json.loads(repo.order("d", DESIRED))
    body["signed"]["later"] = {"x": 1}
    body["signatures"][0]["sig"] = repo.director_key.sign(documents.canonical(body["signed"])).hex()
    assert director.unseal(json.dumps(body).encode(), targets).seq == 3
    body["signed"]["later"] = {"x": 2}
    with pytest.raises(Denied):
        director.unseal(json.dumps(body).encode(), targets)
