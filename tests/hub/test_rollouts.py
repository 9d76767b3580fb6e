"""Rollouts through the whole API, by devices that report as real ones do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core import twin, wire
from farshore.hub import rollouts

OLD, NEW = 1, 2


@pytest.fixture
def versions(operator, pushed):
    """Two versions of a model, the first of them deployed."""
    digests = {n: pushed(seed=n)["digest"] for n in (OLD, NEW)}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    return digests


class Unit:
    """One device that does as it is told."""

    def __init__(self, operator, name, **more) -> None:
        self.device, self.seen, self.desired = operator.enrolled(name, **more), 0, {}

    def ask(self, **reported):
        """A sync; returns the version that the device is told to run."""
        answer = self.device.sync(seen=self.seen, **({"reported": reported} if reported else {}))
        if "desired" in answer:
            self.desired, self.seen = answer["desired"], answer["desired"]["$version"]
        return self.told["version"] if self.told else None

    @property
    def told(self):
        return self.desired.get("models", {}).get(twin.key_of("detector"))

    def running(self, trial=None, **more):
        """Report that what is told runs; ask again."""
        state = {"version": self.told["version"], "digest": self.told["digest"]}
        evidence = {"trial": {"digest": self.told["digest"], **trial}} if trial else {}
        self.ask(models={"detector": {"current": state, "target": None, **evidence, **more}})
        return self.ask()

    def failing(self):
        self.ask(models={"detector": {"target": {"digest": self.told["digest"], "state": "failed"}}})
        return self.ask()


def start(operator, **more):
    body = {"model": "detector@2", "deployment": "prod", "gate": {"soak": 0.0}, **more}
    return operator.ask("POST", "/v1/rollouts", json=body, status=201).json()


def percent(*steps):
    return [{"percent": step} for step in steps]


def test_all_at_once(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(3)]
    assert [one.ask() for one in units] == [OLD] * 3
    assert start(operator)["state"] == "running"
    assert [one.ask() for one in units] == [NEW] * 3
    for one in units:
        one.running()
    found = operator.get("/v1/rollouts/prod-2")
    assert found["state"] == "done"
    tally = found["waves"][0]["tally"]
    assert {key: value for key, value in tally.items() if value} == {"admitted": 3, "confirmed": 3}
    assert operator.get("/v1/deployments/prod")["version"] == NEW
    assert Unit(operator, "late").ask() == NEW


def test_one_then_all(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(4)]
    for one in units:
        one.ask()
    start(operator, waves=[{"count": 1}, *percent(100)])
    assert [one.ask() for one in units] == [NEW, OLD, OLD, OLD]
    assert [one.ask() for one in reversed(units)] == [OLD, OLD, OLD, NEW]
    units[0].running()
    assert [one.ask() for one in units] == [NEW] * 4


def test_a_failure_sends_the_first_wave_back_and_the_rest_never_heard_of_it(operator, versions, clock):
    units = [Unit(operator, f"d{n}", tags={"ring": n}) for n in range(4)]
    for one in units:
        one.ask()
        one.running()
    start(operator, waves=[{"selector": "tags.ring < 2"}, *percent(100)])
    assert [one.ask() for one in units] == [NEW, NEW, OLD, OLD]
    assert units[0].failing() == OLD
    assert [one.ask() for one in units] == [OLD] * 4
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["reason"]) == (
        "rolled back",
        "wave 1: 1 of 1 devices failed; at most 5 % of them may",
    )
    assert operator.get("/v1/deployments/prod")["version"] == OLD
    assert units[2].desired["$version"] == 2  # never told anything new
    kinds = [line["kind"] for line in operator.get("/v1/changes?limit=1000")]
    assert kinds.count("rollout.started") == kinds.count("rollout.rolled-back") == 1


def test_a_model_that_answers_otherwise_is_stopped(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(3)]
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"soak": 0.0, "agreement": 0.9, "compared": 50})
    assert [one.ask() for one in units] == [NEW, OLD, OLD]
    assert units[0].running({"requests": 100, "compared": 40, "agreed": 10}) == NEW  # too few to say
    assert units[0].running({"requests": 100, "compared": 60, "agreed": 30}) == OLD
    assert (
        "0.5 of answers agree with the previous version's (60 answers)" in operator.get("/v1/rollouts/prod-2")["reason"]
    )


def sketch(before, after, high=9):
    """Findings of both versions by class; all of the new one's as sure as bin ``high`` says."""
    names = sorted({*before, *after})
    bins = [0] * 10
    return {
        "classes": [[name, before.get(name, 0), after.get(name, 0)] for name in names],
        "before": [*bins[:9], sum(before.values())],
        "after": [*bins[:high], sum(after.values()), *bins[high + 1 :]],
    }


