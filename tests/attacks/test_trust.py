"""One negative test for each attack that TUF and Uptane list, against a whole device: its agent over its disk, and an attacker
who holds the network, the hub, or some of the keys.

Names: TUF specification, section 1.5.2; Uptane standard, "Threats to uptane implementations". Eavesdropping is TLS's business,
slow retrieval and endless model files are the download's (``tests/agent/test_download.py``).
"""

from __future__ import annotations

import json

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.sim.releases import release
from tests.sim.repository import NOW, key
from tests.sim.world import DEVICE, World

from farshore.core.wire import SyncReply
from farshore.trust import repository
from farshore.trust.director import LIFE
from farshore.trust.releases import Release, role_of

DAY = 86400


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.one = made.hub.publish(release(version=1, size=1000))
    made.hub.desire(DEVICE, made.one)
    made.settle()
    assert made.current() == made.one.digest
    return made


def holds(world, *, because, version=None):
    """A while later the device runs what it ran, fetched nothing, and says why."""
    world.hub.log.clear()
    world.run(600)
    assert world.current() == world.one.digest == world.serving()
    assert world.hub.count("tickets") == world.hub.count("object") == 0
    told = world.hub.twins[DEVICE].reported.values
    assert because in json.dumps(told), told
    return told


def recovers(world, *releases):
    """What the attack held back comes once it is over."""
    world.hub.spoil = lambda _device, _request, reply: reply
    world.hub.desire(DEVICE, *releases)
    world.settle()
    assert world.current() == releases[0].digest


def desired_with(world, change):
    """Let the hub's replies be changed by ``change(trust, request)`` before they are sent."""
    world.hub.spoil = lambda _device, request, reply: replace(reply, trust=change(reply.trust, request))


def test_arbitrary_software(world):
    """A thief of all that is online tells the device to run what no publisher signed."""
    evil = release(version=2, size=500, seed="evil")
    world.hub.releases[evil.digest] = evil
    world.hub.objects.update(evil.blobs)
    world.hub.desire(DEVICE, evil)
    holds(world, because="is not among the versions that its publisher signed")
    recovers(world, world.hub.publish(release(version=2, size=700)))


def test_arbitrary_software_in_the_place_of_a_signed_version(world):
    two = world.hub.publish(release(version=2, size=700))
    evil = release(version=2, size=700, seed="evil")
    world.hub.releases[evil.digest] = evil
    world.hub.desire(DEVICE, evil)
    holds(world, because="signed another manifest under this number")
    recovers(world, two)


def test_arbitrary_software_signed_by_a_stranger(world):
    repo, evil = world.hub.repo, release(version=2, size=500, seed="evil")
    repo.publishers["detector"] = key("stranger")
    repo.releases["detector"][2] = Release(evil.digest, len(evil.payload))
    repo.new_role("detector")
    repo.new_snapshot()  # with stolen online keys
    world.hub.releases[evil.digest] = evil
    world.hub.desire(DEVICE, evil)
    holds(world, because="not here yet")


def test_endless_data(world):
    huge = Raw(b'{"signed":{"_type":"timestamp","x":"' + b"a" * 20_000 + b'"},"signatures":[]}')
    desired_with(world, lambda trust, _: replace(trust, metadata={"timestamp": huge}))
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    holds(world, because="at most 16384 are taken")
    recovers(world, two)


def test_extraneous_dependencies(world):
    """A publisher stands for nothing but its own model."""
    repo, pose = world.hub.repo, release("pose", 1, size=300)
    repo.releases["detector"][2] = Release(pose.digest, len(pose.payload))
    repo.new_role("detector")
    repo.new_snapshot()
    world.hub.releases[pose.digest] = pose
    world.hub.desire(DEVICE, world.one, pose)
    world.run(600)
    assert world.current("pose") is None
    assert world.hub.count("object") == len(world.one.blobs)
    assert "is not among the versions" in json.dumps(world.hub.reported(DEVICE, "pose"))


def test_fast_forward(world):
    repo = world.hub.repo
    repo.now = NOW + 20 * 365 * DAY
    world.hub.clock, true = type(world.clock)(), world.hub.clock
    world.hub.clock.sleep(20 * 365 * DAY)
    repo.new_snapshot()  # the thief numbers them twenty years ahead
    world.run(100)
    assert world.agent._site.trust.chain.held()["timestamp"] > NOW + 19 * 365 * DAY
    world.hub.clock = true
    repo.now = NOW + true.monotonic()
    repo.versions.update(snapshot=1, timestamp=1)
    repo.snapshot_key, repo.timestamp_key = key("new snapshot"), key("new timestamp")
    repo.director_key = key("new director")
    repo.new_root()
    repo.new_targets()
    repo.new_snapshot()
    recovers(world, world.hub.publish(release(version=2, size=700)))


