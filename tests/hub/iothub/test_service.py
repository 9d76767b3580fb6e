"""The service API in the hub's own process: what each route does, refuses and says."""

import base64

import pytest
from tests.hub.iothub.service import Service

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def service(client, hub):
    return Service(client, hub)


@pytest.fixture
def device(service):
    service.put("/devices/d", {"deviceId": "d", "status": "enabled"})
    return "/twins/d"


# -- identities ----------------------------------------------------------------------------------------------------


def test_an_identity_from_its_making_to_its_end(service, operator):
    made = service.put(
        "/devices/Cam-7",
        {"deviceId": "Cam-7", "status": "enabled", "authentication": {"symmetricKey": {"primaryKey": KEY}}},
    )
    assert made["authentication"]["symmetricKey"]["primaryKey"] == KEY and made["authentication"]["type"] == "sas"
    assert (made["status"], made["connectionState"], made["lastActivityTime"]) == (
        "enabled",
        "Disconnected",
        "0001-01-01T00:00:00Z",
    )
    assert base64.b64decode(made["etag"]).isdigit()
    assert operator.get("/v1/devices/Cam-7")["state"] == "accepted"
    assert "DeviceAlreadyExists" in service.refused("PUT", "/devices/Cam-7", 409, json={})
    changed = service.put("/devices/Cam-7", {**made, "status": "disabled", "statusReason": "lost"}, etag=made["etag"])
    assert (changed["status"], changed["statusReason"], changed["generationId"]) == (
        "disabled",
        "lost",
        made["generationId"],
    )
    assert operator.get("/v1/devices/Cam-7")["state"] == "revoked"
    for stale in (made["etag"], f'"{made["etag"]}"'):
        assert "PreconditionFailed" in service.refused("PUT", "/devices/Cam-7", 412, json={}, etag=stale)
        assert "PreconditionFailed" in service.refused("DELETE", "/devices/Cam-7", 412, etag=stale)
    answer = service.ask("GET", "/devices/Cam-7")
    assert answer.headers["etag"] == f'"{changed["etag"]}"'
    service.delete("/devices/Cam-7", etag='"*"')
    assert "ErrorCode:DeviceNotFound" in service.refused("GET", "/devices/Cam-7", 404)
    assert "DeviceNotFound" in service.refused("PUT", "/devices/Cam-7", 404, json={}, etag="*")


def test_devices_of_ours_are_there_too_and_may_be_given_keys(service, operator):
    operator.enrolled("ours", tags={"site": "oslo"})
    assert service.get("/devices/ours")["authentication"]["type"] == "none"
    assert [one["deviceId"] for one in service.get("/devices")] == ["ours"]
    given = service.put("/devices/ours", {"deviceId": "ours"})
    assert given["authentication"]["symmetricKey"]["primaryKey"]
    assert service.get("/twins/ours")["tags"] == {"site": "oslo"}


def test_modules(service, device):
    made = service.ask(
        "PUT", "/devices/d/modules/camera", json={"moduleId": "camera", "managedBy": "us"}, status=201
    ).json()
    assert (made["moduleId"], made["managedBy"]) == ("camera", "us") and "status" not in made
    assert [one["moduleId"] for one in service.get("/devices/d/modules")] == ["camera"]
    assert service.get("/devices/d/modules/camera") == made
    service.delete("/devices/d/modules/camera")
    assert "ModuleNotFound" in service.refused("GET", "/devices/d/modules/camera", 404)
    assert "ModuleNotFound" in service.refused("GET", "/twins/d/modules/camera", 404)


def test_what_identities_are_refused(service, device):
    for path, body in (
        ("/devices/e", {"deviceId": "f"}), ("/devices/e", {"authentication": {"type": "selfSigned"}}), ("/devices/a%2Fb", {}), ("/devices/a%23b", {}),
        ("/devices/e", {"authentication": {"symmetricKey": {"primaryKey": "short"}}}), ("/devices/e", {"status": "gone"}),
    ):  # fmt: skip
        assert "ArgumentInvalid" in service.refused("PUT", path, 400, json=body)
    assert service.get("/statistics/devices") == {
        "totalDeviceCount": 1,
        "enabledDeviceCount": 1,
        "disabledDeviceCount": 0,
    }
    assert service.get("/statistics/service") == {"connectedDeviceCount": 0}


