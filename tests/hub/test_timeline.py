"""What happened, in a few words."""

import pytest

from farshore.core.wire import DesiredModel, Fault, ReportedModel, Running, Target
from farshore.hub import timeline

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def model(current=None, target=None, state="downloading", fault=None, done=0):
    running = None if current is None else Running(current, (ONE, TWO)[current - 1])
    aim = None if target is None else Target((ONE, TWO)[target - 1], state, target, done, fault=fault)
    return {"m": ReportedModel(running, target=aim)}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, model(), ""),
        ({}, model(1), "runs m@1"),
        (model(1), model(1), ""),
        (model(1), model(1, 2), "m@2 downloading"),
        (model(1, 2), model(1, 2, done=5), ""),
        (model(1, 2), model(2, 2, "trial"), "runs m@2; m@2 trial"),
        (model(2, 2, "trial"), model(2), "keeps m@2"),
        (model(2, 2, "trial"), model(1, 2, "failed", Fault("unfit", "too slow")), "runs m@1; m@2 failed: too slow"),
        (model(1), model(), "runs no m any more"),
        (model(1), {}, "says nothing of m any more"),
    ],
)
def test_reports(before, after, said):
    assert timeline.said(before, after) == said


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"m": DesiredModel(1, ONE)}, "should run m@1"),
        ({"m": DesiredModel(1, ONE)}, {"m": DesiredModel(1, ONE)}, ""),
        ({"m": DesiredModel(1, ONE)}, {"m": DesiredModel(1, ONE, retry=1)}, "should try m@1 again"),
        ({"m": DesiredModel(1, ONE)}, {}, "should not run m any more"),
    ],
)
def test_orders(before, after, told):
    assert timeline.told(before, after) == told


def test_a_line_ends_somewhere():
    assert len(timeline.said({}, model(1, 2, "failed", Fault("unfit", "x" * 1000)))) == timeline.MOST


def test_of_a_device_and_of_a_rollout(operator, pushed):
    digests = {number: pushed(seed=number)["digest"] for number in (1, 2)}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    device = operator.enrolled("d")
    device.sync()
    device.sync(reported={"models": {"detector": {"current": {"version": 1, "digest": digests[1]}}}})
    operator.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "prod", "gate": {"soak": 0}})
    device.sync()
    target = {"version": 2, "digest": digests[2], "state": "failed", "fault": {"code": "unfit", "message": "too slow"}}
    device.sync(reported={"models": {"detector": {"target": target}}})
    device.sync()
    lines = operator.get("/v1/devices/d/timeline")
    assert [(one["kind"], one.get("detail", "")) for one in lines] == [
        ("twin.desired", "should run detector@1"),
        ("twin.reported", "detector@2 failed: too slow"),
        ("twin.desired", "should run detector@2"),
        ("twin.reported", "runs detector@1"),
        ("twin.desired", "should run detector@1"),
        ("device.enrolled", ""),
    ]
    older = operator.get("/v1/devices/d/timeline", params={"before": lines[1]["serial"], "limit": 1})
    assert [one["serial"] for one in older] == [lines[2]["serial"]]
    newest = operator.get("/v1/rollouts/prod-2/timeline")[0]
    assert newest["kind"] == "rollout.rolled-back"
    assert newest["detail"].startswith("wave 1: 1 of 1 devices failed")
    operator.ask("GET", "/v1/devices/nobody/timeline", status=404)
    operator.ask("GET", "/v1/rollouts/none/timeline", status=404)
