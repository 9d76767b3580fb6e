from __future__ import annotations

import pytest
from tests.sim.repository import NOW, Repository

from farshore.core import digest as digests
from farshore.core.errors import Denied, Unavailable
from farshore.trust import releases
from farshore.trust.metadata import Expired, moment

DAY = 86400


@pytest.fixture
def repo():
    made = Repository()
    made.publish("detector", 1, b"one")
    made.publish("detector", 2, b"two")
    return made


def check(repo, number, data, *, model="detector", now=NOW, models=("detector",)):
    releases.check(repo.refresh(models=models), model, number, digests.of(data), moment(now))


def test_what_the_publisher_stands_for(repo):
    check(repo, 1, b"one")
    check(repo, 2, b"two")
    signed = repo.refresh(models=("detector",)).roles["model/detector"].signed
    assert releases.listed(signed, "detector")[2] == releases.Release(digests.of(b"two"), 3)
    assert releases.listed(signed, "other") == {}
    assert releases.floor_of(signed) == 1


@pytest.mark.parametrize(("number", "data"), [(1, b"two"), (2, b"one"), (3, b"two")])
def test_what_it_does_not(repo, number, data):
    with pytest.raises(Denied):
        check(repo, number, data)


def test_a_role_that_is_not_here_and_a_model_that_nobody_publishes(repo):
    with pytest.raises(Unavailable, match="not here yet"):
        check(repo, 1, b"one", models=())
    with pytest.raises(Denied, match="not among the versions"):
        check(repo, 1, b"one", model="pose")


def test_the_floor_and_one_that_cannot_be_read(repo):
    repo.floors["detector"] = 2
    repo.new_role("detector")
    repo.new_snapshot()
    check(repo, 2, b"two")
    with pytest.raises(Denied, match="below 2"):
        check(repo, 1, b"one")
    signed = repo.refresh(models=("detector",)).roles["model/detector"].signed
    for odd in ("2", None, 1.5, True):
        signed.unrecognized_fields["min"] = odd
        assert releases.floor_of(signed) > 1 << 60


@pytest.mark.parametrize(("later", "role"), [(7 * DAY, "timestamp"), (400 * DAY, "targets"), (800 * DAY, "root")])
def test_what_has_expired_on_the_way(repo, later, role):
    chain = repo.refresh(models=("detector",))
    if role != "timestamp":
        repo.now += later - DAY
        repo.new_snapshot()
        chain = repo.refresh(chain, models=("detector",))
    with pytest.raises(Expired, match=role):
        releases.check(chain, "detector", 1, digests.of(b"one"), moment(NOW + later))