@pytest.mark.parametrize(
    ("gate", "said", "reason"),
    [
        (
            {"class_shift": 0.2},
            sketch({"ship": 70, "buoy": 30}, {"ship": 40, "buoy": 60}),
            "0.3 of findings are of other classes than the previous version's (buoy 30 % before, 60 % now); at most 0.2 is asked",
        ),
        (
            {"score_shift": 0.25},
            sketch({"ship": 100}, {"ship": 100}, high=5),
            "confidences have a stability index of",
        ),
    ],
)
def test_a_model_that_finds_other_things_or_is_less_sure_is_stopped(operator, versions, gate, said, reason):
    units = [Unit(operator, f"d{n}") for n in range(4)]
    start(operator, waves=[{"count": 2}, *percent(100)], gate={"soak": 0.0, "compared": 100, **gate})
    assert [one.ask() for one in units] == [NEW, NEW, OLD, OLD]
    assert units[0].told["trial"]["shadow"] == {"share": 0.1, "answers": 200, "seconds": 3600.0}
    evidence = {"compared": 60, "agreed": 60, "sketch": said, "unseen": True}
    target = {"digest": units[0].told["digest"], "state": "trial"}
    for one in units[:2]:
        state = operator.get("/v1/rollouts/prod-2")["state"]
        assert state == "running"  # sixty answers of one device are too few
        one.ask(models={"detector": {"target": target, "trial": {"digest": one.told["digest"], **evidence}}})
    found = operator.get("/v1/rollouts/prod-2")
    assert found["state"] == "rolled back"
    assert reason in found["reason"]
    assert found["waves"][0]["tally"]["switched"] == 0, "nobody has switched to it"
    assert found["waves"][0]["tally"]["classes"]["ship"][0] == 2 * said["classes"][-1][1]
    assert [one.ask() for one in units] == [OLD] * 4


def test_who_changes_what_he_found_is_counted_once_and_strange_classes_fill_nothing(operator, versions):
    one, other = Unit(operator, "d0"), Unit(operator, "d1")
    start(operator, gate={"soak": 3600.0, "class_shift": 1.0})
    for unit in (one, other):
        unit.ask()

    def say(unit, said):
        unit.ask(
            models={"detector": {"trial": {"digest": unit.told["digest"], "compared": 5, "agreed": 5, "sketch": said}}}
        )
        return operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]

    assert say(one, sketch({"ship": 4}, {"ship": 3}))["classes"] == {"ship": [4, 3]}
    assert say(one, sketch({"ship": 6}, {"buoy": 5}))["classes"] == {"ship": [6, 0], "buoy": [0, 5]}
    for number in range(10):
        tally = say(other, sketch({f"c{number}.{more}": 1 for more in range(12)}, {}))
    assert len(tally["classes"]) <= 65
    assert sum(before for before, _ in tally["classes"].values()) == 6 + 12
    tally = say(other, {"classes": [["ship", 1 << 51, 0]]})
    assert tally["classes"]["ship"] == [1_000_006, 0]


def test_time_moves_rollouts_too(operator, versions, clock, hub):
    unit = Unit(operator, "d")
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"soak": 600})
    unit.ask(), unit.running()
    assert not hub.rollouts.tick()
    clock.now += 599
    assert not hub.rollouts.tick()
    clock.now += 1
    assert hub.rollouts.tick()
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["wave"]) == ("running", 1)


