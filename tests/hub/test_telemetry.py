"""How versions did on devices."""

import pytest

from farshore.hub import telemetry
from farshore.hub.gate import Tally


def test_tallies_add_up():
    one = Tally(admitted=2, latency=1.5, timed=1, classes={"ship": (2.0, 1.0)}, scores_before=(1.0, 2.0))
    other = Tally(
        admitted=1, latency=2.5, timed=2, classes={"ship": (1.0, 1.0), "buoy": (0.0, 3.0)}, scores_after=(0.0, 4.0)
    )
    found = telemetry.add(one, other)
    assert (found.admitted, found.latency, found.timed) == (3, 4.0, 3)
    assert found.classes == {"ship": (3.0, 2.0), "buoy": (0.0, 3.0)}
    assert (found.scores_before, found.scores_after) == ((1.0, 2.0), (0.0, 4.0))


def test_by_rollout(operator, pushed):
    digests = {number: pushed(seed=number)["digest"] for number in (1, 2)}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    device = operator.enrolled("d")
    device.sync()
    device.sync(reported={"models": {"detector": {"current": {"version": 1, "digest": digests[1]}}}})
    assert operator.get("/v1/models/detector/behaviour") == []
    operator.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "prod", "gate": {"agreement": 0.5}})
    device.sync()
    shadow = {"classes": [["ship", 8, 6], ["buoy", 2, 4]], "before": [0] * 9 + [10], "after": [0] * 9 + [10]}
    trial = {"digest": digests[2], "requests": 100, "errors": 1, "latency": 0.02, "latency_before": 0.01, "compared": 40,
             "agreed": 36, "sketch": shadow}  # fmt: skip
    current = {"version": 2, "digest": digests[2]}
    device.sync(reported={"models": {"detector": {"current": current, "trial": trial}}})
    [found] = operator.get("/v1/models/detector/behaviour")
    assert (found["version"], found["before"], found["devices"]) == (2, 1, 1)
    assert (found["errors"], found["agreement"]) == (0.01, 0.9)
    assert found["latency"] == pytest.approx(2.0)
    assert found["classes"][0] == {"name": "ship", "before": 0.8, "after": 0.6}
    assert found["class_shift"] == pytest.approx(0.2)
    assert found["score_shift"] == 0.0
    operator.ask("GET", "/v1/models/none/behaviour", status=404)
