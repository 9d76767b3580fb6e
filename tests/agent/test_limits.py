"""When bytes may be moved, by windows and caps; by rows."""

from datetime import UTC, datetime

import pytest

from farshore.agent.limits import Spent, add, at, left, shut
from farshore.core import windows
from farshore.core.wire import DesiredSettings


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = moment("2026-11-22T12:00:00")
CAPS = DesiredSettings(link="iridium", day=5_000_000, month=20_000_000)


@pytest.mark.parametrize(
    ("given", "spent", "spare", "cause", "until", "said"),
    [
        (DesiredSettings(), Spent("2026-11-22", 10**12, 10**12), 0, None, None, ""),
        (CAPS, Spent(), 0, None, None, ""),
        (CAPS, Spent("2026-11-22", 4_999_999, 4_999_999), 0, None, None, ""),
        (CAPS, Spent("2026-11-22", 5_000_000, 5_000_000), 0, "cap", "2026-11-23T00:00:00", "cap reached: 5 MB a day on link iridium"),
        (CAPS, Spent("2026-11-22", 5_000_000, 5_000_000), 1, None, None, ""),  # set aside for what is open
        (CAPS, Spent("2026-11-21", 5_000_000, 5_000_000), 0, None, None, ""),  # yesterday's
        (CAPS, Spent("2026-11-21", 5_000_000, 20_000_000), 0, "cap", "2026-12-01T00:00:00", "cap reached: 20 MB a month on link iridium"),
        (CAPS, Spent("2026-10-31", 5_000_000, 20_000_000), 0, None, None, ""),  # last month's
        (DesiredSettings(windows=("22:00-06:00Z",)), Spent(), 0, "window", "2026-11-22T22:00:00", "the download window is closed"),
        (DesiredSettings(windows=("11:00-13:00Z",)), Spent(), 0, None, None, ""),
    ],
)  # fmt: skip
def test_why_no_byte_may_be_moved(given, spent, spare, cause, until, said):
    found = shut([], given, spent, NOON, 0, spare)
    assert (found and (found.cause, found.until, found.text)) == (cause and (cause, moment(until), said))


def test_of_its_own_windows_and_its_links_both_must_be_open():
    given = DesiredSettings(windows=("22:00-06:00Z",))
    found = shut([windows.parse("04:00-08:00Z")], given, Spent(), NOON, 0)
    assert found.until == moment("2026-11-23T04:00:00")


def test_bytes_are_counted_by_day_and_month():
    spent = add(add(Spent(), 100, NOON), 50, NOON)
    assert spent == Spent("2026-11-22", 150, 150)
    assert add(spent, -40, NOON) == Spent("2026-11-22", 110, 110)
    assert add(spent, 7, NOON + 86400) == Spent("2026-11-23", 7, 157)
    assert at(spent, moment("2026-12-01T00:00:00")) == Spent("2026-12-01", 0, 0)
    assert add(spent, -1000, NOON + 86400) == Spent("2026-11-23", 0, 0)
    assert left(CAPS, Spent("2026-11-22", 1_000_000, 19_000_000), NOON) == 1_000_000


@pytest.mark.parametrize("now", [0.0, -5.0, 1e11, 2e14])
def test_a_wrong_clock_is_no_accident(now):
    assert shut([], CAPS, Spent(), now, 0) is None
    assert add(Spent(), 5, now).day == 5


def test_the_month_after_december():
    found = shut([], CAPS, Spent("2026-12-31", 0, 20_000_000), moment("2026-12-31T23:00:00"), 0)
    assert found.until == moment("2027-01-01T00:00:00")