def test_a_deadline_pauses_and_an_operator_goes_on(operator, versions, clock, hub):
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"deadline": 60, "on_failure": "pause"})
    clock.now += 61
    hub.rollouts.tick()
    found = operator.get("/v1/rollouts/prod-2")
    assert found["state"] == "paused"
    assert found["reason"] == "wave 1: after 1 min 0 of 1 devices have confirmed or failed; 1 must"
    assert operator.ask("POST", "/v1/rollouts/prod-2/advance", json={}).json()["wave"] == 1
    assert Unit(operator, "d").ask() == NEW


def test_an_operator_overrules_a_gate_that_pauses(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(4)]
    start(operator, waves=[{"count": 2}, *percent(100)], gate={"soak": 0.0, "on_failure": "pause"})
    assert [one.ask() for one in units] == [NEW, NEW, OLD, OLD]
    units[0].failing()
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["reason"][:7]) == ("paused", "wave 1:")
    refused = operator.ask("POST", "/v1/rollouts/prod-2/resume", json={}, status=409).json()["error"]["message"]
    assert "wave 1: 1 of 1 devices failed" in refused and "farshore rollout advance prod-2" in refused
    on = operator.ask("POST", "/v1/rollouts/prod-2/advance", json={}).json()
    assert (on["state"], on["wave"]) == ("running", 1)
    assert [one.ask() for one in units] == [NEW] * 4
    for one in units[1:]:
        one.running()
    assert operator.get("/v1/rollouts/prod-2")["state"] == "done"


def test_an_operator_ends_what_has_nobody_left_to_wait_for(operator, versions):
    unit = Unit(operator, "only")
    start(operator, waves=[{"count": 1}, *percent(100)])
    unit.ask(), unit.running()
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["wave"]) == ("running", 1)  # the last wave waits for devices that are not there
    assert operator.ask("POST", "/v1/rollouts/prod-2/advance", json={}).json()["state"] == "done"
    assert Unit(operator, "late").ask() == NEW
    operator.ask("POST", "/v1/rollouts/prod-2/advance", json={}, status=409)
    operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={})
    assert unit.ask() == OLD


def test_pause_and_abort_keep_what_is_there(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(3)]
    start(operator, waves=[{"count": 1}, *percent(100)])
    assert [one.ask() for one in units] == [NEW, OLD, OLD]
    operator.ask("POST", "/v1/rollouts/prod-2/pause", json={"reason": "for lunch"})
    units[0].running()
    assert [one.ask() for one in units] == [NEW, OLD, OLD]
    assert operator.get("/v1/rollouts/prod-2")["reason"] == "for lunch"
    operator.ask("POST", "/v1/rollouts/prod-2/abort", json={})
    assert [one.ask() for one in units] == [NEW, OLD, OLD]
    said = operator.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "prod"}, status=409).json()
    assert "stands between two versions" in said["error"]["message"]
    operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={})
    assert [one.ask() for one in units] == [OLD] * 3


def test_rolling_back_what_is_done(operator, versions):
    unit = Unit(operator, "d")
    start(operator)
    unit.ask(), unit.running()
    assert operator.get("/v1/rollouts/prod-2")["state"] == "done"
    operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={})
    assert unit.ask() == OLD
    start(operator, id="again")
    assert unit.ask() == NEW


def test_a_rollout_may_bring_the_first_version(operator, versions):
    operator.ask("DELETE", "/v1/deployments/prod")
    units = [Unit(operator, f"d{n}") for n in range(2)]
    start(operator, deployment="fresh", selector="*", waves=[{"count": 1}, *percent(100)])
    assert [one.ask() for one in units] == [NEW, None]
    operator.ask("POST", "/v1/rollouts/fresh-2/rollback", json={})
    assert [one.ask() for one in units] == [None, None]
    operator.ask("GET", "/v1/deployments/fresh", status=404)


