"""Plans against what devices would really fetch, with real patches."""

import pytest
from tests.hub.test_builds import make_model, push  # noqa: F401 - fixtures

from farshore import delta

pytestmark = pytest.mark.skipif(not delta.COMPILED, reason="patches need the compiled kernel")
AGENT = {"runtimes": ["onnxruntime"], "memory": 1 << 30, "machine": "x86_64"}


def settle(operator, name, version, variant="onnx-fp32", **more):
    device = operator.enrolled(name, **more)
    current = {"version": version["version"], "digest": version["digest"], "variant": variant}
    device.sync(reported={"agent": AGENT, "models": {"detector": {"current": current}} if version else {}})
    return device


def test_a_plan_is_what_tickets_offer(operator_of, make_model):  # noqa: F811
    operator = operator_of(builders=1, patch_wait=120.0)
    make = lambda data: operator.push(  # noqa: E731
        "detector",
        {"net.onnx": data, "labels.txt": b"ship\nbuoy\nturbine\n"},
        overrides="[input]\nmean = 127.5\nstd = 127.5\n",
    )
    one, two = make(make_model(head=1)), make(make_model(head=2, moved=0.001))
    operator.ask("PUT", "/v1/links/iridium", json={"price": 10.0, "currency": "EUR", "rate": 1000})
    settle(operator, "holds", one, tags={"link": "iridium"})
    operator.enrolled("fresh").sync(reported={"agent": AGENT})
    operator.enrolled("tiny").sync(reported={"agent": {**AGENT, "runtimes": ["litert"]}})
    plan = operator.ask("POST", "/v1/rollouts/plan", json={"model": "detector@2"}).json()
    assert plan["exact"] and plan["version"] == 2
    found = {row["device"]: row for row in plan["devices"]}
    assert "no variant fits it: it has litert" in found["tiny"]["trouble"]
    assert found["holds"]["route"] == "patch"
    assert found["fresh"]["bytes"] <= found["fresh"]["whole"]
    assert found["holds"]["bytes"] < 0.9 * found["holds"]["whole"]
    assert found["holds"]["seconds"] == pytest.approx(found["holds"]["bytes"] / 1000)
    assert found["holds"]["money"] == pytest.approx(found["holds"]["bytes"] / 1e5)
    assert operator.get("/v1/rollouts") == []  # nothing was begun

    operator.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "detector"})
    have = {
        file["digest"] for file in operator.get("/v1/models/detector/versions/1")["manifest"]["variants"][0]["files"]
    }
    files = operator.get("/v1/models/detector/versions/2")["manifest"]["variants"][0]["files"]
    device = operator.enrolled("holds-too")
    device.sync()
    offered = sum(
        device.ticket(file["digest"], have=sorted(have))["routes"][0]["size"]
        for file in files
        if file["digest"] not in have and file.get("role") != "other"
    )
    assert offered == found["holds"]["bytes"]
    assert two["version"] == 2


def test_a_plan_refuses_what_a_start_would(operator, pushed):
    pushed(seed=1), pushed("other", seed=2)
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    for body, status in (({"model": "detector@9"}, 404), ({"model": "other@1", "deployment": "prod"}, 409)):
        operator.ask("POST", "/v1/rollouts/plan", json=body, status=status)
