from __future__ import annotations

import time

from farshore.agent.clock import SystemClock


def test_the_machines_clock():
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.01)
    clock.sleep(-1.0)  # a time that has passed already is no error
    assert clock.monotonic() - before >= 0.01
    assert abs(clock.now() - time.time()) < 60
    assert -86400 < clock.offset() < 86400