def test_many_at_once(service, device):
    more = [{"id": f"n{number}", "importMode": "create", "tags": {"n": number}} for number in range(3)]
    answer = service.ask("POST", "/devices", json=more).json()
    assert answer == {"isSuccessful": True, "errors": [], "warnings": []}
    assert service.get("/twins/n2")["tags"] == {"n": 2}
    mixed = [
        {"id": "d", "importMode": "create"},
        {"id": "n0", "importMode": "delete"},
        {"id": "n1", "importMode": "update", "status": "disabled"},
    ]
    answer = service.ask("POST", "/devices", json=mixed, status=400).json()
    assert [error["deviceId"] for error in answer["errors"]] == ["d"]
    assert [one["deviceId"] for one in service.get("/devices")] == ["d", "n1", "n2"]
    assert service.get("/devices/n1")["status"] == "disabled"
    service.refused("POST", "/devices", 400, json=[{"id": f"x{number}"} for number in range(101)])


# -- twins ---------------------------------------------------------------------------------------------------------


def test_a_twin_is_merged_replaced_and_kept_by_its_etag(service, device):
    first = service.get(device)
    assert first["properties"]["desired"]["$version"] == first["properties"]["reported"]["$version"] == 1
    one = service.patch(
        device, {"tags": {"site": "oslo"}, "properties": {"desired": {"a": {"b": 1, "c": 2}}}}, etag=first["etag"]
    )
    assert one["properties"]["desired"]["a"] == {"b": 1, "c": 2} and one["properties"]["desired"]["$version"] == 2
    assert "$lastUpdated" in one["properties"]["desired"]["$metadata"]["a"]["b"]
    two = service.patch(device, {"properties": {"desired": {"a": {"b": None}}}}, etag="*")
    assert two["properties"]["desired"]["a"] == {"c": 2}
    assert "PreconditionFailed" in service.refused("PATCH", device, 412, json={"tags": {}}, etag=f'"{one["etag"]}"')
    three = service.put(device, {"properties": {"desired": {"d": 1}}}, etag=f'"{two["etag"]}"')
    assert {key for key in three["properties"]["desired"] if key[0] != "$"} == {"d"} and three["tags"] == {
        "site": "oslo"
    }
    assert "ArgumentInvalid" in service.refused("PUT", device, 400, json={"properties": {"desired": {"d": None}}})


def test_limits_of_twins_hold_at_this_door(service, device):
    deep = {}
    for _ in range(11):
        deep = {"a": deep}
    for desired in ({"a.b": 1}, {"a": "x" * 5000}, {"a": 1 << 53}, {"a": [None]}, deep, {"a b": 1}):
        service.refused("PATCH", device, 400, json={"properties": {"desired": desired}})
    service.refused("PATCH", device, 413, json={"tags": {f"k{number}": "x" * 1000 for number in range(9)}})
    service.refused("PATCH", device, 400, json={"properties": []})
    assert service.get(device)["properties"]["desired"]["$version"] == 1


def test_a_whole_twin_sent_back_pins_nothing(service, device, operator, pushed):
    pushed()
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1"})
    service.put(
        "/configurations/net", {"content": {"deviceContent": {"properties.desired.net.mtu": 9}}, "targetCondition": "*"}
    )
    whole = service.get(device)
    assert whole["properties"]["desired"]["models"]["detector"]["version"] == 1
    assert whole["properties"]["desired"]["net"] == {"mtu": 9}
    assert whole["configurations"] == {"net": {"status": "Applied"}, "prod": {"status": "Applied"}}
    whole["tags"]["seen"] = True
    for change in (service.patch, service.put):
        sent = change(device, {**whole, "properties": {**whole["properties"]}}, etag="*")
        assert sent["tags"] == {"seen": True}
    operator.ask("DELETE", "/v1/deployments/prod")
    service.delete("/configurations/net")
    left = service.get(device)["properties"]["desired"]
    assert {key for key in left if key[0] != "$"} == set()


