"""The fleet in figures."""

import pytest


@pytest.fixture
def fleet(operator, pushed, clock):
    """Four devices: one runs version 1, one is told 2 and gave it up, one is kept out, one never came."""
    digests = {number: pushed(seed=number)["digest"] for number in (1, 2)}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "tags.site = 'oslo'", "model": "detector@1"})
    one, two = (operator.enrolled(name, tags={"site": "oslo"}) for name in ("d1", "d2"))
    for device in (one, two):
        device.sync()
        device.sync(reported={"models": {"detector": {"current": {"version": 1, "digest": digests[1]}}}})
    operator.enrolled("d3", tags={"site": "bergen"}, approval=True)
    operator.enrolled("d4", tags={"site": "bergen"})
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "tags.site = 'oslo'", "model": "detector@2"})
    fault = {"code": "unfit", "message": "acceptance: 3 of 4 boxes missed"}
    target = {"version": 2, "digest": digests[2], "state": "failed", "fault": fault}
    two.sync()
    two.sync(reported={"models": {"detector": {"target": target}}})
    return one, two


def test_counts_and_what_wants_an_eye(operator, fleet, hub):
    fleet[0].sync()
    hub.fleet.flush_seen()
    found = operator.get("/v1/summary")
    assert (found["devices"], found["states"]) == (4, {"accepted": 3, "pending": 1})
    assert (found["heard"], found["silent"], found["never"], found["failed"]) == (2, 0, 1, 1)
    assert found["models"] == [
        {
            "model": "detector",
            "devices": 2,
            "versions": [{"version": 2, "devices": 0, "due": 2}, {"version": 1, "devices": 2, "due": 0}],
        }
    ]
    assert found["attention"] == [
        {
            "kind": "failed",
            "text": "acceptance: 3 of 4 boxes missed",
            "device": "d2",
            "devices": 1,
            "model": "detector",
            "version": 2,
        },
        {"kind": "pending", "text": "it waits for an operator's approval", "device": "d3", "devices": 1},
    ]


def test_part_of_the_fleet(operator, fleet):
    assert operator.get("/v1/summary", params={"where": "tags.site = 'bergen'"})["states"] == {
        "accepted": 1,
        "pending": 1,
    }
    found = operator.get("/v1/summary", params={"where": "deviceId = 'd1'"})
    assert (found["devices"], found["failed"], found["attention"]) == (1, 0, [])
    assert operator.get("/v1/summary", params={"where": "deviceId = 'nobody'"})["devices"] == 0
    said = operator.ask("GET", "/v1/summary", params={"where": "tags.site ="}, status=400).json()
    assert "column 12" in said["error"]["message"]


def test_silence(operator, fleet, hub, clock):
    hub.fleet.flush_seen()
    clock.now += hub.census.silence + 1
    found = operator.get("/v1/summary")
    assert (found["heard"], found["silent"]) == (0, 2)
    [first, _] = [one for one in found["attention"] if one["kind"] == "silent"]
    assert first["device"] == "d1"
    assert first["text"].startswith("not heard of for ")


def test_stopped_rollouts_come_first(operator, fleet, hub, clock):
    operator.ask("POST", "/v1/rollouts", json={"model": "detector@1", "deployment": "prod", "id": "back"})
    assert operator.get("/v1/summary")["moving"] == ["back"]
    operator.ask("POST", "/v1/rollouts/back/rollback", json={"reason": "too slow"})
    found = operator.get("/v1/summary")
    assert found["moving"] == []
    assert (found["attention"][0]["rollout"], found["attention"][0]["text"]) == ("back", "rolled back: too slow")
    clock.now += 8 * 86400
    assert all(one["kind"] != "rollout" for one in operator.get("/v1/summary")["attention"])


def test_lists_by_state_and_by_what_runs(operator, fleet):
    def ids(**query):
        return [one["id"] for one in operator.get("/v1/devices", params=query)["items"]]

    assert ids(state="pending") == ["d3"]
    assert ids(model="detector") == ids(model="detector", version="1") == ["d1", "d2"]
    assert ids(model="detector", version="2") == ids(model="other") == []
    assert ids(where="tags.site = 'bergen'", state="accepted") == ["d4"]
    assert ids(where="tags.site = 'bergen'", limit=1) == ["d3"]
    operator.ask("GET", "/v1/devices?version=two", status=400)


def test_pages_of_a_narrow_selector_are_whole(operator):
    for number in range(12):
        operator.enrolled(f"d{number:02}", tags={"n": number, "even": number % 2 == 0, "text": "a\x00b"})
    found, after = [], ""
    while True:
        page = operator.get("/v1/devices", params={"where": "tags.even AND tags.n >= 4", "limit": 2, "after": after})
        found += [one["id"] for one in page["items"]]
        if not page.get("next"):
            break
        after = page["next"]
    assert found == ["d04", "d06", "d08", "d10"]


def test_figures_are_kept_until_anything_changes(operator, fleet, hub, clock):
    first = hub.census.summary()
    assert hub.census.summary() is first
    operator.ask("POST", "/v1/devices/d1/revoke", json={"reason": "gone"})
    second = hub.census.summary()
    assert (second.states["revoked"], first.states.get("revoked")) == (1, None)
    clock.now += hub.settings.seen_seconds
    assert hub.census.summary() is not second
