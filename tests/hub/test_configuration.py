import pytest

from farshore.core.errors import Invalid, TooLarge
from farshore.hub import configuration, query
from farshore.hub.configuration import AGENT, Part, Rule, Subject

DEVICE = Subject("d", "", {"site": "oslo"}, {}, {"fw": 2})


def rule(name, content, where="*", priority=0, created=0.0):
    return Rule(name, query.target(where), priority, created, configuration.read(content))


def device(**values):
    return {"deviceContent": {f"properties.desired{key}": value for key, value in values.items()}}


def edge(module, values, *, key="properties.desired", standard=False):
    more = {AGENT: {"properties.desired": {"modules": {"a": 1}}}} if standard else {}
    return {"modulesContent": {**more, module: {key: values}}}


def of_module(rules, name="m", tags=None, **desired):
    return configuration.given(rules, DEVICE, Subject("d", name, tags or {}, desired, {}))


def test_device_configurations_are_put_over_each_other_by_priority():
    rules = [
        rule("a", {"deviceContent": {"properties.desired.net": {"mtu": 1, "proxy": "p"}}}, priority=1),
        rule("b", {"deviceContent": {"properties.desired.net.mtu": 9, "properties.desired.x": [1]}}, priority=2),
        rule("c", {"deviceContent": {"properties.desired.net.mtu": 7}}, "tags.site = 'rome'", priority=9),
        rule("m", {"moduleContent": {"properties.desired.x": 1}}, "FROM devices.modules WHERE true", priority=9),
    ]
    found = configuration.given(rules, DEVICE)
    assert found.values == {"net": {"mtu": 9, "proxy": "p"}, "x": [1]}
    assert found.states == {"a": "Applied", "b": "Applied"}
    assert configuration.given(rules[::-1], DEVICE) == found


def test_of_equal_priorities_the_newest_wins():
    rules = [
        rule(name, {"deviceContent": {"properties.desired.x": name}}, created=at)
        for name, at in (("new", 2.0), ("old", 1.0))
    ]
    assert configuration.given(rules, DEVICE).values == {"x": "new"}


def test_module_configurations_ask_modules():
    rules = [
        rule(
            "m",
            {"moduleContent": {"properties.desired.x": 1}},
            "FROM devices.modules WHERE moduleId = 'm' AND tags.t = 1",
        )
    ]
    assert of_module(rules, tags={"t": 1}).values == {"x": 1}
    assert of_module(rules).values == of_module(rules, "n", {"t": 1}).values == {}


def test_layers_stand_on_the_highest_standard_deployment():
    low, high = edge("m", {"a": 1, "b": {"c": 1}}, standard=True), edge("m", {"a": 2, "b": {"c": 2}}, standard=True)
    layer = edge("m", 3, key="properties.desired.b.d")
    rules = [
        rule("low", low, priority=1),
        rule("below", layer, priority=2),
        rule("high", high, priority=3),
        rule("above", layer, priority=4),
    ]
    found = of_module(rules)
    assert found.values == {"a": 2, "b": {"c": 2, "d": 3}}
    assert found.states == {"low": "Targeted", "below": "Targeted", "high": "Applied", "above": "Applied"}
    assert of_module(rules, AGENT).states == found.states
    assert of_module([rules[0], rules[1]]).values == {
        "a": 1,
        "b": {"c": 1, "d": 3},
    }  # the next one holds when the highest goes
    assert of_module([rules[1]]) == configuration.Given({}, {"below": "Targeted"})
    whole = rule("whole", edge("m", {"z": 1}), priority=9)
    assert of_module([*rules, whole]).values == {"z": 1}
    assert configuration.given(rules, DEVICE).values == {}


def test_what_a_twin_sent_back_does_not_say():
    given, manual = {"a": {"b": 1, "c": 2}, "x": [1]}, {"a": {"c": 2}}
    change = {"a": {"b": 1, "c": 2, "d": 3}, "x": [1], "y": 0, "$version": 3}
    assert configuration.unsaid(change, given, manual) == {"a": {"c": 2, "d": 3}, "y": 0, "$version": 3}
    assert configuration.unsaid({"a": {"b": None}}, given, {}) == {"a": {"b": None}}
    assert configuration.unsaid({"a": {"b": 1}}, given, {}) == {}


def test_a_model_alone_is_a_deployment():
    def model(content):
        return configuration.model_of(configuration.read(content))

    assert model({"deviceContent": {"properties.desired.models.north%2Edet": {"version": 1}}}) == (
        "north.det",
        {"version": 1},
    )
    assert model({"deviceContent": {"properties.desired.x": 1}}) is None
    assert model({"moduleContent": {"properties.desired.models.det": {"version": 1}}}) is None
    for bad in (
        {".models": {"a": 1}},
        {".models.a": {"version": 1}, ".x": 1},
        {"": {"models": {}}},
        {".models.a": 1},
        {".models.a.version": 1},
    ):
        with pytest.raises(Invalid):
            model(device(**bad))


@pytest.mark.parametrize(
    "content",
    [
        None, [], {}, {"deviceContent": {}}, {"deviceContent": None}, {"x": {"properties.desired": {}}}, {"deviceContent": [1]},
        device(**{"": 1}), device(**{".a": None}), device(a=1), device(**{".a.": 1}), device(**{".a..b": 1}), device(**{".$a": 1}),
        device(**{".a": {"b": None}}), device(**{".a b": 1}), {"deviceContent": {"properties.reported.a": 1}}, {"modulesContent": {"m": {}}},
        {"modulesContent": {"m": 1}}, {"deviceContent": {"properties.desired.a": 1}, "modulesContent": {"m": {"properties.desired": {}}}},
        device(**{f".k{number}": 1 for number in range(201)}), device(**{".a" * 11: 1}),
    ],
)  # fmt: skip
def test_what_is_no_content(content):
    with pytest.raises(Invalid):
        configuration.read(content)


def test_content_is_bounded():
    with pytest.raises(TooLarge):
        configuration.read(device(**{f".k{number}": "x" * 4000 for number in range(9)}))


def test_parts_are_put_in_order_of_depth():
    found = configuration.read(device(**{".a.b": 1, "": {"a": {"c": 2}}}))
    assert found.parts[""] == (Part((), {"a": {"c": 2}}), Part(("a", "b"), 1))
