from __future__ import annotations

import pytest
from tests.sim.clock import VirtualClock

from farshore.agent.journal import Journal
from farshore.agent.pace import ASIDE, Pace
from farshore.core.wire import DesiredSettings


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.mark.parametrize("rate", [100, 16_000, 10**9])
def test_no_more_than_the_rate_over_any_time(rate):
    clock = VirtualClock()
    pace, total = Pace(rate, clock), 0
    for _ in range(50):
        pace.spend(pace.portion)
        total += pace.portion
        assert total <= rate * clock.monotonic() + pace.portion


def test_a_pause_saves_up_one_second_at_most():
    clock = VirtualClock()
    pace = Pace(1000, clock)
    clock.sleep(3600)
    assert pace.spend(1000) == 0
    assert pace.spend(500) == pytest.approx(0.5)


def test_no_cap():
    clock = VirtualClock()
    assert Pace(None, clock).spend(10**9) == 0
    assert clock.monotonic() == 0


CAPPED = DesiredSettings(day=1_000_000)


def spend_all(pace, most=10**9):
    """Move bytes until there are none left to move."""
    moved = 0
    while moved < most and (portion := pace.portion):
        pace.spend(portion)
        moved += portion
    return moved


def test_no_more_than_the_cap(tmp_path, clock):
    journal = Journal(tmp_path / "journal.json")
    pace = Pace(None, clock, journal)
    pace.heed(CAPPED)
    assert spend_all(pace) == 1_000_000
    pace.settle()
    assert (pace.portion, journal.notes.spent.day) == (0, 1_000_000)
    clock.sleep(86400)
    assert spend_all(pace) == 1_000_000


def test_what_is_not_used_is_given_back(tmp_path, clock):
    journal = Journal(tmp_path / "journal.json")
    pace = Pace(None, clock, journal)
    pace.heed(CAPPED)
    pace.spend(pace.portion)
    assert journal.notes.spent.day == ASIDE
    pace.settle()
    assert journal.notes.spent.day == 64 * 1024
    assert spend_all(pace) == 1_000_000 - 64 * 1024


def test_a_power_cut_never_makes_room_for_more(tmp_path, clock):
    moved = 0
    for _ in range(10):
        pace = Pace(None, clock, Journal(tmp_path / "journal.json"))
        pace.heed(CAPPED)
        moved += spend_all(pace, 100_000)  # and nothing is settled
    assert 0 < moved <= 1_000_000


def test_without_a_cap_it_is_counted_all_the_same(tmp_path, clock):
    journal = Journal(tmp_path / "journal.json")
    pace = Pace(None, clock, journal)
    pace.spend(pace.portion)
    pace.settle()
    assert journal.notes.spent.month == 64 * 1024


def test_of_two_rates_the_lower_holds(clock):
    pace = Pace(1000, clock)
    pace.heed(DesiredSettings(rate=100))
    assert pace.spend(1100) == pytest.approx(11, abs=0.01)
    pace.heed(DesiredSettings(rate=10_000))
    assert pace.spend(2000) == pytest.approx(1, abs=0.01)  # a second's worth was saved up