def test_devices_that_an_operator_holds_do_not_count(operator, versions, pushed):
    unit, third = Unit(operator, "held"), pushed(seed=3)
    unit.ask()
    held = {"models": {"detector": {"version": third["version"], "digest": third["digest"]}}}
    operator.ask("PATCH", "/v1/devices/held/twin", json={"properties": {"desired": held}})
    start(operator)
    assert unit.ask() == third["version"]
    assert operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]["admitted"] == 0


def test_who_changes_his_mind_is_counted_once(operator, versions):
    unit = Unit(operator, "d")
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"failure": 1.0, "soak": 60})
    unit.ask()
    unit.running({"requests": 10, "latency": 0.3, "latency_before": 0.1})
    unit.failing()
    unit.running({"requests": 25, "latency": 0.1, "latency_before": 0.1})
    tally = operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]
    assert (tally["admitted"], tally["confirmed"], tally["failed"]) == (1, 1, 0)
    assert (tally["requests"], tally["latency"], tally["timed"]) == (25, 1.0, 1)
    [member] = operator.get("/v1/rollouts/prod-2/devices")
    assert (member["device"], member["state"], member["wave"]) == ("d", "confirmed", 0)
    assert operator.get("/v1/rollouts/prod-2/devices?state=failed") == []


COUNTS, SECONDS = st.integers(0, 1 << 53), st.floats(0, 1e9)
FIGURES = dict.fromkeys(("requests", "errors", "compared", "agreed", "memory", "memory_before"), COUNTS)
FIGURES |= dict.fromkeys(("gap", "latency", "latency_before"), SECONDS)


@given(st.builds(wire.Trial, st.just("sha256:" + "0" * 64), **FIGURES))
def test_no_device_outweighs_a_fleet(trial):
    """Whatever a device says, sums stay finite, exact where they count, and no more answers agree than there are."""
    found = rollouts.evidence_of(wire.ReportedModel(trial=trial), trial.digest)
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert found["agreed"] <= found["compared"] <= rollouts.MOST_ANSWERS
    assert found["errors"] <= found["requests"] <= rollouts.MOST_ANSWERS
    assert all(0 <= found.get(name, 0) <= rollouts.MOST_TIMES for name in ("latency", "memory"))
    if trial.compared:
        given = min(trial.agreed, trial.compared) / trial.compared
        assert found["agreed"] / found["compared"] == pytest.approx(given, abs=2e-6)


def test_absurd_figures_of_one_device_break_nothing(operator, versions):
    unit = Unit(operator, "d")
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"failure": 1.0, "soak": 60})
    unit.ask()
    unit.running({"latency": 1e9, "latency_before": 5e-324, "compared": 1, "agreed": 1 << 51})
    tally = operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]
    assert (tally["compared"], tally["agreed"], tally["latency"]) == (1, 1, rollouts.MOST_TIMES)
    unit.running({"latency": 0.1, "latency_before": 0.1})
    assert operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]["latency"] == 1.0


def test_what_was_said_before_a_rollout_is_not_counted_in_it(operator, versions):
    unit = Unit(operator, "d")
    gate = {"soak": 60, "errors": 0.1, "on_failure": "pause"}
    start(operator, waves=[{"count": 1}, *percent(100)], gate=gate)
    unit.ask()
    said = {"trial": {"digest": versions[NEW], "requests": 50, "errors": 50}}
    unit.ask(models={"detector": said})
    assert operator.get("/v1/rollouts/prod-2")["state"] == "paused"
    operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={})
    assert unit.ask() == OLD
    start(operator, id="again", waves=[{"count": 1}, *percent(100)], gate=gate)
    assert unit.ask(models={"detector": {**said, "fetched": 7}}) == NEW  # the sync that takes it in
    found = operator.get("/v1/rollouts/again")
    assert (found["state"], found["waves"][0]["tally"]["admitted"]) == ("running", 1)
    assert found["waves"][0]["tally"]["requests"] == 0


