from __future__ import annotations

import pytest
from tests.sim.repository import NOW, PUBLISHER, ROOTS, Repository, key

from farshore.core.errors import Invalid
from farshore.trust import repository
from farshore.trust.repository import Holders


@pytest.fixture
def repo():
    made = Repository()
    made.publish("detector", 1, b"one")
    return made


def test_holders_are_read_back(repo):
    chain = repo.refresh()
    assert repository.holders_of(chain.root.signed, "root") == Holders(tuple(one.public for one in ROOTS), 2)
    assert repository.publishers_of(chain.targets.signed) == {"detector": Holders((PUBLISHER.public,))}
    with pytest.raises(Invalid):
        repository.holders_of(chain.root.signed, "absent")


@pytest.mark.parametrize("threshold", [0, 2])
def test_a_threshold_that_cannot_be_met(threshold):
    with pytest.raises(Invalid, match="cannot be met"):
        Holders((key("one").public,), threshold)


def test_numbers_go_on_above_what_a_backup_has_forgotten():
    assert repository.next_version(0, NOW) == int(NOW)
    assert repository.next_version(int(NOW), NOW) == int(NOW) + 1
    assert repository.next_version(int(NOW) + 10**9, NOW) == int(NOW) + 10**9 + 1


def test_more_signatures_do_not_change_what_is_said(repo):
    data = repo.documents["targets"]
    again = repository.cosign(data, [key("another")])
    assert again != data
    assert repository.same_payload(again, data)
    assert not repository.same_payload(data, repo.documents["snapshot"])
    assert not repository.same_payload(data, b"{}")
    assert repository.version_of(data) == repo.versions["targets"]


def test_the_same_for_a_new_term(repo):
    signed = repo.refresh().targets.signed
    again = repository.renewed(signed, 100.0, NOW)
    assert (again.version, again.expires.timestamp()) == (signed.version + 1, NOW + 100)
    assert again.delegations == signed.delegations
