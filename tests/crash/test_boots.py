"""The machine stops again and again while a version is on trial, and there is no network."""

from __future__ import annotations

import random
import shutil

from tests.crash import stories
from tests.crash.replay import states
from tests.crash.stories import start, tell

from farshore.agent.journal import Journal
from farshore.store.slots import Slots


def test_two_power_cuts_within_a_trial_lead_back_without_a_network(scratch):
    plot = stories.update(scratch / "device")
    before, after = plot.ways["detector"]
    found = list(states(tell(plot), at_each=64))
    count = 0
    for state in random.Random(1).sample(found, len(found)):
        root = state.lay(scratch / "root")
        if count < 25 and on_trial(root, after):
            count += 1
            world = plot.revive(root, state.known)
            world.link.up = False
            start(world)
            world.agent.turn()
            assert world.current() == world.serving() == after, "one cut may be chance"
            world.reboot()
            world.run(120)
            assert world.current() == world.serving() == before
            assert "machine restarted 2 times" in world.journal().failed.message
        shutil.rmtree(root)
    print(f"{count} states within the trial")
    assert count >= 5


def on_trial(root, digest):
    current = Slots(root).current("detector")
    trial = Journal(root / "agent" / "journal.json").note("detector").trial
    return current is not None and current.digest == digest and trial is not None and trial.digest == digest
