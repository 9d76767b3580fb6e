"""Rollouts as pure decisions: waves, gates, and what an operator may do."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Conflict, Invalid
from farshore.hub.rollout import (
    Gate,
    Rollout,
    Tally,
    Wave,
    advance,
    broken,
    bucket,
    check_waves,
    end,
    lacking,
    open_next,
    parse_waves,
    pause,
    resume,
    wave_of,
)

TWO = (Wave(percent=10), Wave(percent=100))


def running(gate=None, waves=TWO, **more):
    return Rollout("r", waves, gate or Gate(soak=0), more.pop("state", "running"), more.pop("wave", 0), 1000.0, **more)


def judged(rollout, *tallies, now=1000.0):
    rest = [Tally()] * (len(rollout.waves) - len(tallies))
    return advance(rollout, [*tallies, *rest], now)


# -- waves -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100%", ["100%"]),
        ("1,5%,25%,100%", ["1", "5%", "25%", "100%"]),
        (" 2.5% , *", ["2.5%", "*"]),
        ("tags.ring IN ['a', 'b'],100%", ["tags.ring IN ['a', 'b']", "100%"]),
        ("tags.site = 'a, b',100%", ["tags.site = 'a, b'", "100%"]),
        ("tags.name = 'it''s, so',100%", ["tags.name = 'it''s, so'", "100%"]),
    ],
)
def test_waves_as_people_write_them(text, expected):
    assert [str(wave) for wave in parse_waves(text)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 waves"),
        ("5%", "must be 100%"),
        ("0,100%", "'0'"),
        ("0%,100%", "'0%'"),
        ("101%,100%", "'101%'"),
        ("1.5,100%", "'1.5'"),
        ("50%,5%,100%", "above the one before"),
        ("100%,100%", "above the one before"),
        ("*,100%", "nothing is left"),
        ("tags.ring = ,100%", "expected a value"),
        ("colour = 'red',100%", "unknown property"),
        (",".join(f"{n}" for n in range(1, 40)), "use 1 to 32"),
    ],
)
def test_wrong_waves_are_named(text, said):
    with pytest.raises(Invalid, match=said):
        parse_waves(text)


def test_a_wave_is_one_thing():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"count": 1, "percent": 5.0}, Wave)
    with pytest.raises(Invalid):
        check_waves([])


def test_buckets_are_even_stable_and_differ_between_rollouts():
    devices = [f"device-{n}" for n in range(4000)]
    inside = [one for one in devices if bucket("r", one) < 10]
    assert 330 < len(inside) < 470  # 400, give or take 3.7 standard deviations
    assert inside == [one for one in devices if bucket("r", one) < 10]
    other = {one for one in devices if bucket("another", one) < 10}
    assert len(other & {*inside}) < 80  # 40 by chance: the same few are not always first
    assert {*inside} <= {one for one in devices if bucket("r", one) < 25}  # small waves lie in larger ones


def test_a_device_belongs_to_the_first_open_wave_that_takes_it():
    waves = (Wave(selector="tags.ring = 0"), Wave(count=2), Wave(percent=100))
    taken = lambda _: [0, 1, 0]  # noqa: E731
    assert wave_of(running(waves=waves), "d", {"ring": 0}, taken) == 0
    assert wave_of(running(waves=waves), "d", {"ring": 1}, taken) is None
    assert wave_of(running(waves=waves, wave=1), "d", {"ring": 1}, taken) == 1
    assert wave_of(running(waves=waves, wave=1), "d", {}, lambda _: [0, 2, 0]) is None
    assert wave_of(running(waves=waves, wave=2), "d", {}, lambda _: [0, 2, 0]) == 2
    assert wave_of(running(waves=waves, wave=2, state="paused"), "d", {}, taken) is None


# -- gates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "tally", "state", "wave", "said"),
    [
        ({}, {}, "running", 0, None),  # nobody was seen: unknown, never success
        ({}, {"admitted": 3, "confirmed": 1}, "running", 0, None),
        ({}, {"admitted": 3, "confirmed": 3}, "running", 1, None),
        ({"quorum": 5}, {"admitted": 3, "confirmed": 3}, "running", 0, None),
        ({"seen": 0.5}, {"admitted": 4, "confirmed": 2}, "running", 1, None),
        ({}, {"admitted": 1, "failed": 1}, "rolled back", 0, "1 of 1 devices failed"),
        ({"on_failure": "pause"}, {"admitted": 1, "failed": 1}, "paused", 0, "1 of 1 devices failed"),
        ({"quorum": 20}, {"admitted": 30, "failed": 1}, "running", 0, None),  # 1 of 20 is just allowed
        ({"quorum": 20}, {"admitted": 30, "failed": 2}, "rolled back", 0, "2 of 2 devices failed"),
        ({}, {"admitted": 100, "confirmed": 96, "failed": 4}, "running", 1, None),
        ({}, {"admitted": 100, "confirmed": 50, "failed": 4}, "rolled back", 0, "4 of 54"),
        ({"failure": 1.0}, {"admitted": 10, "confirmed": 8, "failed": 2}, "running", 0, None),  # too few confirmed
        ({"errors": 0.01}, {"requests": 1000, "errors": 30}, "rolled back", 0, "0.03 of requests"),
        ({"errors": 0.01}, {"requests": 10, "errors": 10}, "running", 0, None),  # too few to say
        ({"gap": 0.5}, {"gap": 3.0, "switched": 4}, "rolled back", 0, "0.75 seconds"),
        ({"latency": 1.5}, {"latency": 9.0, "timed": 3}, "rolled back", 0, "3 times the previous version's latency"),
        ({"latency": 1.5}, {"latency": 3.0, "timed": 3, "admitted": 3, "confirmed": 3}, "running", 1, None),
        ({"memory": 1.2}, {"memory": 2.6, "weighed": 2}, "rolled back", 0, "1.3 times the previous version's memory"),
        ({"agreement": 0.9}, {"compared": 40, "agreed": 20}, "rolled back", 0, "0.5 of answers agree"),
        ({"agreement": 0.9}, {"compared": 4, "agreed": 0, "admitted": 1, "confirmed": 1}, "running", 0, None),
        ({"agreement": 0.9}, {"compared": 40, "agreed": 39, "admitted": 1, "confirmed": 1}, "running", 1, None),
        ({"approval": True}, {"admitted": 1, "confirmed": 1}, "paused", 0, "waits for approval"),
    ],
)
def test_gates(gate, tally, state, wave, said):
    after, events = judged(running(Gate(**{"soak": 0.0, **gate})), Tally(**tally))
    assert (after.state, after.wave) == (state, wave)
    assert (said or "") in after.reason
    assert bool(events) == ((state, wave) != ("running", 0))
    if said:
        assert after.reason.startswith("wave 1")


def test_a_wave_that_passes_late_still_stops_the_rollout():
    after, _ = judged(running(wave=1), Tally(admitted=2, confirmed=1, failed=1), Tally(admitted=9, confirmed=9))
    assert after.state == "rolled back"
    assert after.reason.startswith("wave 1: 1 of 2")


def test_the_last_wave_ends_it():
    after, [event] = judged(running(wave=1), Tally(), Tally(admitted=9, confirmed=9))
    assert (after.state, event.kind) == ("done", "done")
    assert judged(after, Tally(failed=9)) == (after, [])  # over: devices look after themselves


def test_soaking_begins_when_all_is_well_and_anew_when_it_is_not():
    one = running(Gate(soak=60))
    good, moving = Tally(admitted=2, confirmed=2), Tally(admitted=9, confirmed=2)
    one, events = judged(one, good, now=1000)
    assert not events and one.good_since == 1000
    one, _ = judged(one, moving, now=1030)  # more devices came
    assert one.good_since is None
    one, _ = judged(one, good, now=1050)
    assert judged(one, good, now=1109)[0].wave == 0
    assert judged(one, good, now=1110)[0].wave == 1


def test_a_deadline_says_what_was_missing():
    one = running(Gate(soak=0, deadline=600, quorum=3, on_failure="pause"))
    assert judged(one, Tally(admitted=2, confirmed=1), now=1599)[0].state == "running"
    after, _ = judged(one, Tally(admitted=2, confirmed=1), now=1600)
    assert after.state == "paused"
    assert after.reason == "wave 1: after 10 min 1 of 2 devices have confirmed or failed; 3 must"


def test_a_wave_that_counts_waits_for_its_count():
    one = running(Gate(soak=0, quorum=50), waves=(Wave(count=4), Wave(percent=100)))
    assert "3 of 4" in lacking(one, Tally(admitted=3, confirmed=3))
    assert lacking(one, Tally(admitted=4, confirmed=4)) is None


def test_failures_after_a_pause_still_roll_back():
    paused = pause(running(), "for lunch")
    assert judged(paused, Tally(admitted=1, failed=1))[0].state == "rolled back"
    careful = pause(running(Gate(on_failure="pause")), "for lunch")
    assert judged(careful, Tally(admitted=1, failed=1)) == (careful, [])


# -- operators ---------------------------------------------------------------------------------------------------------


def test_what_an_operator_may_do():
    one = running()
    paused = pause(one, "for lunch")
    assert (paused.state, paused.reason) == ("paused", "for lunch")
    assert resume(paused, [Tally()], 2000.0) == msgspec.structs.replace(one, opened=2000.0)
    assert open_next(paused, 2000.0).wave == 1
    assert open_next(open_next(paused, 2000.0), 2001.0).state == "done"
    assert end(end(one, "aborted", "x"), "rolled back", "y").state == "rolled back"


@pytest.mark.parametrize(
    "what",
    [
        lambda one: pause(pause(one, ""), ""),
        lambda one: resume(one, [Tally()], 0.0),
        lambda one: open_next(open_next(open_next(one, 0.0), 0.0), 0.0),
        lambda one: pause(end(one, "aborted", ""), ""),
        lambda one: open_next(end(one, "rolled back", ""), 0.0),
        lambda one: end(end(one, "rolled back", ""), "rolled back", ""),
        lambda one: end(end(one, "rolled back", ""), "aborted", ""),
        lambda one: end(end(one, "aborted", ""), "aborted", ""),
    ],
)
def test_what_an_operator_may_not(what):
    with pytest.raises(Conflict):
        what(running())


def test_a_gate_that_is_still_broken_is_not_resumed_and_says_what_to_do():
    careful = running(Gate(on_failure="pause", soak=0.0))
    bad, good = Tally(admitted=2, confirmed=1, failed=1), Tally(admitted=2, confirmed=2)
    paused, _ = judged(careful, bad)
    assert paused.state == "paused"
    with pytest.raises(Conflict, match=r"wave 1: 1 of 2 devices failed.*rollout advance r .*rollout rollback r "):
        resume(paused, [bad, Tally()], 2000.0)
    assert resume(paused, [good, Tally()], 2000.0).state == "running"  # what was wrong is no more


def test_an_operator_goes_on_in_spite_of_a_broken_gate_and_the_next_wave_is_judged_by_itself():
    careful = running(Gate(on_failure="pause", soak=0.0))
    bad = Tally(admitted=2, confirmed=1, failed=1)
    paused, _ = judged(careful, bad)
    on = open_next(paused, 2000.0, [bad, Tally()])
    assert (on.state, on.wave, on.terms.overruled) == ("running", 1, (0,))
    assert judged(on, bad, Tally(admitted=5))[0].state == "running"
    again, _ = judged(on, bad, Tally(admitted=5, confirmed=3, failed=2))
    assert (again.state, again.reason[:7]) == ("paused", "wave 2:")
    assert open_next(again, 2001.0, [bad, Tally(admitted=5, confirmed=3, failed=2)]).state == "done"
    assert judged(on, bad, Tally(admitted=5, confirmed=5))[0].state == "done"


def test_who_advances_while_all_is_well_overrules_nothing():
    on = open_next(running(), 2000.0, [Tally(admitted=1), Tally()])
    assert on.terms.overruled == ()
    assert judged(on, Tally(admitted=1, failed=1), Tally())[0].state == "rolled back"


@given(st.integers(0, 100), st.integers(1, 30))
def test_shares_are_what_people_mean_by_them(percent, hundreds):
    """A share of hundreds is a whole number, whatever floats make of it: met exactly is met, and not exceeded."""
    share, count = percent / 100, 100 * hundreds
    part = percent * hundreds
    gate = Gate(success=share, seen=share, failure=1.0, soak=0.0)
    met = Tally(admitted=count, confirmed=part, failed=count - part)
    assert lacking(running(gate=gate), met) is None
    if part > 1:
        seen = Tally(admitted=count, confirmed=part)
        assert lacking(running(gate=gate), seen) is None
        assert "must" in lacking(running(gate=gate), Tally(admitted=count, confirmed=part - 1))
    assert broken(Gate(failure=share), Tally(admitted=count, confirmed=count - part, failed=part)) is None
    if part < count:
        assert broken(Gate(failure=share), Tally(admitted=count, confirmed=count - part - 1, failed=part + 1))


@pytest.mark.parametrize(
    "gate", [{"compared": 1 << 40}, {"latency": 1e308}, {"latency": 1e-320}, {"memory": 1e300}, {"gap": -1.0}]
)
def test_gates_ask_for_what_a_twin_can_carry(gate):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(gate, Gate)
