import pytest

from farshore.core.errors import Denied
from farshore.hub import roles, selector
from farshore.hub.roles import ALL, Caller, Grant


def caller(*grants):
    return Caller("kari", tuple(Grant(*one) for one in grants))


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", {"viewer"}),
        ("operator", {"viewer", "operator"}),
        ("publisher", {"viewer", "publisher"}),
        ("admin", {"viewer", "operator", "publisher", "admin"}),
    ],
)
def test_what_roles_include_on_their_fleet_and_nowhere_else(role, may):
    one = caller((role, "north"))
    for asked in roles.INCLUDES:
        assert one.may(asked, "north") == (asked in may)
        assert one.may_somewhere(asked) == (asked in may)
        assert caller((role, "*")).may(asked, "anywhere") == (asked in may)
        for fleet in ("south", "northern", "nort", "", "*", "NORTH", "north."):
            assert not one.may(asked, fleet)


def test_pairs_stay_pairs():
    one = caller(("operator", "north"), ("publisher", "south"), ("viewer", "*"))
    assert one.may("operator", "north") and one.may("publisher", "south") and one.may("viewer", "west")
    for role, fleet in (("operator", "south"), ("publisher", "north"), ("operator", "*"), ("admin", "north")):
        assert not one.may(role, fleet)
        with pytest.raises(Denied, match=role):
            one.need(role, fleet)


def test_models():
    one = caller(("viewer", "north"))
    assert one.may_read_model("north.detector") and one.may_read_model("shared-detector")
    for name in ("south.detector", "northern.detector"):
        assert not one.may_read_model(name)
        with pytest.raises(Denied):
            one.need_model(name)
    assert not caller().may_read_model("shared")


@pytest.mark.parametrize(
    ("tags", "fleet"),
    [({}, ""), ({"fleet": "north"}, "north"), ({"fleet": 1}, ""), ({"fleet": ["*"]}, ""), ({"fleet": None}, "")],
)
def test_the_fleet_of_a_device(tags, fleet):
    assert roles.fleet_of_tags(tags) == fleet


def test_a_device_that_calls_its_fleet_a_star_is_not_everybodys():
    assert not caller(("viewer", "north")).may("viewer", roles.fleet_of_tags({"fleet": "*"}))


@pytest.mark.parametrize(
    ("text", "fleet"),
    [
        ("tags.fleet = 'north'", "north"),
        ("tags.fleet = 'north' AND (tags.a = 1 OR tags.fleet = 'south')", "north"),
        ("(tags.fleet = 'north') AND deviceId = 'x'", "north"),
        ("*", ""),
        ("tags.fleet = 'north' OR *", ""),
        ("NOT tags.fleet = 'north'", ""),
        ("tags.fleet != 'north'", ""),
        ("tags.fleet IN ['north', 'south']", ""),
        ("tags.fleet = tags.fleet", ""),
        ("tags.[[fleet]] = 'north'", "north"),
        ("deviceId = 'north'", ""),
    ],
)
def test_the_fleet_that_a_selector_keeps_to(text, fleet):
    found = selector.parse(text)
    assert found.fleet == fleet
    if fleet:
        assert not found.matches("x", {"fleet": "south", "a": 1})


def test_a_token_is_worth_no_more_than_its_owner():
    asked = (Grant("operator", "north"), Grant("viewer", "south"))
    assert roles.within(asked, ALL) == asked
    assert roles.within(asked, (Grant("admin", "north"),)) == asked[:1]
    assert roles.within(ALL, asked) == ()
