import pytest

from farshore.hub.deployment import Choice, Rule, effective, pins, winners
from farshore.hub.rollout import Gate, Rollout, Wave
from farshore.hub.selector import parse


def choice(one):
    return Choice(one, one.version, one.digest)


def rule(name, where="*", model="m", version=1, priority=0, serial=1):
    return Rule(name, parse(where), model, version, f"sha256:{version:064x}", priority, serial)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], {}),
        ([rule("a")], {"m": "a"}),
        ([rule("a", where="tags.site = 'bergen'")], {}),
        ([rule("a", priority=1), rule("b", priority=2)], {"m": "b"}),
        ([rule("a", priority=2), rule("b", priority=1)], {"m": "a"}),
        ([rule("a", serial=1), rule("b", serial=2)], {"m": "b"}),  # a tie: the newest
        ([rule("b", serial=2), rule("a", serial=1)], {"m": "b"}),
        ([rule("a", priority=9, serial=1), rule("b", serial=2)], {"m": "a"}),
        ([rule("a", where="deviceId = 'd'"), rule("b", where="deviceId = 'e'", priority=9)], {"m": "a"}),
        ([rule("a", model="m"), rule("b", model="n", priority=9)], {"m": "a", "n": "b"}),
    ],
)
def test_who_wins(rules, expected):
    won = winners(rules, "d", {"site": "oslo"})
    assert {model: one.rule.id for model, one in won.items()} == expected


@pytest.mark.parametrize(
    ("manual", "expected"),
    [
        ({}, {"models": {"m": 1}}),
        ({"rate": 5}, {"rate": 5, "models": {"m": 1}}),
        ({"models": {"m": "by hand"}}, {"models": {"m": "by hand"}}),
        ({"models": {"n": "by hand"}}, {"models": {"m": 1, "n": "by hand"}}),
        ({"models": {}}, {"models": {"m": 1}}),
    ],
)
def test_an_operators_hand_wins(manual, expected):
    found = effective(manual, {"m": choice(rule("a"))})
    for key, value in found["models"].items():
        if isinstance(value, dict):
            found["models"][key] = value["version"]
    assert found == expected


def test_trying_again_holds_nothing():
    wanted = {"version": 1, "digest": f"sha256:{1:064x}"}
    assert effective({"models": {"m": {"retry": 2}}}, {"m": choice(rule("a"))})["models"] == {
        "m": {**wanted, "retry": 2}
    }
    assert effective({"models": {"m": {"retry": 2}}}, {}) == {}
    pinned = {"version": 7, "digest": f"sha256:{7:064x}", "retry": 2}
    assert effective({"models": {"m": pinned}}, {"m": choice(rule("a"))})["models"] == {"m": pinned}
    assert pins({"models": {"m": {"retry": 2}, "n": pinned}, "x": 1}) == {"models": {"n": pinned}, "x": 1}


def test_without_any_model_there_is_no_models_member():
    assert effective({"models": {}, "x": 1}, {}) == {"x": 1}


def test_dots_in_names_become_keys():
    [key] = effective({}, {"a.b": choice(rule("a", model="a.b"))})["models"]
    assert key == "a%2Eb"


OLD, NEW = (1, f"sha256:{1:064x}"), (2, f"sha256:{2:064x}")


RINGS = (Wave(selector="tags.ring = 0"), Wave(percent=100))


def rolling(state="running", wave=0, waves=RINGS):
    return Rollout("r", waves, Gate(), state, wave, 0.0)


@pytest.mark.parametrize(
    ("rollout", "before", "told", "expected"),
    [
        (rolling(), OLD, None, NEW),  # the open wave takes it in
        (rolling(waves=(Wave(selector="tags.ring = 9"), Wave(percent=100))), OLD, None, OLD),
        (rolling(wave=1, waves=(Wave(selector="tags.ring = 9"), Wave(percent=100))), OLD, None, NEW),
        (rolling("paused"), OLD, None, OLD),  # nobody more
        (rolling("paused"), OLD, NEW[1], NEW),  # but who has it keeps it
        (rolling("aborted"), OLD, NEW[1], NEW),
        (rolling("aborted"), OLD, OLD[1], OLD),
        (rolling("paused"), None, None, (7, f"sha256:{7:064x}")),  # nothing before: the next deployment holds
    ],
)
def test_who_gets_a_version_that_is_being_rolled_out(rollout, before, told, expected):
    rules = [
        Rule("new", parse("*"), "m", *NEW, 5, 2, rollout, before),
        Rule("old", parse("*"), "m", 7, f"sha256:{7:064x}", 1, 1),
    ]
    won = winners(rules, "d", {"ring": 0}, {"m": {"digest": told}} if told else {})["m"]
    assert (won.version, won.digest) == expected
    assert (won.wave is not None) == (expected == NEW and told is None)


@pytest.mark.parametrize(("taken", "expected"), [(0, NEW), (1, NEW), (2, OLD)])
def test_a_wave_that_counts_takes_those_that_ask_first(taken, expected):
    rule = Rule("new", parse("*"), "m", *NEW, 0, 1, rolling(waves=(Wave(count=2), Wave(percent=100))), OLD)
    won = winners([rule], "d", {}, {}, lambda key: {"r": [taken, 0]}[key])["m"]
    assert (won.version, won.digest) == expected


def test_what_a_trial_must_show_is_told_once_and_stays():
    gate = Gate(agreement=0.9, latency=1.5)
    rollout = Rollout("r", (Wave(percent=100),), gate, "running", 0, 0.0)
    rule = Rule("new", parse("*"), "m", *NEW, 0, 1, rollout, OLD)
    asked = {"agreement": 0.9, "latency": 1.5, "compared": 20} | {
        "shadow": {"share": 0.1, "answers": 200, "seconds": 3600.0}
    }
    told = effective({}, winners([rule], "d", {}))["models"]
    assert told == {"m": {"version": 2, "digest": NEW[1], "trial": asked}}
    done = Rule("new", parse("*"), "m", *NEW, 0, 1)
    assert effective({}, winners([done], "d", {}, told))["models"] == told  # no device hears of the rollout's end
    assert effective({}, winners([done], "late", {}))["models"] == {"m": {"version": 2, "digest": NEW[1]}}
    assert Gate().conditions() is None
