from __future__ import annotations

import pytest
from tests.sim.clock import VirtualClock

from farshore.agent.pace import Pace


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
