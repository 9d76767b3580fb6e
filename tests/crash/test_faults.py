"""Faults at every call that changes the disk: what runs is never touched, nothing doubtful is used, and the device gets there."""

from __future__ import annotations

import random
import shutil

import pytest
from tests.crash import stories
from tests.crash.checking import at_once, check_all, in_the_end
from tests.crash.faults import MODES, Fault
from tests.crash.replay import states
from tests.crash.stories import tell
from tests.sim.world import DEVICE

from farshore.core.errors import FarshoreError

MORE = 12
"""States of a power cut some time after each fault."""

THEN_CUT = (stories.update, stories.patched, stories.roll_back, stories.collecting_and_dropping)

SAMPLE = 5
"""Calls of each story, in each mode, in an ordinary run."""


def live(world):
    """As the agent's process does: a refused start is tried again, and so is a turn that failed."""
    for _ in range(20):
        try:
            world.start_agent()
            break
        except FarshoreError:
            world.clock.sleep(5.0)
    for _ in range(20):
        try:
            return world.settle()
        except FarshoreError:
            world.agent.stumble()
    raise AssertionError("it does not come to rest")


def calls_of(plot, scratch):
    """Names of the calls that the story makes."""
    world = again(plot, scratch)
    with plot.limits(), Fault(world.settings.root).injected() as fault:
        live(world)
    in_the_end(plot, world)
    shutil.rmtree(world.settings.root)
    return fault.names


def again(plot, scratch):
    """The plot's world over a copy of its folder."""
    root = scratch / "again"
    shutil.copytree(plot.world.settings.root, root, symlinks=True)
    relink(plot.world.settings.root, root)
    world = plot.revive(root, None)
    world.server.restart()
    world.boot = plot.world.boot
    return world


def relink(source, target):
    """Copying made two files of what was one with two names; make it one again."""
    first = {}
    for path in source.rglob("*"):
        if path.is_file() and not path.is_symlink():
            known = first.setdefault(path.stat().st_ino, target / path.relative_to(source))
            if known != target / path.relative_to(source):
                (target / path.relative_to(source)).unlink()
                (target / path.relative_to(source)).hardlink_to(known)


def one_fault(plot, number, mode, scratch):
    """What is wrong after a fault at that call, as text; None if nothing."""
    world = again(plot, scratch)
    root, fault = world.settings.root, Fault(world.settings.root, number, mode)
    try:
        with plot.limits():
            with fault.injected():
                live(world)
            assert mode in ("kill", "torn") or not fault.descriptors, "a descriptor was left open"
            at_once(plot, root, world.hub.twins[DEVICE].reported)
            live(world)  # after a kill the next process; else whatever comes later
        in_the_end(plot, world)
        used = {path.stat().st_ino for path in root.rglob("*") if path.is_file()}
        assert not used & fault.doubtful, "a file whose fsync failed is used"
    except (AssertionError, FarshoreError, OSError, ValueError) as error:
        return f"{mode} at call {number}, {fault.name}: {type(error).__name__}: {error}"
    finally:
        fault.close()
        shutil.rmtree(root)
    return None


@pytest.mark.parametrize("share", [SAMPLE, pytest.param(1 << 30, marks=pytest.mark.deep)])
@pytest.mark.parametrize("make", stories.ALL, ids=lambda make: make.__name__)
def test_a_fault_at_any_call_touches_nothing_that_runs(make, share, scratch):
    plot = make(scratch / "device")
    count = len(calls_of(plot, scratch))
    numbers = sorted(random.Random(make.__name__).sample(range(count), min(share, count)))
    found = [one_fault(plot, number, mode, scratch) for mode in MODES for number in numbers]
    bad = [why for why in found if why is not None]
    print(f"{make.__name__}: {len(numbers)} of {count} calls × {len(MODES)} modes, {len(bad)} bad")
    assert not bad, "\n".join(bad[:6])


def test_there_are_more_than_five_hundred_calls(scratch):
    counts = {make.__name__: len(calls_of(make(scratch / make.__name__), scratch)) for make in stories.ALL}
    print(f"{sum(counts.values())} calls × {len(MODES)} modes: {counts}")
    assert sum(counts.values()) >= 500


@pytest.mark.parametrize("share", [2, pytest.param(1 << 30, marks=pytest.mark.deep)])
@pytest.mark.parametrize("mode", ["EIO", "kill"])
@pytest.mark.parametrize("make", THEN_CUT, ids=lambda make: make.__name__)
def test_a_power_cut_after_a_failed_fsync_or_a_kill(make, mode, share, scratch):
    """What a failed fsync did not make durable, or a killed process left, is not built upon: also some time later nothing is lost."""
    names, total, bad = calls_of(make(scratch / "counted"), scratch), 0, []
    numbers = [number for number, name in enumerate(names) if mode == "kill" or name in ("fsync", "fdatasync")]
    for number in random.Random(make.__name__).sample(numbers, min(share, len(numbers))):
        plot = make(scratch / "device")
        checked, worse = cut_after(plot, Fault(plot.world.settings.root, number, mode), scratch)
        total, bad = total + checked, bad + worse
        shutil.rmtree(plot.world.settings.root)
    print(f"{make.__name__}: {total} states some time after {mode}, {len(bad)} bad")
    assert not bad, "\n".join(bad[:6])


def cut_after(plot, fault, scratch):
    """States checked, and what was wrong."""

    def happen(world):
        with fault.injected():
            live(world)
        live(world)

    recording = tell(plot, happen)
    fault.close()
    assert fault.name
    found = list(states(recording, at_each=8))
    checked, bad = check_all(plot, random.Random(1).sample(found, min(MORE, len(found))), scratch)
    return checked, [f"{fault.name} {fault.where}: {one.why}" for one in bad]
