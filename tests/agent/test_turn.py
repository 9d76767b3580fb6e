"""The whole agent against a simulated hub, link and inference server, on virtual time."""

from __future__ import annotations

import random

import pytest
from tests.sim.clock import VirtualClock
from tests.sim.releases import noise, release
from tests.sim.world import DEVICE

from farshore.core import digest as digests
from farshore.core.control import COUNTED
from farshore.core.errors import Invalid, Unavailable
from farshore.core.wire import Route
from farshore.store import files
from farshore.store.blobs import CHUNK

YEAR = 365 * 86400.0


def publish(world, *numbers, **how):
    return [world.hub.publish(release(version=number, **how)) for number in numbers]


def weights_of(one):
    """The digest of a release's model file."""
    return max(one.blobs, key=lambda digest: len(one.blobs[digest]))


def running(world, *releases):
    """Bring the world to run each of ``releases`` after the other."""
    for one in releases:
        world.hub.desire(DEVICE, one)
        world.settle()
        assert world.current() == world.serving() == one.digest


def test_a_version_is_delivered_and_reported(world):
    (first,) = publish(world, 1)
    world.hub.desire(DEVICE, first)
    world.settle()
    assert world.current() == world.serving() == first.digest
    said = world.reported()
    assert said.pop("trial")["digest"] == first.digest
    assert said == {
        "current": {"version": 1, "digest": first.digest, "variant": "main"},
        "fetched": first.size,
    }
    assert world.link.moved == first.size
    assert [call[0] for call in world.server.calls] == ["probe", "switch"]


def test_an_idle_agent_only_holds_syncs(world):
    running(world, *publish(world, 1))
    world.hub.log.clear()
    world.run(3600)
    assert {what for what, _ in world.hub.log} == {"sync"}
    assert world.hub.count("sync") <= 3600 / 55 + 2
    assert all(reported == "None" for _, reported in world.hub.log)


def test_where_the_hub_does_not_hold_the_agent_paces_itself(world, monkeypatch):
    running(world, *publish(world, 1))
    monkeypatch.setattr(world.link, "clock", VirtualClock())  # the hub's waiting takes no time on ours
    world.hub.log.clear()
    world.run(3600)
    assert world.hub.count("sync") <= 3600 / 30 + 2


def test_an_agent_that_is_run_once_has_the_last_word(world):
    """Also where it told its progress a moment ago, and the hub asked to be left alone for a while."""
    (first,) = publish(world, 1)
    world.hub.retry, world.link.rate = 3600.0, 2000.0
    world.hub.desire(DEVICE, first)
    while world.agent.turn(hold=False):
        pass
    assert world.reported()["current"]["version"] == 1
    assert len([said for what, said in world.hub.log if what == "sync" and "downloading" in str(said)]) > 0