def test_models_are_checked_at_this_door_too(service, device, pushed):
    version = pushed()
    entry = {"version": 1, "digest": version["digest"]}
    service.refused(
        "PATCH", device, 400, json={"properties": {"desired": {"models": {"detector": {**entry, "version": 2}}}}}
    )
    told = service.patch(device, {"properties": {"desired": {"models": {"detector": entry}}}})
    assert told["properties"]["desired"]["models"]["detector"] == entry
    service.put("/devices/d/modules/m")
    free = service.patch("/twins/d/modules/m", {"properties": {"desired": {"models": "what it likes"}}})
    assert free["properties"]["desired"]["models"] == "what it likes"


def test_messages_that_wait_are_counted(service, device, operator):
    service.put("/devices/d/modules/m")
    for _ in range(2):
        operator.ask("POST", "/v1/devices/d/messages", json={"text": "x"})
    for found in (
        service.get("/devices/d"),
        service.get("/devices")[0],
        service.get(device),
        service.query("SELECT * FROM devices")[0][0],
    ):
        assert found["cloudToDeviceMessageCount"] == 2
    for found in (service.get("/devices/d/modules/m"), service.get("/twins/d/modules/m")):
        assert found["cloudToDeviceMessageCount"] == 0


def test_methods_of_what_is_not_connected(service, device):
    call = {"methodName": "reboot", "payload": {}, "responseTimeoutInSeconds": 5}
    assert '"errorCode":404103' in service.refused("POST", f"{device}/methods", 404, json=call)
    assert "DeviceNotFound" in service.refused("POST", "/twins/absent/methods", 404, json=call)
    for bad in ({}, {"methodName": ""}, {"methodName": "a/b"}, {**call, "responseTimeoutInSeconds": 301}):
        service.refused("POST", f"{device}/methods", 400, json=bad)


# -- queries -------------------------------------------------------------------------------------------------------


def test_queries_page_by_page(service):
    service.ask(
        "POST", "/devices", json=[{"id": f"n{number}", "tags": {"even": number % 2 == 0}} for number in range(7)]
    )
    rows, headers = service.query("SELECT * FROM devices")
    assert len(rows) == 7 and headers["x-ms-item-type"] == "Twin" and "x-ms-continuation" not in headers
    text, found, more = "SELECT deviceId FROM devices WHERE tags.even = true", [], {}
    while True:
        rows, headers = service.query(text, **{"x-ms-max-item-count": "2"}, **more)
        assert len(rows) <= 2 and headers["x-ms-item-type"] == "Raw"
        found += rows
        if "x-ms-continuation" not in headers:
            break
        more = {"x-ms-continuation": headers["x-ms-continuation"]}
    assert found == [{"deviceId": f"n{number}"} for number in (0, 2, 4, 6)]
    assert service.query("SELECT tags.even AS even, COUNT() AS n FROM devices GROUP BY tags.even")[0] == [
        {"even": True, "n": 4},
        {"even": False, "n": 3},
    ]
    rows, headers = service.query("SELECT TOP 3 * FROM devices", **{"x-ms-max-item-count": "2"})
    rows += service.query("SELECT TOP 3 * FROM devices", **{"x-ms-continuation": headers["x-ms-continuation"]})[0]
    assert [row["deviceId"] for row in rows] == ["n0", "n1", "n2"]


def test_queries_over_modules_and_identities(service, device):
    service.put("/devices/d/modules/a")
    service.put("/devices/d/modules/b")
    service.patch("/twins/d/modules/b", {"tags": {"t": 1}})
    rows, _ = service.query("SELECT * FROM devices.modules WHERE tags.t = 1")
    assert [(row["deviceId"], row["moduleId"]) for row in rows] == [("d", "b")]
    where = "status = 'enabled' AND connectionState = 'Disconnected' AND authenticationType = 'sas' AND capabilities.iotEdge = false"
    assert len(service.query(f"SELECT * FROM devices WHERE {where}")[0]) == 1


def test_what_is_no_query_or_no_continuation(service, device):
    for text in ("", "SELECT", "SELECT * FROM devices; DELETE", "'"):
        assert "ArgumentInvalid" in service.refused("POST", "/devices/query", 400, json={"query": text})
    good = {"query": "SELECT * FROM devices"}
    other = service.query("SELECT TOP 2 * FROM devices", **{"x-ms-max-item-count": "1"})[1].get("x-ms-continuation")
    for more in ("x", "AAAA", "e30=", other or "e30="):
        service.refused("POST", "/devices/query", 400, json=good, headers={"x-ms-continuation": more})
    service.refused("POST", "/devices/query", 400, json=good, headers={"x-ms-max-item-count": "many"})


