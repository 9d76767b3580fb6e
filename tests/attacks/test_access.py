"""Every role against every route of the operator API, on its own fleet, on another's, and on what is nobody's in particular."""

import re

import pytest
from tests.hub.conftest import Operator
from tests.sim.devices import key_of

from farshore.core import digest as digests
from farshore.hub.api.access import DEFAULT, TABLE
from farshore.hub.app import ENDPOINTS
from farshore.hub.roles import INCLUDES, Grant

ROUTES = [one for one in ENDPOINTS if one.who == "operator"]
DIGEST = digests.of(b"anything")


def test_every_route_declares_the_role_that_it_needs():
    assert {(one.method, one.path) for one in ROUTES} == set(TABLE)


def test_what_does_not_stand_in_the_table_is_for_admins_of_everything():
    assert (DEFAULT.role, DEFAULT.over) == ("admin", "every")


def test_no_route_that_changes_something_is_for_viewers():
    ours = {"/v1/logout", "/v1/tokens", "/v1/tokens/{token}"}  # about oneself
    asks = {"/v1/models/{name}/versions/{version}/try"}  # a picture is sent, and nothing kept
    for (method, path), need in TABLE.items():
        assert method == "GET" or need.role != "viewer" or path in ours | asks


def body_of(one, fleet):
    tags = {"fleet": fleet} if fleet else {}
    confined = f"tags.fleet = '{fleet}'" if fleet else "*"
    model = f"{fleet}.detector" if fleet else "detector"
    return {
        ("POST", "/v1/enrolments"): {"tags": tags},
        ("POST", "/v1/devices"): {"id": f"new-{fleet or 'shared'}", "key": str(key_of(fleet).public), "tags": tags},
        ("POST", "/v1/deployments"): {"selector": confined, "model": model},
        ("PUT", "/v1/deployments/{deployment}"): {"selector": confined, "model": model},
        ("POST", "/v1/rollouts"): {"selector": confined, "model": model, "deployment": f"{fleet or 'shared'}-new"},
        ("POST", "/v1/rollouts/plan"): {"selector": confined, "model": model, "deployment": f"{fleet or 'shared'}-new"},
        ("PUT", "/v1/settings/{settings}"): {"selector": confined, "settings": {"rate": 1000}},
        ("PATCH", "/v1/devices/{device}/twin"): {"properties": {"desired": {"a": 1}}},
        ("PUT", "/v1/devices/{device}/twin"): {"tags": tags},
    }.get((one.method, one.path), {})


def address_of(one, fleet):
    own = {
        "name": f"{fleet}.detector" if fleet else "detector", "device": f"{fleet or 'shared'}-device", "version": "1",
        "deployment": f"{fleet or 'shared'}-deployment", "digest": DIGEST, "rollout": "absent", "enrolment": "absent",
        "settings": f"{fleet or 'shared'}-settings",
    }  # fmt: skip
    return re.sub(r"{(\w+)}", lambda found: own.get(found[1], "absent"), one.path)


@pytest.fixture
def fleets(operator, pushed):
    """Two fleets and what is nobody's: each with a model, a device and a deployment."""
    for seed, fleet in enumerate(["north", "south", ""]):
        pushed(f"{fleet}.detector" if fleet else "detector", seed=seed + 1)
        operator.enrolled(f"{fleet or 'shared'}-device", tags={"fleet": fleet} if fleet else {})
        body = body_of(next(one for one in ROUTES if one.handler.__name__ == "put_deployment"), fleet)
        operator.ask("PUT", f"/v1/deployments/{fleet or 'shared'}-deployment", json=body)
        body = body_of(next(one for one in ROUTES if one.handler.__name__ == "put_settings"), fleet)
        operator.ask("PUT", f"/v1/settings/{fleet or 'shared'}-settings", json=body)
    return operator


def token_of(operator, *grants):
    asked = {"name": "attack", "grants": [{"role": role, "fleet": fleet} for role, fleet in grants]}
    return Operator(operator.client, operator.ask("POST", "/v1/tokens", json=asked).json()["token"])


def expected(one, role, fleet):
    """Whether the holder of ``role`` on north may ask this about ``fleet``: said here anew, from the words of the page."""
    need = TABLE[one.method, one.path]
    if need.role not in INCLUDES[role]:
        return False
    if need.over == "every":
        return False
    if need.over == "some":
        about = {
            "/v1/enrolments", "/v1/devices", "/v1/deployments", "/v1/deployments/{deployment}", "/v1/rollouts",
            "/v1/rollouts/plan", "/v1/settings/{settings}",
        }  # fmt: skip
        return one.method == "GET" or one.path not in about or fleet == "north"
    if need.over == "model" and need.role == "viewer" and not fleet:
        return True  # shared models are for all to read
    return fleet == "north" and need.over in {"model", "device", "deployment"}


SKIPPED = {"/v1/logout", "/v1/blobs/{digest}", "/v1/tokens/{token}", "/v1/tokens", "/v1/events"}
"""Asked about in tests of their own: they know no fleet, or never end."""