def test_a_device_that_is_deleted_gives_its_place_to_the_next(operator, versions):
    first, second = (Unit(operator, name) for name in ("first", "second"))
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"soak": 60, "failure": 1.0})
    assert [first.ask(), second.ask()] == [NEW, OLD]
    first.running({"requests": 9})
    first.failing()
    operator.ask("DELETE", "/v1/devices/first")
    tally = operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]
    assert not any(tally.values())
    assert second.ask() == NEW
    assert Unit(operator, "first").ask() == OLD  # enrolled anew: nobody is counted twice
    assert operator.get("/v1/rollouts/prod-2")["waves"][0]["tally"]["admitted"] == 1


def test_an_aborted_rollout_is_kept_while_its_deployment_stands_on_it(operator, versions, hub, clock):
    unit, other = (Unit(operator, name) for name in ("d", "other"))
    start(operator, waves=[{"count": 1}, *percent(100)])
    assert [unit.ask(), other.ask()] == [NEW, OLD]
    operator.ask("POST", "/v1/rollouts/prod-2/abort", json={})
    for name in ("d", "other"):
        operator.ask("DELETE", f"/v1/devices/{name}")
    said = operator.ask("DELETE", "/v1/models/detector/versions/1", status=409).json()
    assert "rollout prod-2" in said["error"]["message"]  # those that come later get it
    clock.now += 2 * rollouts.KEPT
    hub.tidy()
    operator.ask("PUT", "/v1/deployments/another", json={"selector": "tags.a = 1", "model": "detector@2"})
    assert Unit(operator, "late").ask() == OLD
    operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={})
    clock.now += 2 * rollouts.KEPT
    hub.tidy()
    assert operator.get("/v1/rollouts") == []


def test_there_is_no_way_back_to_a_version_that_is_gone(operator, versions, clock):
    unit = Unit(operator, "d")
    clock.now += 1
    start(operator)
    unit.ask(), unit.running()
    operator.ask("DELETE", "/v1/models/detector/versions/1")
    said = operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={}, status=409).json()
    assert "named before is gone" in said["error"]["message"]
    assert operator.get("/v1/deployments/prod")["version"] == NEW
    assert unit.ask() == NEW


def test_a_long_name_leaves_room_for_the_rollouts(operator, versions):
    assert start(operator, deployment="d" * 63)["id"] == "d" * 61 + "-2"
    operator.ask("POST", f"/v1/rollouts/{'d' * 61}-2/rollback", json={})
    assert start(operator, deployment="d" * 63)["id"] == "d" * 59 + "-2-2"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "detector@9"}, 404, "no version '9'"),
        ({"model": "detector@1"}, 409, "names detector@1 already"),
        ({"waves": [{"percent": 5}]}, 400, "must be 100%"),
        ({"waves": [{"percent": 5, "count": 1}]}, 400, "one of count, percent and selector"),
        ({"waves": [{"selector": "colour = 1"}, {"percent": 100}]}, 400, "unknown property"),
        ({"selector": "tags.a = 1"}, 400, "leave --to away"),
        ({"gate": {"agreement": 2}}, 400, "agreement"),
    ],
)
def test_what_cannot_be_started(operator, versions, body, status, said):
    asked = {"model": "detector@2", "deployment": "prod", **body}
    answer = operator.ask("POST", "/v1/rollouts", json=asked, status=status)
    assert said in answer.json()["error"]["message"]
    assert operator.get("/v1/rollouts") == []


def test_one_rollout_at_a_time_for_a_deployment(operator, versions, pushed):
    pushed(seed=3)
    start(operator)
    for method, path, body in (
        ("POST", "/v1/rollouts", {"model": "detector@3", "deployment": "prod"}),
        ("PUT", "/v1/deployments/prod", {"selector": "*", "model": "detector@3"}),
        ("DELETE", "/v1/deployments/prod", None),
    ):
        said = operator.ask(method, path, status=409, **({"json": body} if body else {})).json()
        assert "rollout prod-2 is changing deployment prod" in said["error"]["message"]


def test_versions_in_a_rollout_are_kept(operator, versions):
    start(operator)
    for number in (OLD, NEW):
        operator.ask("DELETE", f"/v1/models/detector/versions/{number}", status=409)


