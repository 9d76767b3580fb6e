import msgspec
import pytest

from farshore.core import twin
from farshore.core.errors import Invalid, TooLarge
from farshore.hub import twins
from farshore.hub.records.devices import Twin

NOW = "2026-01-02T03:04:05.0000000Z"


@pytest.fixture
def row():
    start = twin.empty(NOW, versioned=True)
    return Twin("d", 1, {"site": "oslo"}, {"a": 1}, twin.patch(start, {"a": 1}, NOW, limit=999), twin.empty(NOW), 0)


def test_tags(row):
    assert twins.with_tags(row, {"site": None, "x": {"y": 1}}, replace=False).tags == {"x": {"y": 1}}
    assert twins.with_tags(row, {"x": 1, "$etag": "no"}, replace=True).tags == {"x": 1}
    with pytest.raises(Invalid):
        twins.with_tags(row, {"x": None}, replace=True)
    with pytest.raises(TooLarge):
        twins.with_tags(row, {f"k{number}": "x" * 4000 for number in range(3)}, replace=False)


def test_desired_by_hand(row):
    changed = twins.with_desired(row, {"b": 2, "$version": 99, "$metadata": {}}, NOW, replace=False)
    assert changed.manual == changed.desired.values == {"a": 1, "b": 2}
    assert changed.desired.version == row.desired.version + 1
    assert twins.with_desired(row, {"b": 2}, NOW, replace=True).manual == {"b": 2}
    with pytest.raises(Invalid, match="models"):
        twins.with_desired(row, {"models": {"m": {"version": 1}}}, NOW, replace=False)


def test_the_document_and_its_etag(row):
    shown = twins.document(row)
    assert shown["etag"] == twins.etag_of(row) == "AAAAAAAAAAE="
    assert shown["properties"]["desired"]["$version"] == 2
    assert "manual" not in str(shown)


ONE, TWO = ({"version": number, "digest": f"sha256:{number:064d}"} for number in (1, 2))


@pytest.mark.parametrize(
    ("manual", "sent", "kept"),
    [
        ({}, {"a": ONE}, None),  # as the deployments say
        ({}, {"a": TWO}, {"a": TWO}),  # something else
        ({}, {"a": {**ONE, "retry": 1}}, {"a": {**ONE, "retry": 1}}),
        ({"a": ONE}, {"a": ONE}, {"a": ONE}),  # held by hand before, and still
        ({}, {"a": None}, {"a": None}),
        ({}, {"b": ONE}, {"b": ONE}),  # no deployment speaks of it
        ({}, {"a": ONE, "b": TWO}, {"b": TWO}),
        ({}, "nonsense", "nonsense"),
    ],
)
def test_what_deployments_say_is_not_written_by_hand(row, manual, sent, kept):
    row = msgspec.structs.replace(row, manual={"models": manual})
    given = {"models": {"a": ONE}}
    read = {"rate": 5, "$version": 7}
    found = twins.by_hand(row, {**read, "models": sent}, given)
    assert found == (read if kept is None else {**read, "models": kept})
    by_hand = {"rate": 5, "models": sent}
    assert twins.by_hand(row, by_hand, given) == by_hand  # nobody read this: it holds the device where it is


def test_a_retry_is_kept_and_holds_nothing(row):
    row = msgspec.structs.replace(row, manual={"models": {"a": {"retry": 3}}})
    told = {"models": {"a": {**ONE, "retry": 3}}}
    read = {**told, "$metadata": {}}
    assert twins.by_hand(row, read, told) == {"models": {"a": {"retry": 3}}, "$metadata": {}}


def test_a_report_is_heard_once_and_in_order(row):
    one = twins.hear(row, "a", 1)
    assert one.heard == (("a", 1),)
    assert twins.hear(one, "a", 1) is None
    two = twins.hear(twins.hear(one, "a", 7), "b", 1)
    assert two.heard == (("a", 7), ("b", 1))
    assert twins.hear(two, "a", 8) is None  # a series that another one has followed
    assert twins.hear(two, "", 0) is two
    many = two
    for number in range(20):
        many = twins.hear(many, f"s{number}", 1)
    assert len(many.heard) == twins.SERIES