@pytest.mark.parametrize("role", sorted(INCLUDES))
def test_each_role_on_each_route_for_each_fleet(fleets, role):
    mine = token_of(fleets, (role, "north"))
    wrong, count = [], 0
    # What deletes comes last, so that the others find what they ask about.
    for one in sorted((one for one in ROUTES if one.path not in SKIPPED), key=lambda one: one.method == "DELETE"):
        for fleet in ("south", "", "north"):
            body = (
                {"json": body_of(one, fleet)} if one.takes is not None or one.method in {"POST", "PUT", "PATCH"} else {}
            )
            answer = fleets.client.request(one.method, address_of(one, fleet), headers=mine.headers, **body)
            allowed, may = answer.status_code != 403, expected(one, role, fleet)
            count += 1
            if allowed != may or answer.status_code >= 500 or answer.status_code == 401:
                wrong.append((one.method, one.path, fleet, answer.status_code, may))
    assert not wrong, wrong
    assert count == 3 * len([one for one in ROUTES if one.path not in SKIPPED])


def test_pairs_are_not_merged(fleets):
    """An operator of north who publishes for south is neither a publisher of north nor an operator of south."""
    mixed = token_of(fleets, ("operator", "north"), ("publisher", "south"))
    ask = lambda method, path, **more: mixed.ask(method, path, status=tuple(range(200, 600)), **more).status_code  # noqa: E731
    change = {"properties": {"desired": {"a": 1}}}
    assert ask("PATCH", "/v1/devices/north-device/twin", json=change) == 200
    assert ask("PATCH", "/v1/devices/south-device/twin", json=change) == 403
    assert ask("PATCH", "/v1/models/south.detector", json={"title": "x"}) == 200
    assert ask("PATCH", "/v1/models/north.detector", json={"title": "x"}) == 403


def test_lists_show_ones_own(fleets):
    mine = token_of(fleets, ("operator", "north"))
    assert [one["id"] for one in mine.get("/v1/devices")["items"]] == ["north-device"]
    for trick in ("*", "*) OR (*", "tags.fleet = 'south'", "NOT tags.fleet = 'north'"):
        answer = fleets.client.get("/v1/devices", params={"where": trick}, headers=mine.headers)
        found = {one["id"] for one in answer.json().get("items", [])}
        assert found <= {"north-device"} and answer.status_code in {200, 400}
    assert {one["name"] for one in mine.get("/v1/models")["items"]} == {"north.detector", "detector"}
    assert [one["id"] for one in mine.get("/v1/deployments")] == ["north-deployment"]
    assert [one["name"] for one in mine.get("/v1/tokens")] != []
    mine.ask("POST", "/v1/enrolments", json={"tags": {"fleet": "north"}})
    assert {one["tags"]["fleet"] for one in mine.get("/v1/enrolments")} == {"north"}


def test_a_device_is_not_moved_across_fleets(fleets):
    mine = token_of(fleets, ("operator", "north"))
    for tags in ({"fleet": "south"}, {"fleet": None}, {"fleet": "*"}, {"fleet": ["north"]}):
        mine.ask("PATCH", "/v1/devices/north-device/twin", json={"tags": tags}, status=403)
    mine.ask("PUT", "/v1/devices/north-device/twin", json={"tags": {}}, status=403)
    mine.ask("PATCH", "/v1/devices/north-device/twin", json={"tags": {"site": "oslo"}})
    both = token_of(fleets, ("operator", "north"), ("operator", "south"))
    both.ask("PATCH", "/v1/devices/north-device/twin", json={"tags": {"fleet": "south"}})


def test_a_device_is_not_taken_over_by_a_token_for_its_name(fleets):
    mine = token_of(fleets, ("operator", "north"))
    for tags in ({"fleet": "north"}, {"fleet": "south"}, {}):
        mine.ask("POST", "/v1/enrolments", json={"device": "south-device", "tags": tags}, status=403)
    made = mine.ask("POST", "/v1/enrolments", json={"device": "later", "tags": {"fleet": "north"}}).json()
    fleets.enrolled("later", tags={"fleet": "south"})
    from tests.sim.devices import enrol_body

    body = enrol_body("later", made["token"], key=key_of("thief"), bearer="t" * 43)
    assert fleets.client.post("/device/v1/enrol", json=body).status_code == 403


def test_anothers_model_is_not_brought_to_ones_own_devices(fleets):
    mine = token_of(fleets, ("operator", "north"), ("publisher", "north"))
    confined = {"selector": "tags.fleet = 'north'"}
    mine.ask("PUT", "/v1/deployments/mine", json={**confined, "model": "south.detector"}, status=403)
    mine.ask("PUT", "/v1/deployments/mine", json={**confined, "model": "detector"})  # shared
    version = fleets.get("/v1/models/south.detector/versions/1")
    entry = {"version": 1, "digest": version["digest"]}
    for key in ("south%2Edetector",):
        change = {"properties": {"desired": {"models": {key: entry}}}}
        mine.ask("PATCH", "/v1/devices/north-device/twin", json=change, status=403)
    # Nor by naming its files: to know a digest is not to have the file.
    stolen = next(file["digest"] for variant in version["manifest"]["variants"] for file in variant["files"])
    assert fleets.client.head(f"/v1/blobs/{stolen}", headers=mine.headers).status_code == 404
    assert fleets.client.get(f"/v1/blobs/{stolen}", headers=mine.headers).status_code == 403
    body = {"files": [{"path": "net.onnx", "digest": stolen}]}
    mine.ask("POST", "/v1/models/north.stolen/versions", json=body, status=404)
    mine.ask("POST", "/v1/models/north.x/versions", json={**body, "parent": "south.detector@1"}, status=(403, 404))