def test_a_rollout_costs_the_same_for_any_fleet(operator, versions, hub, clock):
    from sqlalchemy import event

    written = []

    def note(_connection, _cursor, sql, *_):
        if sql.split()[0] in {"INSERT", "UPDATE", "DELETE"}:
            written.append(sql)

    counts = []
    for devices in (1, 60):
        units = [Unit(operator, f"d{devices}-{n}") for n in range(devices)]
        for one in units:
            one.ask()
        event.listen(hub.database.engine, "before_cursor_execute", note)
        start(operator, id=f"r{devices}", waves=[*percent(1, 100)])
        operator.ask("POST", f"/v1/rollouts/r{devices}/advance", json={})
        operator.ask("POST", f"/v1/rollouts/r{devices}/rollback", json={})
        event.remove(hub.database.engine, "before_cursor_execute", note)
        counts.append(len(written))
        written.clear()
    assert counts[0] == counts[1] < 20


def ready(unit, fetched=0):
    """It has what is told beside, tried out, and waits."""
    target = {"digest": unit.told["digest"], "state": "ready", "version": NEW, "cause": "switch"}
    unit.ask(models={"detector": {"target": target, "fetched": fetched}})
    return unit.ask()


def test_blue_green_is_one_switch_and_one_switch_back(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(3)]
    for one in units[:2]:
        one.ask()
        one.running()
    found = start(operator, strategy="blue-green", waves=[{"count": 1}, *percent(100)])
    assert found["held"]
    assert [one.ask() for one in units] == [NEW, OLD, OLD]  # the third runs nothing yet: that comes first
    assert units[0].told["hold"] is True
    ready(units[0])
    assert [one.ask() for one in units] == [NEW, NEW, OLD]
    units[2].running()
    assert units[2].told["hold"] is True
    for one in units:
        ready(one)
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["held"]) == ("running", True)
    assert "2 of 2 devices are ready; farshore rollout advance prod-2" in found["waiting"]
    assert "waits for the switch" in operator.get("/v1/devices/d0/why/detector")["chain"][-1]["text"]

    assert "held" not in operator.ask("POST", "/v1/rollouts/prod-2/advance", json={}).json()
    assert [one.ask() for one in units] == [NEW] * 3
    assert not any("hold" in one.told for one in units)
    assert units[1].running() == NEW
    assert operator.get("/v1/rollouts/prod-2")["state"] == "running"
    operator.ask("POST", "/v1/rollouts/prod-2/rollback", json={})
    assert [one.ask() for one in units] == [OLD] * 3


def test_a_version_that_fails_beside_stops_before_the_switch(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(2)]
    for one in units:
        one.ask()
        one.running()
    start(operator, strategy="blue-green")
    assert [one.ask() for one in units] == [NEW, NEW]
    assert units[0].failing() == OLD
    assert operator.get("/v1/rollouts/prod-2")["state"] == "rolled back"
    assert units[1].ask() == OLD


def test_activation_windows_stay_with_the_deployment(operator, versions):
    unit = Unit(operator, "d")
    unit.ask()
    unit.running()
    start(operator, activate=["02:00-04:00"])
    unit.ask()
    assert unit.told["activate"] == ["02:00-04:00"]
    unit.running()
    assert operator.get("/v1/rollouts/prod-2")["state"] == "done"
    late = Unit(operator, "late")
    late.ask()
    assert late.told["activate"] == ["02:00-04:00"]
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@2", "activate": []})
    late.ask()
    assert "activate" not in late.told
    start_ = {"model": "detector@1", "deployment": "prod", "activate": ["4:00-5:00"]}
    operator.ask("POST", "/v1/rollouts", json=start_, status=400)


AGENT = {"runtimes": ["onnxruntime"], "memory": 1 << 30, "machine": "x86_64"}


