"""Pages of rollouts, the ledger and telemetry."""

from farshore.hub.studio import books, charts, figures, rollouts

EVIL = '"><script>alert(1)</script>'


def test_a_waves_figures_are_averages():
    tally = {"admitted": 5, "confirmed": 2, "failed": 1, "requests": 200, "errors": 1, "compared": 40, "agreed": 38,
             "latency": 2.4, "timed": 2, "memory": 0.0, "weighed": 0, "gap": 0.3, "switched": 3}  # fmt: skip
    found = rollouts.figures({"wave": "10%", "open": True, "tally": tally})
    assert (found["under_way"], found["agreement"], found["latency"], found["memory"]) == (2, 0.95, 1.2, None)


def test_a_gate_says_what_it_asks_and_nothing_else():
    found = dict(rollouts.gate({"agreement": 0.9, "approval": False, "deadline": 0.0}))
    assert found == {"quorum": 1, "seen": 0.9, "success": 0.95, "failure": 0.05, "soak": 300.0, "agreement": 0.9}


def test_columns_of_days():
    rows = [
        {"day": "2026-11-02", "model": "a", "bytes": 5, "currency": "", "money": 0.0},
        {"day": "2026-11-01", "model": "b", "bytes": 7, "currency": "EUR", "money": 1.0},
        {"day": "2026-11-01", "model": "b", "bytes": 1, "currency": "NOK", "money": 2.0},
    ]
    assert books.by_day(rows, {"a": "c0", "b": "c1"}) == [("01", [("b", 8.0, "c1")]), ("02", [("a", 5.0, "c0")])]
    assert books.spent(rows) == [(1.0, "EUR"), (2.0, "NOK")]


def test_drift_in_words():
    assert [books.drift({"score_shift": index}) for index in (0.05, 0.2, 0.3)] == ["little", "some", "much"]
    assert books.drift({}) == ""


def test_charts_escape_and_scale():
    chart = charts.columns([(EVIL, [(EVIL, 3.0, "c0"), ("b", 1.0, "c1")]), ("02", [])], figures.size, EVIL)
    assert "<script>" not in chart
    assert chart.count("<rect") == 2
    heights = [float(part.split('"')[0]) for part in chart.split('height="')[1:]]
    assert heights[0] == 3 * heights[1]
    assert "<script>" not in charts.curves([(EVIL, [0.5, 0.5], "c0")], EVIL, (EVIL, EVIL))
    assert "NaN" not in charts.columns([], figures.size, "")


def test_a_rollout_is_shown_with_its_reason(operator, visitor, pushed):
    digests = {number: pushed(seed=number)["digest"] for number in (1, 2)}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    device = operator.enrolled("d1")
    device.sync()
    operator.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "prod", "waves": "1,100%"})
    device.sync()
    fault = {"code": "unfit", "message": f"too slow {EVIL}"}
    target = {"version": 2, "digest": digests[2], "state": "failed", "fault": fault}
    device.sync(reported={"models": {"detector": {"target": target, "fetched": 5000}}})
    text = visitor.text("/studio/rollouts/prod-2")
    assert "rolled back" in text
    assert "1 of 1 devices failed" in text
    for path in (
        "/studio/rollouts",
        "/studio/rollouts/prod-2",
        "/studio/devices/d1/timeline",
        "/studio",
        "/studio/telemetry",
    ):
        assert "<script>alert" not in visitor.text(path)
    assert "5.0 kB" in visitor.text("/studio/ledger")
    assert "detector@2" in visitor.text("/studio/telemetry")