# -- configurations ------------------------------------------------------------------------------------------------

CONTENT = {"deviceContent": {"properties.desired.net": {"mtu": 1500}}}


def test_a_configuration_from_its_making_to_its_end(service, device):
    made = service.put(
        "/configurations/net",
        {
            "id": "net",
            "content": CONTENT,
            "targetCondition": "tags.site='oslo'",
            "priority": 5,
            "labels": {"who": "us"},
        },
    )
    assert (made["content"], made["priority"], made["labels"]) == (CONTENT, 5, {"who": "us"})
    assert made["systemMetrics"]["results"] == {"targetedCount": 0, "appliedCount": 0}
    service.patch(device, {"tags": {"site": "oslo"}})
    assert service.get(device)["properties"]["desired"]["net"] == {"mtu": 1500}
    assert service.get("/configurations/net")["systemMetrics"]["results"] == {"targetedCount": 1, "appliedCount": 1}
    assert "ConfigurationAlreadyExists" in service.refused("PUT", "/configurations/net", 409, json=made)
    changed = service.put(
        "/configurations/net", {**made, "targetCondition": "tags.site='rome'"}, etag=f'"{made["etag"]}"'
    )
    assert "PreconditionFailed" in service.refused("PUT", "/configurations/net", 412, json=changed, etag=made["etag"])
    assert "net" not in service.get(device)["properties"]["desired"]
    service.refused(
        "PUT",
        "/configurations/net",
        400,
        json={**changed, "content": {"deviceContent": {"properties.desired.x": 1}}},
        etag="*",
    )
    assert [one["id"] for one in service.get("/configurations")] == ["net"]
    assert "PreconditionFailed" in service.refused("DELETE", "/configurations/net", 412, etag=made["etag"])
    service.delete("/configurations/net")
    assert "ConfigurationNotFound" in service.refused("GET", "/configurations/net", 404)


def test_a_model_alone_is_a_deployment_like_any_other(service, device, operator, pushed):
    version = pushed()
    content = {"deviceContent": {"properties.desired.models.detector": {"version": 1, "digest": version["digest"]}}}
    made = service.put(
        "/configurations/prod",
        {"content": content, "targetCondition": "deviceId='d'", "priority": 3, "labels": {"a": "b"}},
    )
    assert made["content"] == content and made["labels"] == {"a": "b"}
    assert operator.get("/v1/deployments/prod")["version"] == 1
    assert service.get(device)["properties"]["desired"]["models"]["detector"]["digest"] == version["digest"]
    operator.ask("PUT", "/v1/deployments/more", json={"selector": "*", "model": "detector@1"})
    found = {one["id"]: one for one in service.get("/configurations")}
    assert found["more"]["content"] == content and found.keys() == {"more", "prod"}
    changed = service.put("/configurations/prod", {**made, "priority": 9}, etag=made["etag"])
    assert changed["priority"] == 9 and changed["labels"] == {"a": "b"}
    operator.ask("PUT", "/v1/deployments/prod", json={"selector": "*", "model": "detector@1", "priority": 1})
    assert "PreconditionFailed" in service.refused(
        "PUT", "/configurations/prod", 412, json=changed, etag=changed["etag"]
    )
    service.delete("/configurations/more")
    operator.ask("GET", "/v1/deployments/more", status=404)
    wrong = {"deviceContent": {"properties.desired.models.detector": {"version": 2, "digest": version["digest"]}}}
    service.refused("PUT", "/configurations/other", 400, json={"content": wrong})
    service.put("/configurations/taken", {"content": CONTENT})
    operator.ask("PUT", "/v1/deployments/taken", json={"selector": "*", "model": "detector@1"}, status=409)


