"""The hub's part of trust: what it hands to a device, what it signs by itself, and what it takes from others."""

from __future__ import annotations

import json

import pytest

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Denied, Invalid, NotFound
from farshore.core.trust import SigningKey
from farshore.hub.hub import Hub
from farshore.store import keys
from farshore.trust import director, releases, repository
from farshore.trust.metadata import moment
from farshore.trust.repository import Holders, holders_of, sign

DAY = 86400


@pytest.fixture
def device(operator, pushed):
    pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    return operator.enrolled("d")


def synced(device, **more):
    return device.sync(nonce="n" * 22, **more)


def test_a_reply_carries_what_is_new_and_an_order_for_this_question(hub, device):
    reply = synced(device)
    trust, chain = reply["trust"], hub.director.state().chain
    assert set(trust["metadata"]) == {"timestamp", "snapshot", "targets", "model/detector"}
    assert len(trust["roots"]) == 1
    order = trust["order"]["signed"]
    assert (order["device"], order["nonce"], order["seq"]) == ("d", "n" * 22, reply["desired"]["$version"])
    assert order["desired"] == director.digest_of(reply["desired"])
    assert order["expires"] - order["issued"] == director.LIFE
    again = synced(device, seen=order["seq"], have=chain.held())
    assert set(again["trust"]) == {"order"}
    assert "trust" not in device.sync(seen=order["seq"])  # who asks nothing is told nothing


def test_other_models_are_not_handed_out(device, pushed):
    pushed("other")
    assert set(synced(device)["trust"]["metadata"]) == {"timestamp", "snapshot", "targets", "model/detector"}


def test_what_is_online_is_signed_anew_every_day(hub, clock, pushed):
    pushed()
    first = hub.director.state().chain.held()
    clock.now += repository.RENEWED - 10
    hub.director.renew()
    assert hub.director.state().chain.held() == first
    clock.now += 20
    hub.director.renew()
    chain = hub.director.state().chain
    assert chain.held()["timestamp"] > first["timestamp"]
    assert chain.held()["targets"] == first["targets"]
    chain.check_current(moment(clock.now + 7 * DAY - 10))


def test_a_development_hub_renews_all_by_itself(hub, clock, pushed):
    made = pushed()
    for _ in range(30):
        clock.now += 90 * DAY
        hub.director.renew()
        releases.check(hub.director.state().chain, "detector", 1, Digest(made["digest"]), moment(clock.now + 6 * DAY))
    assert hub.director.state().chain.root.version > 1


def test_old_versions_leave_the_role_unless_they_are_in_use(operator, hub, pushed):
    for seed in range(1, 20):
        pushed(seed=seed, **({"alias": "golden"} if seed == 2 else {}))
    listed = releases.listed(hub.director.state().chain.roles["model/detector"].signed, "detector")
    assert set(listed) == {2, *range(14, 20)}
    operator.ask("PUT", "/v1/deployments/old", json={"selector": "*", "model": "detector@3"})
    listed = releases.listed(hub.director.state().chain.roles["model/detector"].signed, "detector")
    assert 3 in listed
    assert 2 in listed
    five = operator.get("/v1/models/detector/versions/5")
    operator.enrolled("d")
    pin = {"models": {"detector": {"version": 5, "digest": five["digest"]}}}
    operator.ask("PATCH", "/v1/devices/d/twin", json={"properties": {"desired": pin}})
    listed = releases.listed(hub.director.state().chain.roles["model/detector"].signed, "detector")
    assert {2, 3, 5} <= set(listed)


def test_a_hub_opened_again_has_the_same(settings, operator, hub, pushed):
    pushed()
    before = hub.director.state().chain.documents()
    hub.close()
    again = Hub(settings, hub.clock)
    assert again.director.state().chain.documents() == before
    again.close()


class Taken:
    """A hub taken over by keys made here."""

    def __init__(self, hub, now):
        self.hub, self.now = hub, now
        self.root, self.targets, self.publisher = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))

    def documents(self, **others):
        state = self.hub.director.state()
        online = {role: holders_of(state.chain.root.signed, role) for role in ("snapshot", "timestamp")}
        holders = {"root": Holders((self.root.public,)), "targets": Holders((self.targets.public,)), **online, **others}
        root = sign(repository.root(holders, state.chain.root.version + 1, self.now), [self.root])
        names = repository.publishers_of(state.targets)
        targets = repository.targets(
            holders_of(state.targets, "director"), dict.fromkeys(names, Holders((self.publisher.public,))),
            state.chain.targets.version + 1, self.now,
        )  # fmt: skip
        roles = {
            releases.role_of(name): sign(
                repository.renewed(state.chain.roles[releases.role_of(name)].signed, DAY, self.now), [self.publisher]
            )
            for name in names
        }
        return root, {"targets": sign(targets, [self.targets]), **roles}


