"""What SQL says of a selector never hides a device that the selector itself selects."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, select

from farshore.core import twin
from farshore.hub import selector
from farshore.hub.records import narrowing, tables
from farshore.hub.records.tables import devices, twins

WORDS = st.sampled_from(["oslo", "bergen", "o'hara", "", "a\x00b", "a", "ünï", '"', "\\u0000", "5", "true", "Oslo"])
NUMBERS = st.sampled_from([0, 1, -1, 5, 1 << 52, 0.5, 1.0, 4.999999999999999, 5.0, -2.5, 1e300])
VALUES = WORDS | NUMBERS | st.booleans()
NAMES = st.sampled_from(["site", "n", "x-y", "größe", "a"])
TAGS = st.recursive(
    VALUES | st.lists(VALUES, max_size=2), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
DOCUMENTS = st.dictionaries(NAMES, TAGS, max_size=4)


def quoted(value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)


PROPERTIES = st.one_of(
    st.just("deviceId"),
    st.lists(NAMES, min_size=1, max_size=2).map(lambda path: ".".join(["tags", *(f"[[{name}]]" for name in path)])),
    NAMES.map(lambda name: f"reported.[[{name}]]"),
)
SYMBOLS = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])
LITERALS = (VALUES | st.sampled_from(["d1", "d2"])).map(quoted) | st.just("null")
LEAVES = st.one_of(
    st.builds("{} {} {}".format, PROPERTIES, SYMBOLS, LITERALS),
    st.builds("{} {} {}".format, LITERALS, SYMBOLS, PROPERTIES),
    st.builds("{} {} {}".format, PROPERTIES, SYMBOLS, PROPERTIES),
    st.builds("{} IN [{}, {}]".format, PROPERTIES, LITERALS, LITERALS),
    st.builds("{} NIN [{}]".format, PROPERTIES, LITERALS),
    PROPERTIES,
    st.sampled_from(["*", "true", "false", "null"]),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({}) AND ({})".format, inner, inner),
        st.builds("({}) OR ({})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def tx():
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        tables.metadata.create_all(connection)
        yield connection
    engine.dispose()


def found(tx, text, tags, reported):
    """Ids among three devices that SQL leaves, and those that the selector selects."""
    chosen, section = selector.parse(text), twin.empty("now")
    tx.rollback()
    for name in ("d1", "d2", "d3"):
        row = {"id": name, "created": 0.0, "state": "accepted", "reason": "", "turn": 0, "expires": 0.0}
        tx.execute(
            insert(devices).values({column.name: row[column.name] for column in devices.c if column.name in row})
        )
        filled = {"device": name, "version": 1, "tags": tags, "manual": {}, "desired": {}, "reported": reported}
        rest = {f"{part}_{kind}": value for part in ("desired", "reported")
                for kind, value in (("metadata", section.metadata), ("version", 1))}  # fmt: skip
        tx.execute(insert(twins).values(filled | rest))
    both = select(devices.c.id).join(twins, twins.c.device == devices.c.id).where(narrowing.narrow(tx, chosen))
    left = set(tx.execute(both).scalars())
    return left, {name for name in ("d1", "d2", "d3") if chosen.matches(name, tags, reported)}


@given(CONDITIONS, DOCUMENTS, DOCUMENTS)
@settings(max_examples=300, deadline=None)
def test_nobody_who_matches_is_left_out(tx, text, tags, reported):
    left, matching = found(tx, text, tags, reported)
    assert matching <= left, text


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("tags.site = 'oslo'", {"site": "bergen"}),
        ("tags.site != 'oslo'", {"site": "oslo"}),
        ("tags.site != 'oslo'", {}),
        ("NOT tags.site = 'oslo'", {}),
        ("tags.site IN ['oslo', 'bergen']", {"site": "voss"}),
        ("tags.site NIN ['oslo']", {"site": "oslo"}),
        ("tags.n > 3", {"n": 3}),
        ("3 < tags.n", {"n": 3}),
        ("tags.n = 3", {"n": "3"}),
        ("tags.on = true", {"on": 1}),
        ("tags.on", {"on": False}),
        ("deviceId = 'd9'", {}),
        ("tags.a.b = 'c'", {"a": {"b": "d"}}),
        ("tags.site = 'oslo' AND tags.n = 1", {"site": "oslo", "n": 2}),
    ],
)
def test_who_cannot_match_is_not_read(tx, text, tags):
    assert found(tx, text, tags, {}) == (set(), set())


def test_other_engines_read_everybody():
    class Tx:
        class dialect:  # noqa: N801
            name = "postgresql"

    assert str(narrowing.narrow(Tx, selector.parse("tags.site = 'oslo'"))) == "true"