def test_indefinite_freeze_by_replay(world):
    """The network plays an old answer again: it does not hold this question's nonce."""
    kept: list[SyncReply] = []

    def play_again(_device, _request, reply):
        kept.append(reply)
        return kept[0]

    world.hub.spoil = play_again
    world.run(200)
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    world.hub.log.clear()
    world.run(600)
    assert world.current() == world.one.digest
    assert world.agent._site.trust.refused.message.startswith("the director's order answers another question")
    recovers(world, two)


def test_indefinite_freeze_by_a_hub_that_signs_nothing_new(world):
    """Expired metadata keep everything new out, never what runs; and the operator sees it."""
    repo = world.hub.repo
    repo.signed = float("inf")  # it never signs again
    world.clock.sleep(8 * DAY)
    world.run(200)
    two = release(version=2, size=700)
    before = dict(repo.documents)
    world.hub.releases[two.digest] = two
    repo.releases["detector"][2] = Release(two.digest, len(two.payload))
    repo.new_role("detector")
    repo.documents["snapshot"], repo.documents["timestamp"] = before["snapshot"], before["timestamp"]
    world.hub.desire(DEVICE, two)
    told = holds(world, because="expired on")
    assert told["agent"]["stale"]["code"] == "unavailable"
    repo.new_snapshot()
    recovers(world, world.hub.publish(two))
    world.settle()
    assert "stale" not in world.hub.twins[DEVICE].reported.values["agent"]


def test_malicious_mirror(world):
    """Who serves the bytes is believed about nothing."""
    two = world.hub.publish(release(version=2, size=700))
    for digest in two.blobs:
        if digest not in world.one.blobs:
            world.hub.objects[digest] = bytes(len(two.blobs[digest]))
    world.hub.desire(DEVICE, two)
    world.settle()
    assert world.current() == world.one.digest
    assert world.reported()["target"]["fault"]["code"] == "corrupt"


def test_mix_and_match(world):
    """Documents of different moments do not go together, however well each is signed."""
    old = dict(world.hub.repo.documents)
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    desired_with(
        world,
        lambda trust, _: replace(trust, metadata={**trust.metadata, "snapshot": Raw(old["snapshot"])}),
    )
    holds(world, because="metadata of snapshot")
    desired_with(
        world,
        lambda trust, _: replace(
            trust, metadata={**trust.metadata, role_of("detector"): Raw(old[role_of("detector")])}
        ),
    )
    holds(world, because="not here yet")
    recovers(world, two)


def test_rollback_of_metadata(world):
    old = dict(world.hub.repo.documents)
    world.clock.sleep(DAY)
    two = world.hub.publish(release(version=2, size=700))
    world.run(200)
    desired_with(world, lambda trust, _: replace(trust, metadata={"timestamp": Raw(old["timestamp"])}))
    world.hub.desire(DEVICE, two)
    holds(world, because="would be a way back")
    recovers(world, two)


def test_rollback_of_desired(world):
    """An order of old, signed anew for this question by a stolen director's key: its number is below the one obeyed."""
    two = world.hub.publish(release(version=2, size=700))
    mine = world.hub.twins[DEVICE]
    before = mine.desired
    world.hub.desire(DEVICE, two)
    world.settle()
    world.one = two
    mine.desired = before
    holds(world, because="is older than")


def test_rollback_below_the_publishers_floor(world):
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    world.settle()
    world.hub.repo.floors["detector"] = 2
    world.hub.repo.new_role("detector")
    world.hub.repo.new_snapshot()
    world.hub.desire(DEVICE, world.one)  # still installed, yet not gone back to
    world.one, back = two, world.one
    holds(world, because="withdrew all versions below 2")
    world.hub.repo.floors["detector"] = 1
    world.hub.repo.new_role("detector")
    world.hub.repo.new_snapshot()
    world.settle()
    assert world.current() == back.digest


def test_key_compromise_of_a_publisher(world):
    """A stolen publisher's key is worth nothing once the targets role names another."""
    repo = world.hub.repo
    repo.publishers["detector"] = key("new publisher")
    repo.new_targets()
    repo.new_role("detector")
    repo.new_snapshot()
    world.run(200)
    evil = release(version=2, size=500, seed="evil")
    world.hub.releases[evil.digest] = evil
    repo.releases["detector"][2] = Release(evil.digest, len(evil.payload))
    signed = repository.role("detector", repo.releases["detector"], 1, repo.versions[role_of("detector")] + 1, repo.now)
    repo.versions[role_of("detector")] += 1
    from tests.sim.repository import PUBLISHER

    repo.documents[role_of("detector")] = repository.sign(signed, [PUBLISHER])
    repo.new_snapshot()
    world.hub.desire(DEVICE, evil)
    holds(world, because="not here yet")


def test_key_compromise_below_the_threshold_of_roots(world):
    """One root key of two signs a root of its own."""
    from tests.sim.repository import ROOTS

    repo = world.hub.repo
    repo.root_keys = [ROOTS[0], key("thief")]
    root = repo.new_root()
    repo.roots.pop()
    desired_with(world, lambda trust, request: replace(trust, roots=(Raw(root),)))
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    holds(world, because="signed by 1 trusted keys, 2 are needed")
    recovers(world, two)