@pytest.mark.parametrize(
    "selector",
    ["*", "tags.fleet = 'south'", "tags.fleet = 'north' OR *", "NOT tags.fleet = 'south'", "deviceId = 'south-device'"],
)
def test_a_deployment_does_not_reach_beyond(fleets, selector):
    mine = token_of(fleets, ("operator", "north"))
    for key in ("north-deployment", "fresh"):
        mine.ask("PUT", f"/v1/deployments/{key}", json={"selector": selector, "model": "detector"}, status=403)
    mine.ask(
        "PUT",
        "/v1/deployments/south-deployment",
        json={"selector": "tags.fleet = 'north'", "model": "detector"},
        status=403,
    )


def test_nobody_raises_themselves(fleets):
    for role in INCLUDES:
        mine = token_of(fleets, (role, "north"))
        for grant in (Grant("admin", "*"), Grant("viewer", "south"), Grant("viewer", "*")):
            asked = {"name": "more", "grants": [{"role": grant.role, "fleet": grant.fleet}]}
            mine.ask("POST", "/v1/tokens", json=asked, status=403)
            mine.ask("PUT", "/v1/operators/me", json={"grants": asked["grants"]}, status=403)
        made = mine.ask("POST", "/v1/tokens", json={"name": "same"}).json()
        assert made["grants"] == [{"role": role, "fleet": "north"}]


def test_what_is_not_there_and_what_is_anothers_look_alike(fleets):
    mine = token_of(fleets, ("operator", "north"))
    said = {
        mine.ask("GET", f"/v1/devices/{name}", status=403).json()["error"]["message"].replace("'south'", "?")
        for name in ("shared-device", "absent")
    }
    assert len(said) == 1


def test_a_fleets_operators_roll_out_within_it(fleets, pushed):
    mine = token_of(fleets, ("operator", "north"))
    pushed("north.detector", seed=9), pushed("detector", seed=10)
    body = {"model": "north.detector@2", "deployment": "north-deployment", "gate": {"soak": 0}}
    assert [row["device"] for row in mine.ask("POST", "/v1/rollouts/plan", json=body).json()["devices"]] == [
        "north-device"
    ]
    for refused in (
        {"model": "detector@2", "deployment": "shared-deployment"},
        {"model": "detector@2", "deployment": "mine"},  # of all devices
        {"model": "detector@2", "deployment": "mine", "selector": "tags.fleet = 'north' OR tags.fleet = 'south'"},
        {"model": "south.detector@1", "deployment": "mine", "selector": "tags.fleet = 'north'"},
    ):
        for path in ("/v1/rollouts", "/v1/rollouts/plan"):
            mine.ask("POST", path, json=refused, status=403)
    fleets.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "shared-deployment"})
    made = mine.ask("POST", "/v1/rollouts", json=body).json()
    assert [one["id"] for one in mine.get("/v1/rollouts")] == [made["id"]]
    mine.ask("GET", "/v1/rollouts/shared-deployment-2", status=403)
    mine.ask("POST", f"/v1/rollouts/{made['id']}/advance", json={})


def test_an_ended_rollout_belongs_to_whom_it_was_started_for(fleets, pushed):
    """Whatever its deployment says today; and nobody moves another fleet's devices by going back."""
    mine, other = token_of(fleets, ("operator", "north")), token_of(fleets, ("operator", "south"))
    pushed("detector", seed=10)
    fleets.ask("PUT", "/v1/deployments/ours", json={"selector": "tags.fleet = 'north'", "model": "detector@1"})
    made = mine.ask("POST", "/v1/rollouts", json={"model": "detector@2", "deployment": "ours"}).json()["id"]
    mine.ask("POST", f"/v1/rollouts/{made}/advance", json={})
    fleets.ask("PUT", "/v1/deployments/ours", json={"selector": "tags.fleet = 'south'", "model": "detector@2"})
    mine.ask("GET", f"/v1/rollouts/{made}")
    other.ask("GET", f"/v1/rollouts/{made}", status=403)
    for whom in (mine, other):
        whom.ask("POST", f"/v1/rollouts/{made}/rollback", json={}, status=403)
    fleets.ask("DELETE", "/v1/deployments/ours")
    mine.ask("GET", f"/v1/rollouts/{made}")
    other.ask("GET", f"/v1/rollouts/{made}", status=403)
