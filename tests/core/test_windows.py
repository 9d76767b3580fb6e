from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.core.windows import both_open, next_open, parse

DAY = 86400
MIDNIGHT = 1_800_057_600.0  # in UTC


def at(hours, minutes=0):
    return MIDNIGHT + hours * 3600 + minutes * 60


@pytest.mark.parametrize(
    ("window", "offset", "now", "expected"),
    [
        ("22:00-06:00", 0, at(21, 59), at(22)),
        ("22:00-06:00", 0, at(22), at(22)),
        ("22:00-06:00", 0, at(3), at(3)),
        ("22:00-06:00", 0, at(6), at(22)),
        ("08:00-09:30", 0, at(9, 29), at(9, 29)),
        ("08:00-09:30", 0, at(9, 30), at(32)),
        ("08:00-09:30", 3600, at(7), at(7)),  # one hour ahead of UTC
        ("08:00-09:30", 3600, at(9), at(31)),
        ("08:00-09:30Z", 3600, at(7), at(8)),
        ("00:00-00:01", -5 * 3600, at(5), at(5)),
    ],
)
def test_when_a_window_opens(window, offset, now, expected):
    assert next_open([parse(window)], now, offset) == expected


def test_the_first_of_several_counts():
    windows = [parse("22:00-23:00"), parse("12:00-13:00")]
    assert next_open(windows, at(10), 0) == at(12)
    assert next_open(windows, at(14), 0) == at(22)


def test_no_window_means_always():
    assert next_open([], 5.0, 0) == 5.0


times = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda t: f"{t[0]:02}:{t[1]:02}")


@settings(deadline=None)
@given(times, times, st.booleans(), st.integers(0, 4 * 10**9), st.integers(-50_000, 50_000))
def test_it_is_open_when_it_says_so(start, end, utc, now, offset):
    if start == end:
        return
    window = parse(f"{start}-{end}{'Z' if utc else ''}")
    opens = next_open([window], now, offset)
    assert now <= opens < now + DAY
    assert next_open([window], opens, offset) == opens


@pytest.mark.parametrize(
    "text", ["", "22-06", "24:00-01:00", "22:00-06:60", "22:00-22:00", "22:00-06:00+1", "22:00-06:00Z\n"]
)
def test_what_is_not_a_window(text):
    with pytest.raises(Invalid):
        parse(text)


@pytest.mark.parametrize(
    ("one", "other", "hour", "opens"),
    [
        ([], [], 3, 3),
        (["22:00-06:00Z"], [], 12, 22),
        (["22:00-06:00Z"], ["04:00-08:00Z"], 12, 28),
        (["22:00-06:00Z"], ["04:00-08:00Z"], 5, 5),
        (["00:00-02:00Z", "12:00-14:00Z"], ["13:00-20:00Z"], 0, 13),
    ],
)
def test_two_sets_of_windows(one, other, hour, opens):
    found = both_open([parse(text) for text in one], [parse(text) for text in other], MIDNIGHT + hour * 3600, 0)
    assert found == MIDNIGHT + opens * 3600


def test_windows_that_never_meet_are_no_endless_question():
    now = MIDNIGHT + 3600
    assert both_open([parse("01:00-02:00Z")], [parse("03:00-04:00Z")], now, 0) > now
