import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.errors import Invalid
from farshore.hub.selector import MAX_DEPTH, MAX_TEXT, parse

TAGS = {
    "site": "oslo",
    "floor": 3,
    "load": 0.5,
    "gpu": True,
    "owner": "O'Brien",
    "place": {"country": "no", "a.b c": 1},
    "list": [1, 2],
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("deviceId = 'turbine-7'", True),
        ("deviceId != 'turbine-7'", False),
        ("tags.site = 'oslo'", True),
        ("tags.site='oslo'AND tags.floor=3", True),
        ("tags.site <> 'bergen'", True),
        ("tags.floor > 2 AND tags.floor <= 3", True),
        ("tags.floor < 3 OR tags.floor >= 4", False),
        ("tags.load = 0.5", True),
        ("tags.load < 1", True),
        ("tags.floor = 3.0", True),
        ("tags.floor = '3'", False),
        ("tags.floor != '3'", True),
        ("tags.floor < '4'", False),
        ("NOT tags.floor < '4'", False),  # undefined stays undefined
        ("tags.gpu", True),
        ("tags.gpu = true", True),
        ("tags.gpu = 1", False),
        ("tags.floor = true", False),
        ("NOT tags.gpu", False),
        ("tags.owner = 'O''Brien'", True),
        ("tags.place.country = 'no'", True),
        ("tags.place.[[a.b c]] = 1", True),
        ("tags.[[site]] = 'oslo'", True),
        ("tags.place.country.deeper = 'no'", False),
        ("tags.absent = 'x'", False),
        ("tags.absent != 'x'", False),
        ("NOT tags.absent = 'x'", False),
        ("NOT (tags.absent = 'x') OR tags.gpu", True),
        ("tags.absent = 'x' AND tags.gpu", False),
        ("NOT (tags.absent = 'x' AND NOT tags.gpu)", True),  # undefined AND false is false
        ("tags.site IN ['bergen', 'oslo']", True),
        ("tags.site NIN ['bergen', 'oslo']", False),
        ("tags.site nin ['bergen']", True),
        ("tags.absent IN ['x']", False),
        ("tags.absent NIN ['x']", False),
        ("tags.floor in [1, 2, 3.0]", True),
        ("tags.floor IN [true]", False),
        ("'oslo' = tags.site", True),
        ("tags.site = tags.place.country", False),
        ("tags.list = tags.list", True),
        ("tags.list < tags.list", False),
        ("tags.site", False),
        ("not not tags.gpu", True),
        ("tags.floor = -3", False),
        ("tags.floor > -1e2", True),
        ("*", True),
        (" * ", True),
        ("* AND tags.gpu", True),
        ("tags.gpu OR tags.gpu AND tags.absent = 1", True),  # AND binds tighter
        ("(tags.gpu OR tags.gpu) AND tags.absent = 1", False),
        ("tags.absent = null", False),
        ("tags.floor = null", False),
    ],
)
def test_conditions(condition, expected):
    assert parse(condition).matches("turbine-7", TAGS) is expected


@pytest.mark.parametrize(
    ("condition", "column", "why"),
    [
        ("", 1, "found the end"),
        ("tags.site = ", 13, "found the end"),
        ("tags.site = 'oslo", 13, "never closed"),
        ("tags.site == 'oslo'", 12, "found '='"),
        ("tags.site = oslo", 13, "unknown property 'oslo'"),
        ("site = 'oslo'", 1, "unknown property 'site'"),
        ("tags = 'oslo'", 1, "tags.<name>"),
        ("deviceId.x = 'oslo'", 1, "use deviceId, tags"),
        ("DeviceId = 'x'", 1, "unknown property"),
        ("tags. = 1", 7, "expected a name"),
        ("tags.'a' = 1", 6, "expected a name"),
        ("tags.[[a = 1", 6, "never closed"),
        ("(tags.a = 1", 12, "expected ')'"),
        ("tags.a = 1)", 11, "expected AND, OR or the end"),
        ("tags.a = 1 tags.b = 2", 12, "expected AND, OR or the end"),
        ("tags.a IN 'x'", 11, "expected '['"),
        ("tags.a IN []", 12, "expected a value"),
        ("tags.a IN ['x' 'y']", 16, "expected ']'"),
        ("tags.a IN [tags.b]", 12, "expected a value"),
        ("AND", 1, "expected a value, found 'AND'"),
        ("tags.a = 1 AND", 15, "found the end"),
        ("tags.a = 12abc", 10, "cannot read"),
        ("tags.a = 1.2.3", 10, "cannot read"),
        ("tags.a % 1", 8, "cannot read"),
        ("tags.ø = 1 AND tags.å §", 23, "cannot read"),
    ],
)
def test_errors_point_at_the_column(condition, column, why):
    with pytest.raises(Invalid) as caught:
        parse(condition)
    assert caught.value.message.startswith(f"selector, column {column}: "), caught.value.message
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("reported.agent.machine = 'aarch64'", True),
        ("properties.reported.agent.machine = 'aarch64'", True),
        ("reported.models.detector.current.version < 3 AND deviceId = 'd'", True),
        ("reported.models.other.current.version < 3", False),
        ("NOT reported.models.other.current.version < 3", False),
    ],
)
def test_conditions_over_what_devices_report(condition, expected):
    reported = {"agent": {"machine": "aarch64"}, "models": {"detector": {"current": {"version": 2}}}}
    assert parse(condition).matches("d", {}, reported) is expected
    assert parse(condition).matches("d", {}) is False