def test_wrong_software_for_the_device(world):
    """Another device's order, well signed and fresh, is not this one's."""
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire("other", two)
    theirs = world.hub.twins["other"].desired

    def swap(_device, request, reply):
        from farshore.core import twin

        desired = twin.wire(theirs)
        order = world.hub.repo.order("other", desired, request.nonce)
        return replace(reply, desired=desired, trust=replace(reply.trust, order=Raw(order)))

    world.hub.spoil = swap
    world.run(600)
    assert world.current() == world.one.digest
    assert "is for other" in world.agent._site.trust.refused.message


def test_wrong_software_under_another_models_name(world):
    """A publisher's manifest of its own model, desired under another's name."""
    pose = world.hub.publish(release("pose", 2, size=300))
    mine = world.hub.twins[DEVICE]
    from farshore.core import twin

    models = {"detector": {"version": 2, "digest": pose.digest}}
    mine.desired = twin.replace(
        mine.desired, {"models": models}, "2026-01-02T03:04:05.0000000Z", limit=1 << 15, versioned=True
    )
    holds(world, because="is not among the versions")


def test_partial_bundle(world):
    """What belongs to an answer is left out of it."""
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    for left_out in ("snapshot", role_of("detector")):
        desired_with(
            world,
            lambda trust, _, name=left_out: replace(
                trust, metadata={role: raw for role, raw in trust.metadata.items() if role != name}
            ),
        )
        holds(world, because="")
    desired_with(world, lambda _trust, _request: None)
    holds(world, because="not signed")
    recovers(world, two)


def test_drop_request(world):
    """Nothing comes through for a month: what runs goes on, and the first word that does come is obeyed."""
    world.link.up = False
    world.clock.sleep(30 * DAY)
    world.run(3600)
    assert world.current() == world.one.digest == world.serving()
    assert world.agent._site.trust.stale() is not None
    world.link.up = True
    recovers(world, world.hub.publish(release(version=2, size=700)))


def test_a_changed_section_under_a_true_order(world):
    """The order names the digest of the desired section: not one member of it can be changed on the way."""
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two, retry=1)

    def change(_device, _request, reply):
        desired = json.loads(json.dumps(reply.desired)) if reply.desired else None
        if desired:
            desired["models"]["detector"]["retry"] = 2
        return replace(reply, desired=desired)

    world.hub.spoil = change
    holds(world, because="about another desired section")
    recovers(world, two)


@pytest.mark.parametrize(
    "now", [0.0, 86400.0 * 365, NOW + 20 * 365 * DAY, 2.0**40], ids=["1970", "1971", "+20y", "far"]
)
def test_a_clock_that_is_wrong_by_decades(tmp_path, now):
    """It neither bricks the device nor lets an old release in: the hub's time counts, and it is kept."""
    world = World(tmp_path)
    world.clock.jump(now - world.clock.now())
    world.one = world.hub.publish(release(version=1, size=1000))
    world.hub.desire(DEVICE, world.one)
    world.settle()
    assert world.current() == world.one.digest
    old = dict(world.hub.repo.documents)
    world.clock.sleep(3 * DAY)
    two = world.hub.publish(release(version=2, size=700))
    world.hub.desire(DEVICE, two)
    world.settle()
    world.reboot()
    world.clock.jump(now - world.clock.now())
    assert world.current() == two.digest
    desired_with(world, lambda trust, _: replace(trust, metadata={name: Raw(old[name]) for name in trust.metadata}))
    world.run(600)
    trust = world.agent._site.trust
    assert trust.chain.held()["timestamp"] > NOW + 2 * DAY
    assert trust.now().timestamp() >= NOW + 3 * DAY - 1
    assert trust.chain.roles[role_of("detector")].version == 2
    world.one = two
    recovers(world, world.hub.publish(release(version=3, size=800)))


def test_a_clock_that_jumps_all_the_time(world):
    import random

    chance, last = random.Random(5), world.one
    for number in range(2, 8):
        world.clock.jump(chance.uniform(-1.7e9, 1.7e9))
        if number % 3 == 0:
            world.reboot()
        last = world.hub.publish(release(version=number, size=100 * number))
        world.hub.desire(DEVICE, last)
        world.settle()
        assert world.current() == last.digest


def test_a_stolen_directors_key_cannot_push_the_device_into_a_future_it_does_not_come_back_from(world):
    far = int(NOW) + 50 * 365 * DAY
    repo = world.hub.repo

    def lie(_device, request, reply):
        from farshore.core import twin

        desired = twin.wire(world.hub.twins[DEVICE].desired)
        order = repo.order(DEVICE, desired, request.nonce, issued=far, expires=far + LIFE)
        return replace(reply, trust=replace(reply.trust, order=Raw(order)))

    world.hub.spoil = lie
    world.run(200)
    assert world.agent._site.trust.stale() is not None
    world.reboot()
    recovers(world, world.hub.publish(release(version=2, size=700)))
