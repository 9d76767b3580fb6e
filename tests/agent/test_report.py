from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.agent.report import Reporter, reasserted, united
from farshore.core import twin
from farshore.core.errors import Unavailable
from farshore.store import files

keys = st.sampled_from(["a", "b", "c"])
leaves = st.integers(0, 2) | st.booleans() | st.sampled_from(["x", "y"])
sections = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6)
sections = st.dictionaries(keys, sections, max_size=3)


@settings(deadline=None)
@given(sections, sections, sections)
def test_a_united_patch_leads_from_either_state_to_todays(before, attempted, now):
    sent = twin.difference(before, attempted)
    again = united(twin.difference(before, now), reasserted(sent, now))
    assert twin.merge(before, again) == now
    assert twin.merge(twin.merge(before, sent), again) == now


@settings(deadline=None)
@given(st.lists(st.tuples(sections, st.sampled_from(["heard", "lost", "answer lost", "killed"])), max_size=8), sections)
def test_whatever_is_lost_on_the_way_the_hub_ends_with_todays_state(tmp_path_factory, story, last):
    path = tmp_path_factory.mktemp("report") / "reported.json"
    hub, reporter = {}, Reporter(path)
    for section, fate in [*story, (last, "heard")]:
        change = reporter.change(section)
        if change is None:
            continue
        reporter.sending(change)
        if fate != "lost":
            hub = twin.merge(hub, change)
        if fate == "heard":
            reporter.accepted(section)
        if fate == "killed":
            reporter = Reporter(path)
    assert hub == last


def test_what_was_sent_and_then_deleted_without_an_answer_is_still_in_doubt(tmp_path):
    reporter, hub = Reporter(tmp_path / "reported.json"), {}
    change = reporter.change({"b": {"a": 0}})
    reporter.sending(change)
    hub = twin.merge(hub, change)  # arrived, but the answer was lost
    reporter.sending(reporter.change({}))  # was lost
    assert twin.merge(hub, reporter.change({"b": {}})) == {"b": {}}


def test_reports_are_counted_in_a_series_of_each_start(tmp_path):
    reporter = Reporter(tmp_path / "reported.json", "a")
    assert (reporter.series, reporter.number) == ("a", 0)
    for number in (1, 2):
        reporter.sending({"a": number})
        assert reporter.number == number
    assert (Reporter(tmp_path / "reported.json", "b").series, Reporter(tmp_path / "reported.json").number) == ("b", 0)


def test_nothing_changed_is_nothing_to_say(tmp_path):
    reporter = Reporter(tmp_path / "reported.json")
    assert reporter.change({"a": 1}) == {"a": 1}
    reporter.sending({"a": 1})
    reporter.accepted({"a": 1})
    assert reporter.change({"a": 1}) is None
    assert Reporter(tmp_path / "reported.json").change({"a": 1}) is None


@pytest.mark.parametrize("data", [b"", b"{", b'{"accepted": 3}'])
def test_a_damaged_memory_costs_a_report_in_full(tmp_path, data):
    (tmp_path / "reported.json").write_bytes(data)
    assert Reporter(tmp_path / "reported.json").change({"a": 1, "b": 2}) == {"a": 1, "b": 2}


def test_a_full_disk_does_not_keep_it_from_speaking(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise Unavailable("disk full")

    monkeypatch.setattr(files, "write_atomic", full)
    reporter = Reporter(tmp_path / "reported.json")
    reporter.sending(reporter.change({"a": 1}))
    reporter.accepted({"a": 1})
    assert reporter.change({"a": 1}) is None
