"""Power cuts: every state of the disk that one may leave, of all that happens to a device."""

from __future__ import annotations

import collections
import random
import re
import shutil

import pytest
from tests.crash import stories
from tests.crash.checking import check_all
from tests.crash.recorder import File, Folder
from tests.crash.replay import states
from tests.crash.stories import Plot, start, tell

SAMPLE = 32
"""States of each story in an ordinary run."""

AT_EACH = 120
"""Ways tried at one instant to combine what is not durable."""


def shown(name, whole, checked, bad):
    """One line of counts; what was bad, by kind, as the reason of a failure."""
    print(f"{name}: {checked} of {whole} states checked, {len(bad)} bad")
    kinds = collections.Counter(re.sub("[0-9a-f]{12,}", "…", one.why.partition(": ")[2]) for one in bad)
    return "\n".join(f"{count} × {why}" for why, count in kinds.most_common(5))


def all_states(plot):
    return list(states(tell(plot), at_each=AT_EACH))


@pytest.mark.parametrize("share", [SAMPLE, pytest.param(None, marks=pytest.mark.deep)])
@pytest.mark.parametrize("make", stories.ALL, ids=lambda make: make.__name__)
def test_after_a_power_cut_what_is_there_is_whole_and_the_device_gets_there(make, share, scratch):
    plot = make(scratch / "device")
    found = all_states(plot)
    some = found if share is None else random.Random(make.__name__).sample(found, min(share, len(found)))
    checked, bad = check_all(plot, some, scratch)
    why = shown(make.__name__, len(found), checked, bad)
    assert not bad, why


def test_there_are_more_than_ten_thousand_states(scratch):
    counts = {make.__name__: len(all_states(make(scratch / make.__name__))) for make in stories.ALL}
    print(f"{sum(counts.values())} states: {counts}")
    assert sum(counts.values()) >= 10_000


@pytest.mark.parametrize("make", [stories.update, stories.roll_back], ids=lambda make: make.__name__)
def test_a_second_cut_within_the_recovery_from_the_first(make, scratch):
    """A handful of first cuts, and some of the second ones after each."""
    nested(make, scratch, firsts=4, seconds=6)


@pytest.mark.deep
@pytest.mark.parametrize("make", stories.ALL, ids=lambda make: make.__name__)
def test_many_second_cuts(make, scratch):
    nested(make, scratch, firsts=25, seconds=16)


def recover(world):
    start(world)
    world.settle()


def nested(make, scratch, *, firsts, seconds):
    plot, chance, total, bad = make(scratch / "device"), random.Random(make.__name__), 0, []
    found = list(states(tell(plot), at_each=16))
    for first in chance.sample(found, min(firsts, len(found))):
        world = plot.revive(first.lay(scratch / "first"), first.known)
        later = Plot(world, plot.ways, plot.linkless, again=True)
        after = list(states(tell(later, recover), at_each=16))
        checked, worse = check_all(later, chance.sample(after, min(seconds, len(after))), scratch)
        total, bad = total + checked, bad + worse
        shutil.rmtree(scratch / "first")
    why = shown(f"{make.__name__}, cut again", total, total, bad)
    assert not bad, why


@pytest.mark.parametrize("kind", [File, Folder])
def test_an_fsync_left_out_would_be_noticed(kind, scratch):
    """The same story without the fsyncs of its files, and without those of its folders: each time there are bad states."""
    plot = stories.update(scratch / "device")
    found = list(states(tell(plot), at_each=16, without=kind))
    checked, bad = check_all(plot, random.Random(1).sample(found, 60), scratch)
    shown(f"without fsync of a {kind.__name__}", len(found), checked, bad)
    assert len(bad) >= 5