@pytest.mark.parametrize(
    "condition", ["reported = 1", "properties.desired.x = 1", "properties = 1", "properties.reported = 1"]
)
def test_only_reported_properties_are_asked(condition):
    with pytest.raises(Invalid, match="column 1: use deviceId, tags"):
        parse(condition)


def test_limits():
    parse("(" * (MAX_DEPTH - 1) + "*" + ")" * (MAX_DEPTH - 1))
    for deep in ("(" * 2000 + "*" + ")" * 2000, "NOT " * 1000 + "*"):
        with pytest.raises(Invalid, match="nested deeper"):
            parse(deep)
    with pytest.raises(Invalid, match="characters"):
        parse("tags.a = '" + "x" * MAX_TEXT + "'")
    long = parse(" OR ".join(["tags.a = 1"] * 290))
    assert long.matches("d", {"a": 1})


# A second, naive evaluator over generated conditions: the text is made from the tree, and both must agree.

values = st.one_of(st.booleans(), st.integers(-5, 5), st.sampled_from([0.5, -1.5, 2.0]), st.text("a'b ]", max_size=3))
paths = st.lists(st.sampled_from(["a", "b", "c d", "e.f"]), min_size=1, max_size=2)
documents = st.recursive(
    values, lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c d", "e.f"]), inner, max_size=4)
)
operands = st.one_of(st.tuples(st.just("path"), paths), st.tuples(st.just("value"), values))
comparisons = st.tuples(st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="]), operands, operands)
memberships = st.tuples(st.sampled_from(["IN", "NIN"]), operands, st.lists(values, min_size=1, max_size=3))
trees = st.recursive(
    st.one_of(comparisons, memberships),
    lambda inner: st.one_of(st.tuples(st.sampled_from(["AND", "OR"]), inner, inner), st.tuples(st.just("NOT"), inner)),
    max_leaves=8,
)


def show(tree):
    match tree:
        case ("path", path):
            return "tags." + ".".join(name if name.isidentifier() else f"[[{name}]]" for name in path)
        case ("value", value):
            return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)
        case ("NOT", term):
            return f"NOT ({show(term)})"
        case ("AND" | "OR" as word, left, right):
            return f"({show(left)}) {word} ({show(right)})"
        case ("IN" | "NIN" as word, operand, listed):
            return f"{show(operand)} {word} [{', '.join(show(('value', one)) for one in listed)}]"
        case (symbol, left, right):
            return f"{show(left)} {symbol} {show(right)}"


class Undefined(Exception):
    pass


def value_of(operand, tags):
    kind, said = operand
    if kind == "value":
        return said
    for name in said:
        if not isinstance(tags, dict) or name not in tags:
            raise Undefined
        tags = tags[name]
    return tags


def kind_of(value):
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def holds(tree, tags):
    """True, False or None."""
    if tree[0] == "NOT":
        inner = holds(tree[1], tags)
        return None if inner is None else not inner
    if tree[0] in {"AND", "OR"}:
        rank = {False: 0, None: 1, True: 2}
        return (min if tree[0] == "AND" else max)(holds(tree[1], tags), holds(tree[2], tags), key=rank.get)
    try:
        left = value_of(tree[1], tags)
        if tree[0] in {"IN", "NIN"}:
            found = any(kind_of(one) == kind_of(left) and one == left for one in tree[2])
            return found == (tree[0] == "IN")
        right = value_of(tree[2], tags)
    except Undefined:
        return None
    same = kind_of(left) == kind_of(right)
    if tree[0] == "=":
        return same and left == right
    if tree[0] in {"!=", "<>"}:
        return not (same and left == right)
    if not same or kind_of(left) not in {"number", str}:
        return None
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[tree[0]]


@given(trees, st.dictionaries(st.sampled_from(["a", "b", "c d", "e.f"]), documents, max_size=4))
def test_agrees_with_a_naive_reading(tree, tags):
    assert parse(show(tree)).matches("d", tags) is (holds(tree, tags) is True)


@given(st.text("tagsdeviceId.=<>!'[](),* ANDORNOTIN01-é\x00", max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(Invalid):
        parse(text).matches("d", TAGS)
