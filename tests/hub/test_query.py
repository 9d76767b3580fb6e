import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.hub.query import MAX_TEXT, answer, parse, target

ROWS = [
    {
        "deviceId": f"d{number}", "status": "enabled", "tags": {"site": site, "it's": "a.b"},
        "properties": {"desired": {"$version": number, "rate": number * 2}, "reported": {"rate": 4, "t": number / 2, "last": 2}},
        "configurations": {"c-1": {"status": "Applied"}} if number % 2 else {},
    }
    for number, site in enumerate(["oslo", "oslo", "rome", None])
]  # fmt: skip


def ask(text):
    found = parse(text)
    return list(answer(found, [row for row in ROWS if found.matches(row)]))


def ids(text):
    return [row["deviceId"] for row in ask(text)]


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("deviceId = 'd1'", "1"),
        ("tags.site = 'oslo'", "01"),
        ("tags.site = 'oslo' AND NOT deviceId = 'd0'", "1"),
        ("tags.[[it's]] = 'a.b'", "0123"),
        ("properties.desired.rate = properties.reported.rate", "2"),
        ("properties.desired.$version >= properties.reported.last", "23"),
        ("configurations.[[c-1]].status = 'Applied'", "13"),
        ("IS_DEFINED(configurations.[[c-1]])", "13"),
        ("not is_defined(tags.absent) and properties.reported.t > 0.5", "23"),
        ("deviceId IN ['d0', 'd3']", "03"),
        ("deviceId NIN ['d0', 'd3']", "12"),
        ("status = 'enabled' or 1 = 2", "0123"),
        ("absent.at.all = 1", ""),
        ("deviceId = '''; DROP TABLE devices --'", ""),
    ],
)
def test_conditions(condition, wanted):
    assert ids(f"SELECT * FROM devices WHERE {condition}") == [f"d{one}" for one in wanted]


def test_columns_and_sums():
    assert ask("select deviceId, tags.site as place from devices where deviceId = 'd2'") == [
        {"deviceId": "d2", "place": "rome"}
    ]
    assert ask("SELECT COUNT() AS total FROM devices") == [{"total": 4}]
    assert ask("SELECT COUNT(*) FROM devices WHERE deviceId = 'x'") == [{"count": 0}]
    by_site = "SELECT tags.site, COUNT() AS n, AVG(properties.desired.rate) AS r FROM devices GROUP BY tags.site"
    assert ask(by_site) == [{"site": "oslo", "n": 2, "r": 1.0}, {"site": "rome", "n": 1, "r": 4.0}, {"n": 1, "r": 6.0}]
    assert ask("SELECT MIN(properties.desired.rate) AS a, MAX(properties.desired.rate) AS b FROM devices") == [
        {"a": 0, "b": 6}
    ]
    assert ask("SELECT SUM(tags.site) AS s FROM devices") == [{}]
    assert ids("SELECT TOP 2 * FROM devices") == ["d0", "d1"]


def test_sources():
    assert parse("select * from devices.modules where moduleId = '$edgeAgent'").source == "modules"
    assert parse("select * FROM Devices").source == "devices"
    assert target("tags.a = 1").matches("d", {"a": 1}) and target("").matches("d", {})
    assert target("FROM devices.modules WHERE moduleId = 'm'").source == "modules"


@pytest.mark.parametrize(
    "text",
    [
        "", "SELECT", "SELECT *", "SELECT * FROM", "SELECT * FROM jobs", "SELECT * FROM devices.things", "SELECT * FROM devices WHERE",
        "SELECT * FROM devices; DROP TABLE devices", "SELECT * FROM devices GROUP BY a", "SELECT a FROM devices GROUP BY b",
        "SELECT TOP 0 * FROM devices", "SELECT TOP x * FROM devices", "SELECT TOP 1.5 * FROM devices", "SELECT COUNT( FROM devices", "DELETE FROM devices",
        "SELECT a, COUNT() FROM devices", "SELECT * FROM devices WHERE a = 'b", "SELECT * FROM devices WHERE " + "(" * 100 + "a" + ")" * 100,
        "SELECT * FROM devices WHERE a = 1" + " " * MAX_TEXT,
    ],
)  # fmt: skip
def test_what_is_no_query(text):
    with pytest.raises(Invalid):
        parse(text)


@pytest.mark.parametrize(
    "text", ["x = 1", "FROM devices WHERE a = 1", "FROM devices.modules GROUP BY a", "properties.desired.a = 1"]
)
def test_what_is_no_target_condition(text):
    with pytest.raises(Invalid):
        target(text)


@given(
    st.text(max_size=40),
    st.sampled_from(["", "SELECT ", "SELECT * FROM devices WHERE ", "SELECT a FROM devices GROUP BY "]),
)
def test_any_text_is_a_query_or_invalid(text, start):
    try:
        found = parse(start + text)
    except Invalid:
        return
    list(answer(found, [row for row in ROWS if found.matches(row)]))
