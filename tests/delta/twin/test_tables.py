"""The tables are the same numbers on every machine."""

from __future__ import annotations

import hashlib
import struct

import pytest

from farshore.delta.twin import tables
from farshore.delta.twin.tables import COUNTER_START, STRETCH, counter_after, counter_vote, double_of, ex, lg


def test_the_tables_are_these():
    whole = hashlib.sha256()
    for table in (tables.LG, tables.SQUASH, tables.STRETCH, tables.RATE, tables.TRUST):
        whole.update(struct.pack(f"<{len(table)}i", *table))
    for reals in (tables.EX, tables.LOGISTIC, tables.GAUSS):
        whole.update(struct.pack(f"<{len(reals)}d", *reals))
    assert whole.hexdigest() == "bdf66cdf9d7671a2a977a420fc8d030f2f8ea92ee9dc8ac8dbd716e253836861"


@pytest.mark.parametrize("x", [1.0, 1.5, 2.0, 1e-30, 3e200])
def test_logarithm_and_power_are_near(x):
    import math

    assert abs(lg(x) / 4096 - math.log2(x)) < 1e-3
    assert ex(int(math.log2(x) * 1024)) == pytest.approx(x, rel=2e-3)
    assert double_of(0x3FF0000000000000) == 1.0


def test_a_counter_believes_more_the_more_it_sees():
    s = COUNTER_START
    assert counter_vote(s) == 0
    votes = []
    for _ in range(50):
        s = counter_after(s, 1, 30)
        votes.append(counter_vote(s))
    assert votes == sorted(votes)
    assert s & 1023 == 30
    assert STRETCH[4095] > 2000 > -2000 > STRETCH[0]