def test_taking_over(hub, clock, pushed, operator):
    made = pushed()
    taken = Taken(hub, clock.now)
    hub.director.adopt(*taken.documents())
    assert not hub.director.development
    releases.check(hub.director.state().chain, "detector", 1, Digest(made["digest"]), moment(clock.now))
    draft = pushed(seed=2, status=202)
    path = f"/v1/models/detector/drafts/{draft['digest']}"
    assert operator.get("/v1/models/detector/versions")["items"][0]["version"] == 1
    unsigned = json.dumps(draft["role"]).encode()
    for keys_, status in (([], 403), ([SigningKey(b"s" * 32)], 403), ([taken.publisher], 201)):
        body = json.loads(repository.cosign(unsigned, keys_))
        answer = operator.ask("PUT", path, json={"role": body}, status=status)
    assert answer.json()["version"] == 2
    operator.ask("PUT", path, json={"role": body}, status=404)  # it is no draft any more
    assert pushed(seed=2)["existing"] is True
    operator.ask("POST", "/v1/models/unknown/versions", json={"files": []}, status=400)


def test_a_role_that_says_more_than_was_drafted_is_refused(hub, clock, pushed, operator):
    pushed()
    taken = Taken(hub, clock.now)
    hub.director.adopt(*taken.documents())
    draft = pushed(seed=2, status=202)
    other = dict(draft["role"], signed=dict(draft["role"]["signed"], min=2))
    body = json.loads(repository.cosign(json.dumps(other).encode(), [taken.publisher]))
    operator.ask("PUT", f"/v1/models/detector/drafts/{draft['digest']}", json={"role": body}, status=403)


def test_documents_that_devices_would_refuse_are_refused(hub, clock, pushed):
    pushed()
    before = hub.director.state().chain.documents()
    taken = Taken(hub, clock.now)
    root, documents = taken.documents()
    with pytest.raises(Denied):
        hub.director.adopt(None, documents)  # targets by a key that no root names
    with pytest.raises(Denied):
        hub.director.adopt(root, {"targets": documents["targets"]})  # the role is still the old publisher's
    with pytest.raises(Invalid, match="timestamp key"):
        hub.director.adopt(*taken.documents(timestamp=Holders((SigningKey(b"t" * 32).public,))))
    with pytest.raises(Invalid, match="snapshot is not taken"):
        hub.director.adopt(root, {**documents, "snapshot": before["snapshot"]})
    assert hub.director.state().chain.documents() == before
    assert hub.director.development


def test_a_hub_cut_off_while_it_was_taken_over_forgets_its_ring(settings, hub, clock, pushed):
    pushed()
    kept = {path: path.read_bytes() for path in (settings.data / "keys" / "development").iterdir()}
    hub.director.adopt(*Taken(hub, clock.now).documents())
    for path, data in kept.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    hub.close()
    again = Hub(settings, clock)
    assert not again.director.development
    again.close()


def test_next_keys_wait_until_they_are_named(settings, hub, clock, pushed):
    before = hub.director.online
    hub.director.prepare()
    after = hub.director.online
    assert set(before.values()).isdisjoint(after.values())
    pushed()  # still signed by the old ones
    assert (
        keys.read(settings.data / "keys" / "director.key").public
        == holders_of(hub.director.state().targets, "director").keys[0]
    )
    hub.director.prepare()
    assert hub.director.online == after


def test_what_is_no_draft_is_not_published(hub):
    with pytest.raises(NotFound):
        hub.registry.publish("detector", digests.of(b"nothing"), b"{}")


def test_a_hub_that_was_taken_over_signs_for_no_publisher(hub):
    hub.director.adopt(*Taken(hub, hub.clock()).documents())
    with hub.database.writing() as tx, pytest.raises(Conflict):
        hub.director.sign_role(tx, "detector", b"{}")
