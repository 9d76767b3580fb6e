"""Twins with Azure IoT Hub's meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core import twin
from farshore.core.errors import Invalid, TooLarge

SCALARS = st.booleans() | st.integers(-1000, 1000) | st.text("ab", max_size=3)
OBJECTS = st.recursive(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), SCALARS, max_size=4),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), SCALARS | inner, max_size=4),
    max_leaves=12,
)
LIMIT = twin.MAX_DESIRED


def after(*changes):
    section = twin.empty("t0", versioned=True)
    for number, change in enumerate(changes, 1):
        section = twin.patch(section, change, f"t{number}", limit=LIMIT, versioned=True)
    return section


# RFC 7396, appendix A (those whose target and patch are objects, as a twin's sections are).
@pytest.mark.parametrize(
    ("target", "change", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_is_rfc_7396(target, change, result):
    assert twin.merge(target, change) == result


@given(OBJECTS, OBJECTS)
def test_difference_and_merge_are_inverse(before, after_):
    change = twin.difference(before, after_)
    assert twin.merge(before, change) == after_
    assert (change == {}) == (twin.merge(before, {}) == after_ and not change)


def test_difference_tells_true_from_one():
    assert twin.difference({"a": 1}, {"a": True}) == {"a": True}
    assert twin.difference({"a": 1}, {"a": 1}) == {}


def test_version_grows_with_every_patch_and_metadata_follows_values():
    section = after({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}})
    assert section.version == 3
    assert section.values == {"a": {"c": 2, "d": 3}}
    stamp = {"$lastUpdated": "t2", "$lastUpdatedVersion": 3}
    assert section.metadata == {
        **stamp,
        "a": {**stamp, "c": {"$lastUpdated": "t1", "$lastUpdatedVersion": 2}, "d": stamp},
    }


@given(OBJECTS, OBJECTS)
def test_metadata_has_exactly_the_shape_of_the_values(first, second):
    section = after(first, second, {"a": None})

    def shape(values, metadata):
        assert "$lastUpdated" in metadata
        inner = {key for key in metadata if not key.startswith("$")}
        if isinstance(values, dict):
            assert inner == set(values)
            for key in values:
                shape(values[key], metadata[key])
        else:
            assert inner == set()

    shape(section.values, section.metadata)


def test_dollar_members_of_a_whole_twin_sent_back_are_ignored():
    section = after({"a": 1, "$version": 99, "$metadata": {"x": 1}})
    assert section.values == {"a": 1}
    assert twin.wire(section) == {"a": 1, "$version": 2}
    assert set(twin.full(section)) == {"a", "$metadata", "$version"}


def test_replace_refuses_null_and_drops_what_is_not_given():
    section = twin.replace(after({"a": 1, "b": 2}), {"b": 3}, "t9", limit=LIMIT, versioned=True)
    assert (section.values, section.version) == ({"b": 3}, 3)
    assert set(section.metadata) == {"$lastUpdated", "$lastUpdatedVersion", "b"}
    with pytest.raises(Invalid):
        twin.replace(section, {"b": None}, "t9", limit=LIMIT)


def nested(levels):
    value = {"k": 1}
    for _ in range(levels - 1):
        value = {"k": value}
    return value


@pytest.mark.parametrize(
    "change",
    [
        {"a.b": 1},
        {"a b": 1},
        {"a#": 1},
        {"": 1},
        {"a\n": 1},
        {"a": {"$x": 1}},
        {"k" * 1025: 1},
        {"a": "x" * 4097},
        {"a": 4503599627370496},
        {"a": -4503599627370497},
        {"a": [None]},
        {"a": [{"b": [{"c.d": 1}]}]},
        nested(11),
    ],
)
def test_limits_of_keys_values_and_depth(change):
    with pytest.raises(Invalid):
        after(change)


@pytest.mark.parametrize(
    "change", [{"a": 4503599627370495}, {"a": "x" * 4096}, {"k" * 1024: 1}, {"ü": "語"}, nested(10)]
)
def test_just_within_the_limits(change):
    assert after(change).values == change


def test_size_is_counted_as_iot_hub_does():
    assert twin.size({"ab": 1, "c": True, "d": "x\ny", "e": [1, 2], "f": {"g": 1.5}}) == (2 + 8) + (1 + 4) + (1 + 2) + (
        1 + 16
    ) + (1 + 1 + 8)


def test_a_section_that_would_grow_too_large_is_refused_whole():
    section = after({f"k{i}": "x" * 4000 for i in range(8)})
    with pytest.raises(TooLarge):
        twin.patch(section, {"more": "x" * 4000}, "t", limit=LIMIT)
    assert "more" not in section.values


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True))
def test_model_names_survive_as_keys(name):
    key = twin.key_of(name)
    twin.check({key: 1}, nulls=False)
    assert twin.name_of(key) == name


def test_what_was_written_since_is_told_also_when_it_says_the_same():
    section = twin.patch(
        twin.empty("t0", versioned=True), {"a": 1, "b": {"c": 1, "d": 2}, "e": [1]}, "t0", limit=999, versioned=True
    )
    known = section.values
    section = twin.patch(section, {"a": 1, "b": {"c": 1}}, "t0", limit=999, versioned=True)
    assert twin.since(section, 2) == {"a": 1, "b": {"c": 1}}
    assert twin.since(section, 3) == {}
    assert twin.since(section, 1) == {"a": 1, "b": {"c": 1, "d": 2}, "e": [1]}
    section = twin.patch(section, {"a": None, "b": {"d": None}, "e": {}}, "t0", limit=999, versioned=True)
    assert twin.since(section, 3, known) == {"a": None, "b": {"d": None}, "e": {}}


def test_a_replaced_section_is_told_with_what_is_gone():
    section = twin.patch(twin.empty("t0", versioned=True), {"a": 1, "b": 1}, "t0", limit=999, versioned=True)
    replaced = twin.replace(section, {"a": 1, "c": 100}, "t0", limit=999, versioned=True)
    assert twin.since(replaced, section.version, section.values) == {"a": 1, "b": None, "c": 100}
