"""The overview, of a real fleet."""

import pytest

from farshore.hub.studio.graphics import COLOURS, bar, shares
from farshore.hub.studio.overview import rolling, spent


def test_a_new_hub_says_how_to_begin(visitor):
    text = visitor.text("/studio")
    assert 'href="/studio/upload"' in text and "All is well" in text


def test_what_runs_and_what_wants_an_eye(visitor, operator, pushed):
    pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    one = operator.enrolled("buoy-12")
    wanted = one.sync()["desired"]["models"]["detector"]
    current = {"version": 1, "digest": wanted["digest"]}
    one.sync(reported={"models": {"detector": {"current": current, "fetched": 5000}}})
    waiting = operator.ask("POST", "/v1/enrolments", json={"approval": True})
    assert waiting.status_code == 201
    text = visitor.text("/studio")
    assert "/studio/models/detector" in text and "@1" in text and "5.0 kB" in text


def test_a_rollout_in_motion_with_its_figures(visitor, operator, pushed):
    pushed(), pushed(seed=2)
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    made = operator.ask(
        "POST",
        "/v1/rollouts",
        json={"model": "detector@2", "deployment": "prod", "waves": [{"percent": 10}, {"percent": 100}]},
    )
    text = visitor.text("/studio")
    assert f'href="/studio/rollouts/{made.json()["id"]}"' in text and "Wave 1 of 2" in text


def test_the_overview_is_small(visitor, pushed):
    pushed()
    text = visitor.get("/studio", headers={"Accept-Encoding": "gzip"})
    import re

    total = int(text.headers["content-length"])
    assets = set(re.findall(r'"(/studio/static/[^"]+)"', text.text))
    stamp = next(iter(assets)).rpartition("/")[0]
    assets |= {f"{stamp}/{name}" for name in ("keys.js", "forms.js", "live.js", "times.js")}
    for path in assets:
        total += int(visitor.get(path, headers={"Accept-Encoding": "gzip"}).headers["content-length"])
    assert total < 60_000


def test_money_is_told_against_whole_files():
    moved = [{"currency": "EUR", "money": 2.0, "bytes": 1}, {"currency": "", "money": 0.0, "bytes": 9}]
    found = spent(moved, [{"bytes": 100, "whole": 400}, {"bytes": 100, "whole": 100}])
    assert (found["bytes"], found["whole"], found["money"]) == (200, 500, [(2.0, 5.0, "EUR")])
    assert spent([], [])["money"] == []


def test_devices_of_all_waves_are_counted_once():
    waves = [{"tally": {"admitted": 10, "confirmed": 6, "failed": 1}}, {"tally": {}}]
    found = rolling({"waves": waves})
    assert (found["confirmed"], found["failed"], found["under_way"]) == (6, 1, 3)


@pytest.mark.parametrize("many", [0, 1, 3, 30])
def test_shares_fit_the_colours(many):
    found = shares([{"version": n, "devices": n} for n in range(many, 0, -1)])
    assert len(found) <= COLOURS and sum(amount for _, amount, _ in found) == many * (many + 1) / 2


def test_a_bar_escapes_what_it_says():
    text = str(bar([('<b>"', 3, "c0"), ("none", 0, "c1")]))
    assert "<b>" not in text and text.count("<rect") == 2
