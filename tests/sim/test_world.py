"""Fleets on virtual time: a real hub, real deciders, and stories told by seeds."""

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from farshore import delta
from farshore.hub.plans import Asked
from farshore.hub.records.ledger import Link
from farshore.hub.rollout import ENDED, Budget, Gate, Terms, Wave
from farshore.sim.device import Behaviour
from farshore.sim.world import MODEL, Faults, World

FAST = Path("/dev/shm")
GOOD = Behaviour()
BAD = {
    "worse": Behaviour(agreement=0.5),
    "slow": Behaviour(latency=3.0),
    "crashing": Behaviour(crashes=20.0),
    "unfit": Behaviour(fit=False),
}
ODD = {"seeing": Behaviour(seen=0.6), "sure": Behaviour(surer=0.25), "failing": Behaviour(errors=0.4)}
WAVES = (Wave(count=5), Wave(percent=25), Wave(percent=100))
GATE = Gate(soak=30, agreement=0.9, latency=1.5, quorum=3, shadow=0.5, shadow_answers=40)


@pytest.fixture
def world_of(tmp_path):
    """Make a world; its hub is closed with the test."""
    made = []

    def make(seed, count, **more):
        folder = tmp_path / str(len(made))
        if FAST.is_dir() and os.access(FAST, os.W_OK):
            folder = Path(tempfile.mkdtemp(dir=FAST, prefix="farshore-sim-"))
        made.append((World(folder, seed, count, **more), folder))
        return made[-1][0]

    yield make
    for world, folder in made:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


def release(world, behaviour=GOOD, model=MODEL):
    number = len(world.behaviours) + 1
    return world.release({"net.onnx": random.Random(number).randbytes(20_000)}, behaviour, model)


def versions(world, model=MODEL):
    """How many devices run which version; 0 for none."""
    found = {}
    for one in world.devices.values():
        running = one.running(model)
        number = 0 if running is None else running.number
        found[number] = found.get(number, 0) + 1
    return found


def settled(world_of, seed=1, count=100, **more):
    world = world_of(seed, count, **more)
    ref = release(world)
    world.hub.deployments.put("prod", "*", ref, 0)
    world.run(400)
    return world


def test_a_good_version_reaches_everybody_wave_by_wave(world_of):
    world = settled(world_of)
    assert versions(world) == {1: 100}
    world.hub.rollouts.start("r", "prod", "", release(world), WAVES, GATE, 0)
    world.run(900)
    found, tallies = world.hub.rollouts.one("r")
    assert found.now.state == "done"
    assert versions(world) == {2: 100}
    assert tallies[0].admitted == 5
    assert sum(one.confirmed for one in tallies) == 100
    kinds = [text for _, text in world.story if text.startswith("r:")]
    assert kinds == ["r: rollout started", "r: rollout advanced", "r: rollout advanced", "r: rollout done"]


@pytest.mark.parametrize("offline", [0.0, 0.3])
@pytest.mark.parametrize("kind", [*BAD])
def test_a_bad_version_stops_in_the_first_wave_and_the_rest_never_hear_of_it(world_of, kind, offline):
    world = settled(world_of, faults=Faults(offline=offline))
    before = versions(world)
    world.hub.rollouts.start("r", "prod", "", release(world, BAD[kind]), WAVES, GATE, 0)
    world.run(600)
    found, tallies = world.hub.rollouts.one("r")
    assert (found.now.state, found.now.wave) == ("rolled back", 0)
    assert found.now.reason.startswith("wave 1: ")
    said = {
        "worse": "answers agree",
        "slow": "times as long as the version before",
        "crashing": "failed",
        "unfit": "failed",
    }[kind]
    assert said in found.now.reason
    assert versions(world) == before
    assert tallies[0].admitted <= 5
    assert tallies[1].admitted == tallies[2].admitted == 0
    tried = [one for one in world.devices.values() if (MODEL, 2) in one.history]
    assert len(tried) == (tallies[0].admitted if kind == "slow" else 0), "only who answers well is met by anybody"
    heard = [one for one in world.devices.values() if one.notes.notes.seen > 2]
    assert len(heard) == tallies[0].admitted
    if offline:
        assert 0 in before
    for one in heard[:1]:
        text = " ".join(reason.text for reason in world.hub.fleet.why(one.name, MODEL, 60.0))
        assert f"rollout r to {MODEL}@2 was rolled back: {found.now.reason}" in text


