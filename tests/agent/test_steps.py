"""What a failing step says about the version, and what is noted before it."""

from __future__ import annotations

import pytest
from tests.sim.releases import release
from tests.sim.server import GAP, LATENCY, MEMORY
from tests.sim.world import DEVICE

from farshore.agent import plan
from farshore.agent.plan import Activate, Confirm, Drop, FetchManifest, Probe
from farshore.agent.site import survey
from farshore.agent.state import Trial
from farshore.core.control import CaseResult
from farshore.core.control import Probe as Probed
from farshore.core.errors import Conflict, Corrupt, Denied, Invalid, NotFound, Unavailable
from farshore.core.wire import Fault


@pytest.fixture
def at_probe(world):
    """A world whose device has a version installed and is about to probe it."""
    first = world.hub.publish(release(version=1, size=1000))
    world.hub.desire(DEVICE, first)
    while not isinstance(next_step(world), Probe):
        world.agent.turn()
    return world


def next_step(world):
    return plan.next_step(world.agent._site.journal.desired(), look(world), world.clock.now())


def look(world):
    return survey(world.agent._site, world.agent._hands.active)


def perform(world, step):
    return world.agent._hands.perform(step, look(world))


@pytest.mark.parametrize(
    ("error", "strikes"),
    [
        (Unavailable("x"), 0),
        (NotFound("x"), 0),
        (Denied("x"), 0),
        (Conflict("x"), 0),
        (Corrupt("x"), 1),
        (Invalid("x"), 1),
    ],
)
def test_only_wrong_bytes_speak_against_a_version(world, monkeypatch, error, strikes):
    first = world.hub.publish(release(version=1))
    world.hub.desire(DEVICE, first)
    world.agent.turn()

    def fail(_digest):
        raise error

    monkeypatch.setattr(world.link, "manifest", fail)
    assert not perform(world, FetchManifest("detector", 1, first.digest))
    attempt = world.journal().attempt
    assert (attempt.step, attempt.strikes, attempt.fault.code) == ("fetch-manifest", strikes, error.code)


def test_the_intention_is_on_the_disk_before_the_act(at_probe, monkeypatch):
    seen = []

    def look_and_die(model, digest):
        seen.append(type(at_probe.agent._site.journal)(at_probe.settings.folder / "journal.json").note(model).attempt)
        raise KeyboardInterrupt

    monkeypatch.setattr(at_probe.server, "probe", look_and_die)
    with pytest.raises(KeyboardInterrupt):
        perform(at_probe, next_step(at_probe))
    assert (seen[0].step, seen[0].strikes) == ("probe", 1)


def test_a_probe_that_misses_a_case_is_final(at_probe, monkeypatch):
    missed = Probed(ok=False, cases=(CaseResult("a", ok=True), CaseResult("b", ok=False, why="no cat")))
    monkeypatch.setattr(at_probe.server, "probe", lambda *_: missed)
    assert perform(at_probe, next_step(at_probe))
    assert at_probe.journal().failed == Fault("invalid", "b: no cat")
    assert next_step(at_probe) is None


def test_a_probe_without_a_verdict_is_tried_again_but_not_for_ever(at_probe, monkeypatch):
    killed = Probed(ok=False, fault=Fault("unavailable", "its worker was killed"))
    monkeypatch.setattr(at_probe.server, "probe", lambda *_: killed)
    tries = 0
    while isinstance(step := next_step(at_probe), Probe):
        assert not perform(at_probe, step)
        at_probe.clock.sleep(plan.BACKOFF_MOST)
        tries += 1
    assert tries == plan.MAX_STRIKES
    assert plan.quarantined(at_probe.journal()) == Fault("unavailable", "its worker was killed")


def test_a_switch_that_fails_leaves_a_trial_that_goes_back(at_probe, monkeypatch):
    assert perform(at_probe, next_step(at_probe))
    step = next_step(at_probe)
    assert isinstance(step, Activate)

    def fail(*_):
        raise Unavailable("no memory")

    monkeypatch.setattr(at_probe.server, "switch", fail)
    assert not perform(at_probe, step)
    trial = at_probe.journal().trial
    assert (trial.digest, trial.switched) == (step.digest, False)
    at_probe.run(120)
    assert at_probe.current() is None
    assert at_probe.journal().failed is not None


def test_confirming_and_dropping(at_probe):
    at_probe.settle()
    digest = at_probe.current()
    assert perform(at_probe, Confirm("detector", digest))
    assert at_probe.journal().trial is None
    assert perform(at_probe, Drop("detector"))
    assert at_probe.slots.models() == []
    assert at_probe.serving() is None
    assert perform(at_probe, Drop("detector"))  # asked again after a crash


def bring(world, number):
    """Let the device run a new version; returns its digest."""
    made = world.hub.publish(release(version=number, size=1000))
    world.hub.desire(DEVICE, made)
    return made.digest


def test_what_a_trial_has_shown_is_reported_when_it_ends(world):
    one = bring(world, 1)
    world.settle()
    shown = world.reported()["trial"]
    assert (shown["digest"], shown["gap"]) == (one, GAP)
    assert not shown["latency_before"]  # there was none
    two = bring(world, 2)
    world.settle()
    shown = world.reported()["trial"]
    assert (shown["digest"], shown["latency"], shown["latency_before"]) == (two, LATENCY, LATENCY)
    assert (shown["memory"], shown["memory_before"]) == (MEMORY, MEMORY)
    assert shown["requests"] >= 100


def test_a_version_that_is_slower_than_its_trial_allows_goes_back_and_says_so(world):
    one = bring(world, 1)
    world.settle()
    two = world.hub.publish(release(version=2, size=1000))
    world.server.slow.add(two.digest)
    world.hub.desire(DEVICE, two, trial={"latency": 1.5})
    world.settle()
    assert world.current() == one
    said = world.reported()
    assert said["target"]["fault"]["message"] == (
        "in its trial it took 3 times as long as the version before; at most 1.5 is asked"
    )
    assert said["trial"]["digest"] == two.digest


def test_dropping_lets_go_of_what_only_stands_warm(at_probe):
    at_probe.agent.turn()
    assert "detector" in at_probe.server.candidates
    assert perform(at_probe, Drop("detector"))
    assert at_probe.server.candidates == {}


def test_confirming_forgives_an_activation_that_was_cut_off_after_its_link(at_probe):
    at_probe.settle()
    digest, journal = at_probe.current(), at_probe.agent._site.journal
    for meant, left in (digest, False), ("sha256:" + "0" * 64, True):
        journal.write("detector", digest=meant, trial=Trial(digest))
        journal.begin("detector", "activate", 0.0, strike=True)
        assert perform(at_probe, Confirm("detector", digest))
        assert (at_probe.journal().attempt is not None) is left


def test_a_blob_that_has_gone_bad_is_fetched_again_when_its_version_is_damaged(world):
    first = world.hub.publish(release(version=1))
    world.hub.desire(DEVICE, first)
    world.settle()
    weights = world.slots.current("detector").file("model.onnx")
    weights.chmod(0o644)
    weights.write_bytes(b"scrambled")
    world.reboot()
    assert world.slots.models() == []
    assert len(world.blobs.digests()) == 2
    world.settle()
    world.slots.verify(world.slots.current("detector"))