def test_an_edge_deployment_with_a_layer_and_its_metrics(service):
    service.put("/devices/e", {"capabilities": {"iotEdge": True}})
    service.put("/devices/e/modules/camera")
    agent = {"properties.desired": {"schemaVersion": "1.1", "modules": {"camera": {"type": "docker"}}}}
    service.put(
        "/configurations/base",
        {
            "content": {"modulesContent": {"$edgeAgent": agent, "camera": {"properties.desired": {"rate": 1}}}},
            "priority": 1,
        },
    )
    service.put(
        "/configurations/layer",
        {"content": {"modulesContent": {"camera": {"properties.desired.extra": True}}}, "priority": 2},
    )
    twin = service.get("/twins/e/modules/camera")
    assert {key: value for key, value in twin["properties"]["desired"].items() if key[0] != "$"} == {
        "rate": 1,
        "extra": True,
    }
    service.hub.fleet.report(
        "e",
        "$edgeAgent",
        {
            "lastDesiredVersion": service.get("/twins/e/modules/$edgeAgent")["properties"]["desired"]["$version"],
            "lastDesiredStatus": {"code": 200},
        },
    )
    results = service.get("/configurations/base")["systemMetrics"]["results"]
    assert results == {"targetedCount": 1, "appliedCount": 1, "reportedSuccessfulCount": 1, "reportedFailedCount": 0}
    service.delete("/configurations/base")
    assert service.get("/twins/e/modules/camera")["configurations"] == {"layer": {"status": "Targeted"}}


def test_module_configurations_and_custom_metrics(service, device):
    service.put("/devices/d/modules/m")
    where = "FROM devices.modules WHERE moduleId='m'"
    metrics = {"queries": {"ready": "SELECT deviceId FROM devices.modules WHERE properties.reported.ready = true"}}
    made = service.put(
        "/configurations/mod",
        {"content": {"moduleContent": {"properties.desired.a": 1}}, "targetCondition": where, "metrics": metrics},
    )
    assert made["systemMetrics"]["results"] == {"targetedCount": 1, "appliedCount": 1} and made["metrics"][
        "results"
    ] == {"ready": 0}
    service.hub.fleet.report("d", "m", {"ready": True})
    assert service.get("/configurations/mod")["metrics"]["results"] == {"ready": 1}
    assert service.get("/twins/d/modules/m")["properties"]["desired"]["a"] == 1
    tested = service.ask(
        "POST", "/configurations/testQueries", json={"targetCondition": "a b", "customMetricQueries": {"x": "SELECT"}}
    ).json()
    assert tested["targetConditionError"] and tested["customMetricQueryErrors"]["x"]


def test_content_for_one_device(service, device):
    content = {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": {"modules": {"camera": {"type": "docker"}}}},
            "camera": {"properties.desired": {"rate": 2}},
        }
    }
    service.ask("POST", "/devices/d/applyConfigurationContent", json=content, status=204)
    assert [one["moduleId"] for one in service.get("/devices/d/modules")] == ["$edgeAgent", "camera"]
    service.ask(
        "POST",
        "/devices/d/applyConfigurationContent",
        json={"modulesContent": {"camera": {"properties.desired.zoom": 3}}},
        status=204,
    )
    desired = service.get("/twins/d/modules/camera")["properties"]["desired"]
    assert (desired["rate"], desired["zoom"]) == (2, 3)
    service.refused("POST", "/devices/d/applyConfigurationContent", 400, json={"modulesContent": {}})
    service.refused("POST", "/devices/absent/applyConfigurationContent", 404, json=content)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"content": {}}, {"content": CONTENT, "priority": -1}, {"content": CONTENT, "id": "other"}, {"content": CONTENT, "targetCondition": "a ="},
        {"content": CONTENT, "targetCondition": "FROM devices.modules WHERE true"}, {"content": CONTENT, "metrics": {"queries": {"x": "SELECT"}}},
        {"content": {"moduleContent": {"properties.desired.a": 1}}}, {"content": {"deviceContent": {"properties.desired.models": {}}}},
    ],
)  # fmt: skip
def test_what_is_no_configuration(service, body):
    service.refused("PUT", "/configurations/bad", 400, json=body)


def test_every_change_is_in_the_audit_log(service, device, operator):
    service.patch(device, {"tags": {"a": 1}})
    service.put("/configurations/net", {"content": CONTENT})
    lines = [(one["who"], one["action"]) for one in operator.get("/v1/audit")]
    wanted = [("iothub:iothubowner", kind) for kind in ("device.created", "twin.desired", "configuration.created")]
    assert [one for one in lines if one in wanted] == wanted
    before = len(lines)
    service.query("SELECT * FROM devices")
    service.get(device)
    assert len(operator.get("/v1/audit")) == before