@pytest.mark.parametrize(
    ("kind", "gate", "said"),
    [
        ("seeing", {"class_shift": 0.2}, "of findings are of other classes than the previous version's (ship 3"),
        ("sure", {"score_shift": 0.25}, "confidences have a stability index of"),
        ("failing", {"errors": 0.2}, "requests failed in its shadow; at most 0.2 of them may"),
    ],
)
def test_a_version_that_sees_another_world_is_stopped_too(world_of, kind, gate, said):
    """Each device finds it well enough; together they know better."""
    world = settled(world_of)
    asked = Gate(soak=30, quorum=3, compared=100, shadow=0.5, shadow_answers=40, **gate)
    world.hub.rollouts.start("r", "prod", "", release(world, ODD[kind]), WAVES, asked, 0)
    world.run(600)
    found, tallies = world.hub.rollouts.one("r")
    assert (found.now.state, found.now.wave) == ("rolled back", 0)
    assert said in found.now.reason
    assert versions(world) == {1: 100}
    assert tallies[1].admitted == 0


def test_nobody_asks_for_a_shadow_where_nothing_is_to_be_compared(world_of):
    world = settled(world_of, count=10)
    world.hub.rollouts.start("r", "prod", "", release(world, BAD["worse"]), WAVES, Gate(soak=0), 0)
    world.run(300)
    assert versions(world) == {2: 10}
    assert all(one.notes.note(MODEL).shadow is None for one in world.devices.values())


def test_the_same_seed_tells_the_same_story(world_of):
    def story(seed):
        world = settled(world_of, seed=seed, count=20, faults=Faults(reply=0.1, outages=20.0, reboots=5.0))
        world.hub.rollouts.start("r", "prod", "", release(world, BAD["worse"]), WAVES, GATE, 0)
        world.run(400)
        return world.story, {name: one.history for name, one in world.devices.items()}

    assert story(3) == story(3)
    assert story(3) != story(4)


@pytest.mark.skipif(not delta.COMPILED, reason="patches need the compiled kernel")
def test_a_plan_is_what_the_ledger_shows_afterwards(world_of):
    """Devices that hold one version, another, both, another model, or nothing: each moves just what was foreseen."""
    body = random.Random(1).randbytes(60_000)
    first, second, third = body, edited(body, 2), edited(body, 3)
    world = world_of(5, 100, rates=(1e6,), builders=1)
    rings = lambda *numbers: f"tags.ring IN [{', '.join(map(str, numbers))}]"  # noqa: E731
    world.release({"net.onnx": first}, GOOD)
    world.release({"net.onnx": second}, GOOD)
    world.release({"net.onnx": edited(body, 4)}, GOOD, "sorter")
    world.hub.deployments.put("one", rings(0, 1, 2, 3), "detector@1", 0)
    world.hub.deployments.put("other", rings(7, 8), "sorter@1", 0)
    world.run(300)
    world.hub.deployments.put("two", rings(3, 4, 5, 6), "detector@2", 1)  # ring 3 keeps the first as well
    world.run(300)
    third_ref = world.release({"net.onnx": third}, GOOD)
    world.hub.deployments.put("firm", "tags.ring = 6 AND tags.site = 'site-1'", "detector@2", 20)
    links = [Link("iridium", 6.5, "EUR", 16_000, (), 10**6, 10**7), Link("lte", 0.01, "EUR", 10**6)]
    for one in links:
        world.hub.ledger.put_link(one)
    hand = {"models": {MODEL: world.hub.fleet.twin("device-000001").desired.values["models"][MODEL]}}
    for number, name in enumerate(sorted(world.devices)):
        world.hub.fleet.change_twin(name, {"tags": {"link": ("iridium", "lte", None)[number % 3]}}, None, replace=False)
    world.hub.fleet.change_twin("device-000001", {"properties": {"desired": hand}}, None, replace=False)
    fetched = {name: one.notes.note(MODEL).fetched for name, one in world.devices.items()}

    plan = world.hub.plans.plan(Asked("all", "*", third_ref, 9), 120.0)
    firm = plan.others["deployment firm"]
    assert plan.exact
    assert {one.route for one in plan.forecasts} == {"patch", "whole"}
    assert firm and plan.others["an operator's hand"] == 1
    assert len(plan.forecasts) == 99 - firm
    world.hub.rollouts.start("r", "all", "*", third_ref, (Wave(percent=100),), Gate(soak=0), 9)
    world.run(600)
    assert versions(world) == {1: 1, 2: firm, 3: 99 - firm}
    for one in plan.forecasts:
        assert world.devices[one.device].notes.note(MODEL).fetched - fetched[one.device] == one.bytes
    rows = world.hub.ledger.sums(("device", "link"), {"rollout": "r"}, "", "", 1000)
    assert {(row.device, row.link, row.bytes) for row in rows} == {
        (one.device, one.link, one.bytes) for one in plan.forecasts
    }
    assert sum(row.money for row in rows) == pytest.approx(sum(one.money for one in plan.forecasts))
    found, tallies = world.hub.rollouts.one("r")
    assert (tallies[0].bytes, found.now.state) == (sum(one.bytes for one in plan.forecasts), "done")


