import pytest

from farshore.hub.deployment import Rule, effective, pins, winners
from farshore.hub.selector import parse


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
    assert {model: one.id for model, one in won.items()} == expected


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
    found = effective(manual, {"m": rule("a")})
    for key, value in found["models"].items():
        if isinstance(value, dict):
            found["models"][key] = value["version"]
    assert found == expected


def test_trying_again_holds_nothing():
    wanted = {"version": 1, "digest": f"sha256:{1:064x}"}
    assert effective({"models": {"m": {"retry": 2}}}, {"m": rule("a")})["models"] == {"m": {**wanted, "retry": 2}}
    assert effective({"models": {"m": {"retry": 2}}}, {}) == {}
    pinned = {"version": 7, "digest": f"sha256:{7:064x}", "retry": 2}
    assert effective({"models": {"m": pinned}}, {"m": rule("a")})["models"] == {"m": pinned}
    assert pins({"models": {"m": {"retry": 2}, "n": pinned}, "x": 1}) == {"models": {"n": pinned}, "x": 1}


def test_without_any_model_there_is_no_models_member():
    assert effective({"models": {}, "x": 1}, {}) == {"x": 1}


def test_dots_in_names_become_keys():
    [key] = effective({}, {"a.b": rule("a", model="a.b")})["models"]
    assert key == "a%2Eb"
