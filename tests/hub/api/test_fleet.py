from tests.sim.devices import key_of

import farshore


def test_about_the_hub(operator, settings):
    found = operator.get("/v1/hub")
    assert (found["version"], found["url"]) == (farshore.__version__, settings.url)
    assert len(found["root"]) == 43


def test_the_feed_tells_what_happened_in_order(operator, pushed):
    pushed(alias="champion")
    device = operator.enrolled("d")
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    device.sync(reported={"n": 1})
    operator.ask("DELETE", "/v1/deployments/prod")
    operator.ask("DELETE", "/v1/devices/d")
    feed = operator.get("/v1/changes")
    assert [(one["kind"], one["subject"]) for one in feed] == [
        ("version.created", "detector@1"),
        ("alias.set", "detector@champion"),
        ("enrolment.created", feed[2]["subject"]),
        ("device.enrolled", "d"),
        ("deployment.created", "prod"),
        ("twin.reported", "d"),
        ("twin.desired", "d"),
        ("deployment.removed", "prod"),
        ("device.removed", "d"),
    ]
    assert [one["serial"] for one in feed] == list(range(1, 10))
    assert [one["serial"] for one in operator.get("/v1/changes", params={"after": 3, "limit": 2})] == [4, 5]


def test_a_device_as_operators_see_it(operator, pushed):
    version = pushed()
    device = operator.enrolled("d", tags={"site": "oslo"})
    assert "seen" not in operator.get("/v1/devices/d")
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector"})
    current = {"version": 1, "digest": version["digest"]}
    device.sync(reported={"models": {"detector": {"current": current}}})
    assert operator.get("/v1/devices/d") == {
        "id": "d",
        "created": "2026-09-21T14:13:20.0000000Z",
        "state": "accepted",
        "key": str(key_of("d").public),
        "seen": "2026-09-21T14:13:20.0000000Z",
        "tags": {"site": "oslo"},
        "desired": {"detector": current},
        "reported": {"detector": {"current": current}},
    }


def test_the_etag_of_a_twin_stands_in_header_and_body(operator):
    operator.enrolled("d")
    answer = operator.ask("GET", "/v1/devices/d/twin")
    assert answer.headers["etag"] == f'"{answer.json()["etag"]}"'


def test_a_twin_that_is_no_object(operator):
    operator.enrolled("d")
    for body in ([], "x", {"tags": []}, {"properties": []}, {"properties": {"desired": 3}}):
        operator.ask("PATCH", "/v1/devices/d/twin", json=body, status=400)
    assert operator.get("/v1/devices/d/twin")["version"] == 1