def test_caps_hold_day_by_day(world_of):
    world = world_of(7, 4, faults=Faults(reply=0.05, reboots=5.0))
    ref = release(world)
    world.hub.ledger.put_link(Link("iridium", 6.5, "EUR", 16_000, ("08:00-20:00Z",), 15_000, 100_000))
    for name in world.devices:
        world.hub.fleet.change_twin(name, {"tags": {"link": "iridium"}}, None, replace=False)
    world.run(120)
    world.hub.deployments.put("prod", "*", ref, 0)
    world.run(6 * 3600)  # from the afternoon until the window shuts
    assert versions(world) == {0: 4}
    said = world.hub.fleet.why("device-000000", MODEL, 60.0)[-1]
    assert said.code == "window"
    world.run(14 * 3600)
    assert versions(world) == {1: 4}
    rows = world.hub.ledger.sums(("day", "device"), {}, "", "", 1000)
    assert max(row.bytes for row in rows) == 15_000
    assert {row.device: 0 for row in rows}.keys() == world.devices.keys()


def test_a_rollout_never_goes_beyond_its_budget(world_of):
    world = settled(world_of, seed=9, faults=Faults(request=0.05, reply=0.05, twice=0.05, outages=10.0))
    budget = Budget(bytes=31 * 20_000)
    world.hub.rollouts.start(
        "r", "prod", "", release(world), (Wave(percent=100),), Gate(soak=0), 0, Terms(budget=budget)
    )
    world.run(900)
    found, tallies = world.hub.rollouts.one("r")
    assert found.now.state == "paused"
    assert found.now.reason.startswith("over budget: ")
    assert tallies[0].admitted == 31
    moved = sum(row.bytes for row in world.hub.ledger.sums(("rollout",), {"rollout": "r"}, "", "", 10))
    assert moved <= 31 * 20_000
    world.hub.rollouts.resume("r", Budget(bytes=200 * 20_000))
    world.settle(900)
    assert versions(world) == {2: 100}
    assert world.hub.rollouts.one("r")[0].now.state == "running"
    assert world.hub.rollouts.advance("r")[0].now.state == "done"


def test_blue_green_in_bad_weather(world_of):
    faults = Faults(request=0.05, reply=0.05, twice=0.05, outages=10.0, reboots=5.0, restarts=20.0)
    world = settled(world_of, seed=11, count=40, faults=faults)
    world.hub.rollouts.start("r", "prod", "", release(world), WAVES, Gate(soak=10), 0, Terms(switch=True))
    world.run(1200)
    world.settle(600)
    found, tallies = world.hub.rollouts.one("r")
    assert (found.now.state, found.now.held, found.now.wave) == ("running", True, 2)
    assert sum(one.ready for one in tallies) == 40
    assert versions(world) == {1: 40}
    fetched = {name: one.notes.note(MODEL).fetched for name, one in world.devices.items()}
    world.hub.rollouts.advance("r")
    world.run(300)
    assert versions(world) == {2: 40}
    world.hub.rollouts.roll_back("r", "a story")
    world.run(300)
    assert versions(world) == {1: 40}
    assert {name: one.notes.note(MODEL).fetched for name, one in world.devices.items()} == fetched


def edited(data, seed):
    """``data`` as a later version: some bytes differ."""
    changed = bytearray(data)
    for at in random.Random(seed).sample(range(len(data)), 300):
        changed[at] ^= 1
    return bytes(changed)


