from __future__ import annotations

import pytest
from msgspec import Raw
from tests.sim.clock import VirtualClock
from tests.sim.hub import SimHub
from tests.sim.instants import watched
from tests.sim.links import SimLink

from farshore.agent import identity
from farshore.agent.settings import Settings
from farshore.core import possession
from farshore.core.errors import Conflict, Corrupt, Denied, Invalid, NotFound, Unavailable
from farshore.core.trust import SigningKey
from farshore.core.wire import EnrolReply, SyncRequest

TOKEN = "token-token-token-token"


@pytest.fixture
def settings(tmp_path):
    return Settings.load(tmp_path, {"hub": "http://hub"}, {})


@pytest.fixture
def link():
    return SimLink(SimHub(), VirtualClock())


def test_enrolment(settings, link):
    who = identity.enrol(settings, TOKEN, "turbine-7", link)
    assert identity.load(settings) == who
    assert (who.device, who.hub, who.root.encode()) == ("turbine-7", "http://hub", link.hub.repo.roots[0])
    assert len(who.credential) >= 43  # 256 bits
    assert link.hub.credentials == {possession.hashed(who.credential): "turbine-7"}
    for name in ("identity.json", "device.key"):
        assert (settings.folder / name).stat().st_mode & 0o777 == 0o600
    key = SigningKey((settings.folder / "device.key").read_bytes())
    assert link.hub.keys == {"turbine-7": str(key.public)}


def test_once_enrolled_nothing_is_asked(settings, link):
    who = identity.enrol(settings, TOKEN, "turbine-7", link)
    link.up = False
    assert identity.enrol(settings, "another-token-that-is-used", "other-name", link) == who


def test_another_hub_is_a_conflict(settings, link, tmp_path):
    identity.enrol(settings, TOKEN, "turbine-7", link)
    with pytest.raises(Conflict, match="already"):
        identity.enrol(Settings.load(tmp_path, {"hub": "http://other"}, {}), TOKEN, "turbine-7", link)


def test_a_lost_answer_only_means_asking_again(settings, link):
    link.lose_after = 1.0
    with pytest.raises(Unavailable):
        identity.enrol(settings, TOKEN, "turbine-7", link)
    with pytest.raises(NotFound, match="not enrolled"):
        identity.load(settings)
    link.lose_after = 0.0
    who = identity.enrol(settings, TOKEN, "turbine-7", link)
    assert link.hub.credentials == {possession.hashed(who.credential): "turbine-7"}


def test_killed_at_any_instant_it_can_be_asked_again(tmp_path):
    class Killed(BaseException):
        pass

    for instant in range(1, 100):
        settings = Settings.load(tmp_path / str(instant), {"hub": "http://hub"}, {})
        settings.root.mkdir()
        link, count = SimLink(SimHub(), VirtualClock()), 0

        def kill(_where, at=instant):
            nonlocal count
            count += 1
            if count == at:
                raise Killed

        try:
            with watched(kill):
                identity.enrol(settings, TOKEN, "turbine-7", link)
            assert count > 5
            return
        except Killed:
            who = identity.enrol(settings, TOKEN, "turbine-7", link)
            assert link.hub.credentials == {possession.hashed(who.credential): "turbine-7"}
            assert identity.load(settings) == who
    raise AssertionError("enrolment never came to its end")


def test_the_id_may_be_fixed_by_the_token(settings, link, monkeypatch):
    monkeypatch.setattr(link.hub, "enrol", lambda request: EnrolReply("fixed", (Raw(link.hub.repo.roots[0]),)))
    assert identity.enrol(settings, TOKEN, "wanted", link).device == "fixed"


@pytest.mark.parametrize(
    ("token", "device"), [("short", "d"), ("white space in a token", "d"), (TOKEN, "Not A Name"), (TOKEN, "../x")]
)
def test_bad_input_is_refused_before_anything_is_sent(settings, link, token, device):
    with pytest.raises(Invalid):
        identity.enrol(settings, token, device, link)
    assert link.hub.log == []