def test_only_what_differs_is_fetched(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.link.moved = 0
    running(world, second)
    assert world.link.moved == 300_000  # labels and picture are the same
    assert world.reported()["previous"]["version"] == 1


def test_the_hub_is_away_for_a_week(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.link.up = False
    world.hub.desire(DEVICE, second)
    world.run(7 * 86400)
    assert world.current() == world.serving() == first.digest
    world.link.up = True
    before = world.clock.monotonic()
    while world.current() != second.digest:
        world.agent.turn()
    assert world.clock.monotonic() - before < 700  # the longest pause between two tries, and the update


def test_an_agent_started_without_a_hub_serves_what_it_knows(world):
    running(world, *publish(world, 1))
    world.link.up = False
    world.reboot()
    world.run(3600)
    assert world.serving() is not None


def test_of_two_changes_in_a_row_only_the_last_counts(world):
    first, second, third = publish(world, 1, 2, 3)
    running(world, first)
    world.link.up = False
    world.hub.desire(DEVICE, second)
    world.run(100)
    world.hub.desire(DEVICE, third)
    world.run(100)
    world.link.up = True
    world.link.moved = 0
    world.settle()
    assert world.current() == third.digest
    assert world.link.moved == 300_000


def test_desired_changes_in_mid_download(make_world):
    world = make_world(slice=1.0, poll=5.0)
    first, second, third = publish(world, 1, 2, 3)
    running(world, first)
    world.link.rate, world.link.moved = 10_000, 0
    world.hub.desire(DEVICE, second)
    world.run(15)
    assert 0 < world.link.moved < 300_000
    assert world.reported()["target"]["state"] == "downloading"
    assert 0 < world.reported()["target"]["done"] < second.size
    world.hub.desire(DEVICE, third)
    world.settle()
    assert world.current() == third.digest
    assert not world.blobs.partial_sizes()


def test_desired_goes_back_in_mid_download(make_world):
    world = make_world(slice=1.0, poll=5.0)
    first, second = publish(world, 1, 2)
    running(world, first)
    world.link.rate = 10_000
    world.hub.desire(DEVICE, second)
    world.run(15)
    world.hub.desire(DEVICE, first)
    world.settle()
    assert world.current() == world.serving() == first.digest
    assert "target" not in world.reported()
    assert not world.blobs.partial_sizes()
    assert world.hub.twins[DEVICE].reported.values["models"]["detector"]["fetched"] < first.size + second.size


@pytest.mark.parametrize("cut", [0, 1, 65_535, 65_536, 65_537, 299_999])
def test_a_link_cut_at_any_byte_wastes_less_than_a_chunk(world, cut):
    (first,) = publish(world, 1)
    world.link.cuts = [cut] * 4
    running(world, first)
    assert world.link.moved <= first.size + 4 * CHUNK


def test_a_link_that_never_carries_a_whole_file_gets_there(make_world):
    world = make_world()
    (first,) = publish(world, 1, size=1_000_000)
    world.link.cuts = [CHUNK] * 100
    running(world, first)
    assert world.link.moved <= first.size


def test_a_server_without_ranges(world):
    (first,) = publish(world, 1)
    world.link.ranges = False
    world.link.cuts = [200_000]
    running(world, first)
    assert world.link.moved == first.size + 200_000


def test_wrong_bytes_are_given_up_after_three_tries_and_taken_up_again_on_request(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    weights = weights_of(second)
    right = world.hub.objects[weights]
    world.hub.objects[weights] = noise(len(right), "wrong")
    world.link.moved = 0
    world.hub.desire(DEVICE, second)
    world.settle()
    world.run(86400)
    assert world.current() == world.serving() == first.digest
    assert world.link.moved == 3 * len(right)
    assert world.reported()["target"]["state"] == "failed"
    assert world.reported()["target"]["fault"]["code"] == "corrupt"
    world.hub.objects[weights] = right
    world.run(86400)
    assert world.current() == first.digest  # it does not try by itself
    world.hub.desire(DEVICE, second, retry=1)
    world.settle()
    assert world.current() == second.digest


@pytest.mark.parametrize("tampered", ["damaged", "other model", "other version", "other bytes"])
def test_no_byte_is_fetched_for_a_manifest_that_is_not_the_one_meant(world, tampered):
    first, second = publish(world, 1, 2)
    running(world, first)
    forged = {
        "damaged": second.payload.replace(b'"version":2', b'"version":3'),
        "other model": release("pose", 2).payload,
        "other version": first.payload,
        "other bytes": release(version=2, seed="!").payload,
    }[tampered]
    world.hub.releases[second.digest] = type(second)(second.manifest, forged, second.digest, second.blobs)
    world.hub.log.clear()
    world.hub.desire(DEVICE, second)
    world.settle()
    world.run(86400)
    assert world.current() == first.digest
    assert world.hub.count("manifest") == 3
    assert world.hub.count("tickets") == world.hub.count("object") == 0
    assert world.reported()["target"]["fault"]["code"] == "corrupt"


def test_too_little_disk_is_said_before_the_first_byte(make_world):
    world = make_world(quota=500_000)
    first, second = publish(world, 1, 2)
    running(world, first)
    world.hub.log.clear()
    world.hub.desire(DEVICE, second)
    world.settle()
    assert world.hub.count("tickets") == world.hub.count("object") == 0
    assert world.reported()["target"]["state"] == "failed"
    assert "too little disk" in world.reported()["target"]["fault"]["message"]
    assert world.current() == world.serving() == first.digest


def test_the_quota_costs_the_previous_version_but_never_the_current(make_world):
    world = make_world(quota=700_000)
    versions = publish(world, 1, 2, 3)
    running(world, *versions)
    assert [entry.version for entry in world.slots.installed("detector")] == [2, 3]
    assert world.blobs.used() <= 700_000


def test_a_closed_window(make_world):
    world = make_world(windows=["22:00-06:00Z"])
    (first,) = publish(world, 1)
    noon = 1_800_014_400.0 // 86400 * 86400 + 12 * 3600
    world.clock.jump(noon - world.clock.now())
    world.hub.desire(DEVICE, first)
    world.run(3 * 3600)
    assert world.hub.count("tickets") == 0
    assert world.reported()["target"]["state"] == "waiting"
    assert "window" in world.reported()["target"]["fault"]["message"]
    world.run(8 * 3600)
    assert world.current() == first.digest


def test_a_window_that_closes_in_mid_download(make_world):
    world = make_world(windows=["00:00-00:10Z"], slice=5.0)
    (first,) = publish(world, 1)
    world.clock.jump(86400 - world.clock.now() % 86400)
    world.link.rate = 300
    world.hub.desire(DEVICE, first)
    world.run(3600)
    moved = world.link.moved
    assert 0 < moved < first.size
    world.run(3600)
    assert world.link.moved == moved
    world.run(86400 * 3)
    assert world.current() == first.digest
    assert world.link.moved <= first.size + 3 * CHUNK


def test_the_rate_cap(make_world):
    world = make_world(rate=10_000)
    (first,) = publish(world, 1)
    world.hub.desire(DEVICE, first)
    start = world.clock.monotonic()
    while world.current() is None:
        world.agent.turn()
    assert world.clock.monotonic() - start >= (first.size - 10_000) / 10_000


def test_a_version_that_fails_its_probe_gets_no_request(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.server.unfit.add(second.digest)
    world.hub.desire(DEVICE, second)
    world.settle()
    world.run(86400)
    assert world.current() == world.serving() == first.digest
    assert ("switch", "detector", second.digest) not in world.server.calls
    assert world.server.calls.count(("probe", "detector", second.digest)) == 1
    assert world.reported()["target"]["fault"]["message"] == "scene: expected a cat"
    world.hub.desire(DEVICE, first)
    world.settle()
    world.server.unfit.clear()
    world.link.moved = 0
    running(world, second)  # desired changed away and back: tried again


@pytest.mark.parametrize("vice", ["crashing", "failing"])
def test_a_version_that_fails_its_trial_is_rolled_back_without_a_hub(world, vice):
    first, second = publish(world, 1, 2)
    running(world, first)
    getattr(world.server, vice).add(second.digest)
    world.hub.desire(DEVICE, second)
    while world.current() == first.digest:
        world.agent.turn()
    world.link.up = False
    world.run(60)
    assert world.current() == world.serving() == first.digest
    world.link.up = True
    world.run(1000)
    assert world.reported()["target"]["state"] == "failed"
    assert "trial" in world.reported()["target"]["fault"]["message"]
    assert world.server.calls.count(("switch", "detector", second.digest)) == 1


def test_a_version_that_takes_the_machine_down_is_rolled_back_without_a_hub(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.hub.desire(DEVICE, second)
    while world.current() == first.digest:
        world.agent.turn()
    world.link.up = False
    world.reboot()
    world.agent.turn()
    assert world.current() == second.digest  # once may be chance
    world.reboot()
    world.run(30)
    assert world.current() == world.serving() == first.digest


def test_it_is_rolled_back_before_the_inference_server_may_begin(world):
    """The links are turned in the agent's first moments, with neither hub nor server: only then is the start noted as counted."""
    first, second = publish(world, 1, 2)
    running(world, first)
    world.hub.desire(DEVICE, second)
    while world.current() == first.digest:
        world.agent.turn()
    world.link.up = world.server.up = False
    counted = world.settings.root / COUNTED
    for number in (1, 2):
        assert world.current() == second.digest
        world.boot += "+"
        world.start_agent()
        assert counted.read_text() == world.boot
        assert world.current() == (first.digest if number == 2 else second.digest)
    world.server.up = True
    world.server.restart()
    assert world.serving() == first.digest
    world.run(30)
    assert "machine restarted 2 times" in world.journal().failed.message


def test_a_version_whose_probe_takes_the_machine_down_is_given_up(world, monkeypatch):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.hub.desire(DEVICE, second)

    class Dead(BaseException):
        pass

    def die(*_):
        raise Dead

    deaths = 0
    with monkeypatch.context() as patch:
        patch.setattr(world.server, "probe", die)
        for _ in range(10):
            try:
                world.run(600)
            except Dead:
                deaths += 1
                world.reboot()
    assert deaths == 3
    assert world.current() == world.serving() == first.digest
    assert world.reported()["target"]["state"] == "failed"


def test_a_damaged_current_version_gives_way_to_the_previous_one(world):
    first, second = publish(world, 1, 2)
    running(world, first, second)
    weights = world.slots.current("detector").file("model.onnx")
    weights.chmod(0o644)
    weights.write_bytes(b"scrambled")
    world.link.up = False
    world.reboot()
    assert world.current() == first.digest
    world.link.up = True
    world.settle()
    assert world.current() == second.digest  # fetched again: it is still desired
    world.slots.verify(world.slots.current("detector"))


def test_a_current_version_without_a_readable_manifest_gives_way_to_the_previous_one(world):
    first, second = publish(world, 1, 2)
    running(world, first, second)
    (world.slots.current("detector").path / "manifest.json").unlink()
    world.link.up = False
    world.reboot()
    assert world.current() == first.digest
    world.link.up = True
    world.settle()
    assert world.current() == second.digest


def test_the_report_names_what_answers(world):
    first, second = publish(world, 1, 2)
    running(world, first, second)
    world.server.serving["detector"] = (first.digest, 0.0)  # the server has gone back by itself, after the trial
    world.settle()
    assert world.reported()["current"]["version"] == 1
    assert world.reported()["target"]["state"] == "failed"
    assert "could not live" in world.reported()["target"]["fault"]["message"]


def test_a_server_that_keeps_nothing_warm_is_asked_to_probe_again(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.server.forgetful = True
    running(world, second)
    assert [call[0] for call in world.server.calls[-4:]] == ["probe", "switch", "probe", "switch"]


def test_a_server_that_is_away_delays_the_switch_only(world):
    first, second = publish(world, 1, 2)
    running(world, first)
    world.server.up = False
    world.hub.desire(DEVICE, second)
    world.run(600)
    assert world.slots.find("detector", second.digest)
    assert world.reported()["target"]["state"] == "waiting"
    world.server.up = True
    world.settle()
    assert world.current() == second.digest


def test_no_server_on_this_device(make_world):
    world = make_world(serve="none")
    first, second = publish(world, 1, 2)
    for one in (first, second):
        world.hub.desire(DEVICE, one)
        world.settle()
        assert world.current() == one.digest
    assert world.journal().trial is None


def test_a_variant_that_does_not_fit_is_refused_with_the_reason(world):
    (big,) = publish(world, 1, memory=1 << 53)
    world.hub.desire(DEVICE, big)
    world.settle()
    assert world.hub.count("tickets") == 0
    assert "no variant fits" in world.reported()["target"]["fault"]["message"]


def test_several_models_and_one_dropped(world):
    first, pose = world.hub.publish(release("detector")), world.hub.publish(release("pose.v1", size=5000))
    world.hub.desire(DEVICE, first, pose)
    world.settle()
    assert world.reported("pose.v1")["current"]["version"] == 1
    world.hub.desire(DEVICE, first)
    world.settle()
    assert world.slots.models() == ["detector"]
    assert world.serving("pose.v1") is None
    assert set(world.hub.twins[DEVICE].reported.values["models"]) == {"detector"}
    assert set(world.blobs.digests()) == set(first.blobs)


def test_desired_that_is_not_understood_leaves_everything_as_it_is(world):
    (first,) = publish(world, 1)
    running(world, first)
    mine = world.hub.twins[DEVICE]
    mine.desired = mine.desired.__class__({"models": {"detector": 7}}, {}, mine.desired.version + 1)
    world.hub.log.clear()
    world.run(600)
    assert world.current() == first.digest
    assert mine.reported.values["agent"]["fault"]["code"] == "invalid"
    assert world.hub.count("sync") < 25
    running(world, first)
    assert "fault" not in mine.reported.values["agent"]


def test_a_report_that_the_hub_refuses_does_not_keep_it_from_hearing(world, monkeypatch):
    first, second = publish(world, 1, 2)
    running(world, first)
    original = world.hub.sync

    def deaf(credential, request):
        if request.reported is not None:
            raise Invalid("too many keys")
        return original(credential, request)

    monkeypatch.setattr(world.hub, "sync", deaf)
    world.hub.desire(DEVICE, second)
    world.run(3600)
    assert world.current() == second.digest


@pytest.mark.parametrize("years", [-50, 20])
def test_a_clock_that_jumps_by_decades(world, years):
    first, second, third = publish(world, 1, 2, 3)
    running(world, first)
    world.link.cuts = [1000, 2000]
    world.hub.desire(DEVICE, second)
    world.run(61)
    world.clock.jump(years * YEAR)
    world.run(600)
    assert world.current() == second.digest
    world.clock.jump(-years * YEAR)
    running(world, third)


def test_a_disk_that_fills_up_elsewhere(world, monkeypatch):
    """What runs goes on, and when there is room again, so does the update."""
    first, second = publish(world, 1, 2)
    running(world, first)

    def full(*_args, **_kwargs):
        raise Unavailable("disk full while writing: free some space, then try again")

    world.hub.desire(DEVICE, second)
    with monkeypatch.context() as patch:
        for name in ("write_atomic", "write_all", "publish"):
            patch.setattr(files, name, full)
        for _ in range(50):
            try:
                world.agent.turn()
            except Unavailable:
                world.agent.stumble()
        assert world.current() == world.serving() == first.digest
    world.settle()
    assert world.current() == second.digest


def test_a_patch_is_applied_and_a_bad_one_passed_over(make_world):
    """A patch here is the head of the target; applying it adds the rest, as a decoder takes that from the base."""
    bodies = {}

    def apply(patch, bases):
        assert all(base.read_bytes() for base in bases)
        head = patch.read_bytes()
        yield head
        yield next(body for body in bodies.values())[len(head) :]

    world = make_world(apply=apply)
    first, second, third = publish(world, 1, 2, 3)
    running(world, first)
    base = weights_of(first)
    for one, head in ((second, None), (third, b"wrong")):
        target = weights_of(one)
        bodies = {target: one.blobs[target]}
        data = head or bodies[target][:1000]
        patch = digests.of(data)
        world.hub.objects[patch] = data
        world.hub.patches[target] = [Route("", patch, len(data), "patch", (base,))]
        world.link.moved = 0
        running(world, one)
        assert world.link.moved == len(data) + (300_000 if head else 0)
        assert patch not in world.blobs.digests()


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(n, marks=pytest.mark.deep) for n in range(6, 200))])
def test_bad_weather(make_world, seed):
    """Lost requests, lost answers, cuts, kills, reboots, versions that are no good, a server that comes and goes, changes of
    mind: in the end all agree.
    """
    chance = random.Random(seed)
    world = make_world(slice=1.0, poll=5.0)
    versions = [
        world.hub.publish(release(version=number, size=chance.randrange(1, 300_000))) for number in (1, 2, 3, 4)
    ]
    world.server.unfit.add(versions[2].digest)
    world.server.crashing.add(versions[1].digest)
    running(world, versions[0])
    world.link.chance = chance
    for _ in range(12):
        world.link.lose_before, world.link.lose_after = chance.choice([0, 0.2, 0.5]), chance.choice([0, 0.2, 0.5])
        world.link.cuts = [chance.randrange(200_000) for _ in range(chance.randrange(4))]
        world.link.rate = chance.choice([None, 2_000, 50_000])
        world.hub.desire(DEVICE, chance.choice(versions))
        world.server.up = chance.random() < 0.8
        world.server.forgetful = chance.random() < 0.2
        world.run(chance.uniform(0, 60))
        if chance.random() < 0.2:
            world.server.restart()
        if chance.random() < 0.3:
            chance.choice([world.start_agent, world.reboot])()
        assert world.current() is not None and world.current() != versions[2].digest
        world.slots.verify(world.slots.current("detector"))
    world.server.up = True
    world.link.lose_before = world.link.lose_after = 0.0
    world.link.cuts, world.link.rate = [], None
    world.hub.desire(DEVICE, versions[3])
    world.run(2000)
    assert world.current() == world.serving() == versions[3].digest
    world.settle()
    mine = world.reported()
    assert mine["current"]["digest"] == versions[3].digest
    assert "target" not in mine
    assert (
        world.slots.previous("detector") is None
        or mine["previous"]["digest"] == world.slots.previous("detector").digest
    )