def test_a_rollout_stops_within_its_budget(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(4)]
    for one in units:
        one.device.sync(reported={"agent": AGENT})
    version = operator.get("/v1/models/detector/versions/2")
    size = sum(file["size"] for file in version["manifest"]["variants"][0]["files"])
    found = start(operator, budget={"bytes": int(size * 2.5)})
    assert [one.ask() for one in units] == [NEW, NEW, OLD, OLD]
    found = operator.get("/v1/rollouts/prod-2")
    assert found["state"] == "paused"
    assert found["reason"].startswith("over budget: d2 needs ")
    assert found["bytes"] == 2 * size  # foreseen
    why = operator.get("/v1/devices/d3/why/detector")["chain"][-1]
    assert why["code"] == "over-budget"

    units[0].running(fetched=size // 4)  # a patch did it
    assert operator.get("/v1/rollouts/prod-2")["bytes"] == size + size // 4
    operator.ask("POST", "/v1/rollouts/prod-2/resume", json={})
    assert [one.ask() for one in units] == [NEW, NEW, NEW, OLD]
    assert operator.get("/v1/rollouts/prod-2")["state"] == "paused"
    operator.ask("POST", "/v1/rollouts/prod-2/resume", json={"budget": {"bytes": size * 10}})
    assert units[3].ask() == NEW
    for one in units:
        one.running(fetched=size // 4)
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["bytes"]) == ("running", 4 * (size // 4))  # late devices count, too
    assert "advance prod-2 ends it" in found["waiting"]
    assert operator.ask("POST", "/v1/rollouts/prod-2/advance", json={}).json()["state"] == "done"


def test_a_budget_of_money_goes_by_links(operator, versions):
    operator.ask("PUT", "/v1/links/iridium", json={"price": 1000.0, "currency": "EUR"})
    units = [Unit(operator, f"d{n}", tags={"link": "iridium"} if n else {}) for n in range(3)]
    for one in units:
        one.device.sync(reported={"agent": AGENT})
    start(operator, budget={"money": 0.0001})
    assert [one.ask() for one in units] == [NEW, OLD, OLD]  # the first pays nothing
    assert "of money more" in operator.get("/v1/rollouts/prod-2")["reason"]
    operator.ask("PUT", "/v1/links/lte", json={"price": 1.0, "currency": "USD"})
    said = operator.ask("POST", "/v1/rollouts/prod-2/resume", json={"budget": {"money": 5.0}}, status=400).json()
    assert "EUR, USD: a budget of money needs one currency" in said["error"]["message"]


def test_a_deleted_device_leaves_what_it_moved(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(2)]
    for one in units:
        one.device.sync(reported={"agent": AGENT})
    start(operator, budget={"bytes": 1 << 40})
    for one in units:
        one.ask()
    units[0].running(fetched=1000)
    before = operator.get("/v1/rollouts/prod-2")["bytes"]
    operator.ask("DELETE", "/v1/devices/d0")
    assert operator.get("/v1/rollouts/prod-2")["bytes"] == before
    operator.ask("DELETE", "/v1/devices/d1")  # it had moved nothing
    assert operator.get("/v1/rollouts/prod-2")["bytes"] == 1000


def test_an_alias_is_resolved_and_recorded_at_the_start(operator, versions):
    operator.ask("PUT", "/v1/models/detector/aliases/champion", json={"version": 2})
    found = start(operator, model="detector@champion")
    assert (found["version"], found["ref"], found["selector"]) == (NEW, "detector@champion", "*")
    operator.ask("PUT", "/v1/models/detector/aliases/champion", json={"version": 1})
    assert Unit(operator, "d").ask() == NEW


def test_approval_between_waves(operator, versions):
    units = [Unit(operator, f"d{n}") for n in range(2)]
    start(operator, waves=[{"count": 1}, *percent(100)], gate={"soak": 0.0, "approval": True})
    assert [one.ask() for one in units] == [NEW, OLD]
    units[0].running()
    found = operator.get("/v1/rollouts/prod-2")
    assert (found["state"], found["wave"]) == ("paused", 0)
    assert "waits for approval" in found["reason"]
    assert units[1].ask() == OLD
    operator.ask("POST", "/v1/rollouts/prod-2/advance", json={})
    assert units[1].ask() == NEW