def test_what_is_no_token_is_said_to_be_none(settings, link):
    with pytest.raises(Invalid, match="farshore device token"):
        identity.enrol(settings, "short", "d", link)


def test_an_unknown_token(settings, link):
    with pytest.raises(Denied):
        identity.enrol(settings, "unknown-unknown-unknown", "d", link)


def test_a_root_that_is_none_is_not_pinned(settings, link, monkeypatch):
    monkeypatch.setattr(link.hub, "enrol", lambda request: EnrolReply("d", (Raw(b'{"signed":{"_type":"root"}}'),)))
    with pytest.raises(Corrupt):
        identity.enrol(settings, TOKEN, "d", link)
    with pytest.raises(NotFound):
        identity.load(settings)


def test_no_hub_given(tmp_path):
    with pytest.raises(Invalid, match="which hub"):
        identity.enrol(Settings.load(tmp_path, {}, {}), TOKEN, "d")


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_damaged_identity_says_so(settings, data):
    settings.folder.mkdir()
    (settings.folder / "identity.json").write_bytes(data)
    with pytest.raises(Invalid, match=r"identity\.json"):
        identity.load(settings)


@pytest.fixture
def enrolled(settings, link):
    who = identity.enrol(settings, TOKEN, "turbine-7", link, boot="boot-1")
    link.credential = who.credential
    return who


def test_renewal(settings, link, enrolled):
    who = identity.renew(settings, enrolled, link, "boot-2")
    assert (who.turn, who.boot, who.coming) == (1, "boot-2", "")
    assert who.credential != enrolled.credential
    assert link.hub.credentials == {possession.hashed(who.credential): "turbine-7"}
    assert identity.load(settings) == who


def test_a_lost_answer_to_a_renewal_only_means_asking_again(settings, link, enrolled, monkeypatch):
    ask = link.renew

    def lose(request):
        ask(request)
        raise Unavailable("the answer was lost")

    monkeypatch.setattr(link, "renew", lose)
    for _ in range(3):
        with pytest.raises(Unavailable):
            identity.renew(settings, identity.load(settings), link, "boot-2")
    monkeypatch.setattr(link, "renew", ask)
    who = identity.renew(settings, identity.load(settings), link, "boot-2")
    assert (who.turn, link.hub.copied) == (1, set())
    link.credential = who.credential
    link.sync(SyncRequest())


def test_killed_at_any_instant_of_a_renewal_it_can_be_asked_again(tmp_path):
    class Killed(BaseException):
        pass

    for instant in range(1, 100):
        settings = Settings.load(tmp_path / str(instant), {"hub": "http://hub"}, {})
        settings.root.mkdir()
        link, count = SimLink(SimHub(), VirtualClock()), 0
        enrolled = identity.enrol(settings, TOKEN, "turbine-7", link)

        def kill(_where, at=instant):
            nonlocal count
            count += 1
            if count == at:
                raise Killed

        try:
            with watched(kill):
                identity.renew(settings, enrolled, link, "")
            assert count > 5
            return
        except Killed:
            who = identity.renew(settings, identity.load(settings), link, "")
            assert link.hub.credentials == {possession.hashed(who.credential): "turbine-7"}
            assert link.hub.copied == set()
            assert identity.load(settings) == who
    raise AssertionError("renewal never came to its end")


@pytest.mark.parametrize("data", [None, b"", b"k" * 31])
def test_a_key_that_is_gone_or_damaged_says_so(settings, link, enrolled, data):
    path = settings.folder / "device.key"
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(Invalid, match=r"device\.key"):
        identity.renew(settings, enrolled, link, "boot-2")


def test_a_key_that_an_operator_announced_needs_no_token(settings, link):
    key = identity.settle_key(settings)
    link.hub.keys["turbine-7"] = str(key.public)
    with pytest.raises(Denied):
        identity.enrol(settings, "", "other", link)
    assert identity.enrol(settings, "", "turbine-7", link).device == "turbine-7"
