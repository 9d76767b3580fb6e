"""What a device believes, over its disk: kept, damaged, replaced; the attacks are in ``tests/attacks/test_trust.py``."""

from __future__ import annotations

import pytest
from msgspec import Raw
from tests.sim.clock import VirtualClock
from tests.sim.repository import NOW, Repository, key

from farshore.agent import trust as trusting
from farshore.agent.trust import EARLIEST, Trust, pinned
from farshore.core.errors import Corrupt, Denied
from farshore.core.wire import DesiredModel, News
from farshore.trust.metadata import pin_of

DAY = 86400


@pytest.fixture
def repo():
    made = Repository()
    made.digest = made.publish("detector", 1, b"manifest 1")
    return made


@pytest.fixture
def device(tmp_path, repo):
    return lambda clock=None: Trust(tmp_path / "trust", "d", repo.roots[0], clock or VirtualClock())


def told(repo, trust, desired=None, *, seq=1, **order):
    """A sync's answer is heard."""
    nonce, have = trust.ask(), trust.held()
    section = {"$version": seq, "models": {}} if desired is None else desired
    lacking = {
        role: Raw(data)
        for role, data in repo.documents.items()
        if role != "root" and have.get(role) != repo.versions[role]
    }
    roots = tuple(Raw(one) for one in repo.roots[have.get("root", 0) :])
    trust.hear(nonce, News(Raw(repo.order("d", section, nonce, **order)), roots, lacking), section, ["detector"])


def wanted(repo, number=1):
    return DesiredModel(number, repo.releases["detector"][number].digest)


def test_nothing_is_believed_before_the_hub_was_heard(repo, device):
    trust = device()
    assert trust.held() == {"root": 1}
    assert trust.stale() is not None
    assert trust.bars("detector", wanted(repo), here=False) is not None


def test_what_was_heard_is_believed_also_after_a_start(repo, device, tmp_path):
    told(repo, device())
    trust = device()
    assert trust.held() == {**repo.versions, "root": 1}
    assert trust.bars("detector", wanted(repo), here=False) is None
    assert trust.stale() is None
    names = {path.name for path in (tmp_path / "trust").iterdir()}
    assert names == {
        "root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
        "model%2Fdetector.json",
        "order.json",
    }


def test_nonces_are_fresh(device):
    trust = device()
    assert len({trust.ask() for _ in range(100)}) == 100


def test_who_can_ask_nobody_believes_orders_about_everything_but_the_time(repo, tmp_path):
    clock = VirtualClock(NOW)
    trust = Trust(tmp_path / "trust", "d", repo.roots[0], clock, asks=False)
    assert trust.ask() == ""
    repo.now = NOW + 3 * DAY  # by the clock of whoever signed
    repo.new_snapshot()
    told(repo, trust)
    assert trust.now().timestamp() == NOW + 3 * DAY  # time does not go back before what was signed
    clock.sleep(9 * DAY)
    assert trust.now().timestamp() == NOW + 9 * DAY
    assert trust.stale() is None
    clock.sleep(2 * DAY)
    assert "ended" in trust.stale().message or "expired" in trust.stale().message
    with pytest.raises(Denied, match="older"):
        told(repo, trust, seq=0)


@pytest.mark.parametrize("name", ["root", "timestamp", "snapshot", "targets", "model%2Fdetector", "order"])
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 50])
def test_a_damaged_file_comes_again(repo, device, tmp_path, name, data):
    told(repo, device())
    (tmp_path / "trust" / f"{name}.json").write_bytes(data)
    trust = device()
    told(repo, trust)
    assert trust.bars("detector", wanted(repo), here=False) is None
    assert device().held() == {**repo.versions, "root": 1}


def test_roles_of_models_that_are_gone_are_deleted(repo, device, tmp_path):
    told(repo, device())
    trust = device()
    section = {"$version": 2}
    nonce = trust.ask()
    trust.hear(nonce, News(Raw(repo.order("d", section, nonce))), section, [])
    assert not (tmp_path / "trust" / "model%2Fdetector.json").exists()
    assert "model/detector" not in trust.held()


def test_orders_are_not_written_every_minute(repo, device, monkeypatch):
    trust, written = device(), []
    told(repo, trust)
    monkeypatch.setattr(trusting.files, "write_atomic", lambda path, *_a, **_k: written.append(path.name))
    for _ in range(50):
        repo.now += 60
        told(repo, trust)
    assert written == []
    repo.now += trusting.REMEMBER_SECONDS
    told(repo, trust)
    told(repo, trust, seq=2)
    assert written == ["order.json", "order.json"]


def test_an_order_of_old_is_refused_also_after_a_start(repo, device):
    told(repo, device(), seq=5)
    trust = device()
    with pytest.raises(Denied, match="older than 5"):
        told(repo, trust, seq=4)
    assert trust.refused is not None
    told(repo, trust, seq=5)
    assert trust.refused is None


def test_a_director_who_was_replaced_binds_to_nothing(repo, device):
    trust = device()
    told(repo, trust, seq=2**50)
    repo.director_key = key("another director")
    repo.new_targets()
    repo.new_snapshot()
    told(repo, trust, seq=3)


def test_time_is_the_hubs_then_the_floor(repo, device):
    clock = VirtualClock(0.0)
    trust = device(clock)
    assert trust.now() == EARLIEST
    told(repo, trust)
    clock.sleep(100)
    assert trust.now().timestamp() == NOW + 100
    clock.jump(20 * 365 * DAY)
    assert trust.now().timestamp() == NOW + 100
    assert device(VirtualClock(0.0)).now().timestamp() == NOW
    assert device(VirtualClock(NOW + 5 * DAY)).now().timestamp() == NOW + 5 * DAY


def test_expiry_keeps_the_new_out_and_what_is_here_in(repo, device):
    told(repo, device())
    trust = device(VirtualClock(NOW + 8 * DAY))
    assert trust.bars("detector", wanted(repo), here=False).message.startswith("stale: metadata of timestamp expired")
    assert trust.bars("detector", wanted(repo), here=True) is None
    assert trust.stale().code == "unavailable"


def test_a_hub_that_signs_nothing_is_refused(device):
    trust = device()
    with pytest.raises(Denied, match="not signed"):
        trust.hear(trust.ask(), None, {}, [])


def test_pinned_roots(repo):
    repo.new_root()
    first, second = repo.roots
    assert pinned([first, second], "") == second
    assert pinned([first, second], pin_of(first)) == pinned([first, second], pin_of(second)) == second
    with pytest.raises(Denied, match="is this the right hub"):
        pinned([first, second], pin_of(b"another"))
    stranger = Repository(root_keys=[key("s1"), key("s2")])
    with pytest.raises(Denied):
        pinned([first, stranger.new_root()], pin_of(first))
    with pytest.raises(Corrupt):
        pinned([b"{}"], "")
