"""A device of the release before and today's hub, and the reverse: what either said in a recorded conversation, the other still reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import Struct
from tests.sim.http_face import HttpFace
from tests.sim.releases import release
from tests.sim.world import DEVICE, World

from farshore.agent.http_link import HttpLink
from farshore.core import documents, twin, wire
from farshore.core.errors import Invalid
from farshore.core.sketch import CLASSES, Sketch
from farshore.hub.gate import Gate

RECORDING = Path(__file__).parent / "wire-v1" / "conversation.json"
SAID = json.loads(RECORDING.read_text())
KINDS = {
    "/device/v1/enrol": (wire.EnrolRequest, wire.EnrolReply),
    "/device/v1/challenge": (wire.ChallengeRequest, wire.ChallengeReply),
    "/device/v1/renew": (wire.RenewRequest, wire.RenewReply),
    "/device/v1/sync": (wire.SyncRequest, wire.SyncReply),
    "/device/v1/tickets": (wire.TicketRequest, wire.TicketReply),
}
FREE = {"desired", "reported", "have", "order", "roots", "metadata"}
"""Members of which every name is somebody's own (a twin's, a role's), or signed as they are."""


def read(value, kind):
    return documents.decode(json.dumps(value).encode(), kind, what="recorded", limit=16 << 20)


def newer(value):
    """The same, from a peer that has more to say."""
    if isinstance(value, dict):
        known = {name: inner if name in FREE else newer(inner) for name, inner in value.items()}
        return {**known, "from-a-later-release": {"a": [1, None]}}
    return [newer(inner) for inner in value] if isinstance(value, list) else value


def test_the_recording_has_all_that_matters():
    assert {one["path"] for one in SAID} >= {"/device/v1/enrol", "/device/v1/sync", "/device/v1/tickets"}
    assert all(one["status"] == 200 for one in SAID)
    assert any(one["request"].get("reported") for one in SAID)
    assert any(one["reply"].get("desired") for one in SAID)


@pytest.mark.parametrize("side", [0, 1], ids=["hub reads device", "device reads hub"])
def test_every_recorded_word_is_read(side):
    for one in SAID:
        assert read(one[("request", "reply")[side]], KINDS[one["path"]][side]) is not None


@pytest.mark.parametrize("side", [0, 1], ids=["hub reads device", "device reads hub"])
def test_what_a_later_release_adds_is_passed_over(side):
    for one in SAID:
        value, kind = one[("request", "reply")[side]], KINDS[one["path"]][side]
        assert read(newer(value), kind) == read(value, kind)


def test_what_is_not_of_that_wire_is_not_taken_for_it():
    """The reading above can fail."""
    [ticket, *_] = [one for one in SAID if one["path"] == "/device/v1/tickets"]
    for value, kind in ((ticket["request"], wire.TicketReply), (ticket["reply"], wire.TicketRequest)):
        with pytest.raises(Invalid):
            read(value, kind)


def test_reports_and_desired_are_read_by_their_own_words():
    reported = {}
    for one in SAID:
        if one["reply"].get("desired"):
            models = wire.desired_models({"models": later(one["reply"]["desired"]["models"])})
            assert models == wire.desired_models(one["reply"]["desired"]) and models
        reported = merged(reported, one["request"].get("reported") or {})
    models = wire.reported_models({"models": later(reported["models"])})
    assert models == wire.reported_models(reported) and models["detector"].current.version == 2


class Conditions(Struct):
    """As the release before read them."""

    errors: float | None = None
    latency: float | None = None
    agreement: float | None = None
    compared: int = 20


class Trial(Struct):
    """As the release before read it."""

    digest: str
    requests: int = 0
    errors: int = 0
    gap: float = 0.0
    latency: float = 0.0
    latency_before: float = 0.0
    memory: int = 0
    memory_before: int = 0
    compared: int = 0
    agreed: int = 0


def test_what_is_compared_in_the_shadow_is_passed_over_by_the_release_before():
    asked = Gate(agreement=0.9, class_shift=0.1, latency=2.0).conditions()
    assert documents.convert(asked, Conditions, what="desired") == Conditions(None, 2.0, 0.9, 20)
    assert documents.convert(asked, wire.Conditions, what="desired").shadow is not None
    names = [f"class of things {number}" for number in range(CLASSES)]
    sketch = Sketch(tuple((name, 10_000, 10_000) for name in names), (10_000,) * 10, (10_000,) * 10)
    shown = wire.Trial(f"sha256:{1:064x}", 5, 1, compared=50, agreed=40, sketch=sketch, unseen=True)
    said = documents.builtins(wire.ReportedModel(trial=shown))
    assert documents.convert(said["trial"], Trial, what="reported") == Trial(shown.digest, 5, 1, compared=50, agreed=40)
    twin.check({"models": {"detector": said}}, nulls=False)
    assert len(json.dumps(said["trial"], separators=(",", ":"))) < 1024


def test_a_device_of_the_release_before_counts_no_reports_and_is_heard():
    syncs = [read(one["request"], wire.SyncRequest) for one in SAID if one["path"] == "/device/v1/sync"]
    assert syncs and all((one.series, one.number) == ("", 0) for one in syncs)


def later(models):
    return {key: {**inner, "later": [True]} for key, inner in models.items()}


def merged(old, change):
    """RFC 7396."""
    if not isinstance(change, dict):
        return change
    found = dict(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        found[name] = merged(found.get(name), value)
    return {name: value for name, value in found.items() if value is not None}


def test_todays_device_updates_from_a_hub_that_says_more(tmp_path):
    world = World(tmp_path / "device")
    with HttpFace(world.hub) as face:

        def more(path, answer):
            status, headers, data = answer
            if path in KINDS and status == 200:
                data = json.dumps(newer(json.loads(data)), separators=(",", ":"), ensure_ascii=False).encode()
            return status, headers, data

        face.spoil = more
        world.link = HttpLink(face.url, world.link.credential)
        world.start_agent()
        update = world.hub.publish(release(size=5000))
        world.hub.desire(DEVICE, update)
        world.settle()
        world.link.close()
    assert world.serving() == update.digest
    assert world.reported()["current"]["digest"] == update.digest