def drawn(seed):
    """Waves, a gate, and behaviours that a seed chooses."""
    chance = random.Random(seed)
    steps = sorted(chance.sample(range(1, 90), chance.randint(0, 3)))
    first = [Wave(count=chance.randint(1, 6))] if chance.random() < 0.5 else []
    waves = (*first, *(Wave(percent=float(step)) for step in steps), Wave(percent=100.0))
    gate = Gate(
        soak=chance.choice([0, 20, 60]), quorum=chance.randint(1, 4), failure=chance.choice([0.0, 0.05, 0.2]),
        agreement=0.85, latency=1.5, compared=20, shadow=chance.choice([0.2, 1.0]), shadow_answers=chance.choice([20, 40]), seen=chance.choice([0.5, 0.9]),
        on_failure=chance.choice(["rollback", "pause"]),
    )  # fmt: skip
    return waves, gate, chance.choice([GOOD, GOOD, *BAD.values()]), chance


def check_story(world_of, seed, count):
    """Two rollouts at once in bad weather; then what must hold whatever happened."""
    faults = Faults(
        request=0.05,
        reply=0.08,
        twice=0.05,
        late=0.03,
        outages=30.0,
        outage=120.0,
        reboots=10.0,
        jumps=5.0,
        restarts=60.0,
    )
    world = world_of(seed, count, faults=faults, rates=(8_000.0, 16_000.0, 1e6))
    names = (MODEL, "sorter")
    for name in names:
        world.hub.deployments.put(name, "*", release(world, model=name), 0)
    world.run(300)
    waves, _, _, chance = drawn(seed)
    told = {}
    for number, name in enumerate(names):
        waves, gate, behaviour, _ = drawn(f"{seed} {number}")
        world.hub.rollouts.start(f"r-{name}", name, "", release(world, behaviour, name), waves, gate, 0)
        told[name] = waves
        world.run(60)
    world.run(300)
    if chance.random() < 0.3:
        found, _ = world.hub.rollouts.one(f"r-{MODEL}")
        if found.now.state == "running":
            world.hub.rollouts.pause(f"r-{MODEL}", "a story")
            world.run(60)
            if world.hub.rollouts.one(f"r-{MODEL}")[0].now.state == "paused":
                world.hub.rollouts.resume(f"r-{MODEL}")
    world.run(300)
    world.settle(900)

    entered = {row.device: row.bytes for row in world.hub.ledger.sums(("device",), {}, "", "", 10_000)}
    fetched = {one.name: sum(one.notes.note(name).fetched for name in names) for one in world.devices.values()}
    assert entered == {name: count for name, count in fetched.items() if count}, "the ledger is what devices moved"
    for name in names:
        found, tallies = world.hub.rollouts.one(f"r-{name}")
        for wave, tally in zip(told[name], tallies, strict=True):
            assert wave.count is None or tally.admitted <= wave.count, "more devices than the wave holds"
            assert 0 <= tally.decided <= tally.admitted
        assert not any(one.admitted for one in tallies[found.now.wave + 1 :]), "a wave that never opened"
        for one in world.devices.values():
            row = world.hub.fleet.twin(one.name)
            wanted = row.desired.values["models"][name]
            running = one.running(name)
            given_up = one.notes.note(name).failed is not None or one.states[name].note.failed is not None
            if (
                running is None
            ):  # its first version failed, or took the machine down twice: there is nothing to go back to
                tried = {number for model, number in one.history if model == name}
                assert given_up and len(tried) == 1, "a device without a model"
                continue
            if running.digest != wanted["digest"]:
                assert given_up or found.now.state not in ENDED, f"{one.name} did not converge"
            if found.now.state == "rolled back":
                assert running.number == 1, "rolled back, and still there"
            if found.now.state == "done" and not given_up:
                assert running.number == 2
        member = {
            one.device for one in world.hub.rollouts.members(f"r-{name}", ("admitted", "confirmed", "failed"), 10_000)
        }
        tried = {one.name for one in world.devices.values() if (name, 2) in one.history}
        late = found.now.state == "done"  # after its end the deployment gives the version to all
        assert late or tried <= member, "a device ran a version that it was not given"


@pytest.mark.parametrize("seed", range(2))
def test_stories(world_of, seed):
    check_story(world_of, seed, 25)


@pytest.mark.deep
@pytest.mark.parametrize("hundred", range(100))
def test_many_stories(world_of, hundred):
    for seed in range(int(os.environ.get("FARSHORE_STORIES", "10000")) // 100):
        check_story(world_of, 1000 + hundred * 1000 + seed, 100)
