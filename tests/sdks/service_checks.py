"""Run by the environment of an unmodified azure-iot-hub: one check by its name, against the hub of a connection string.

It imports nothing of Farshore, and uses the SDK's public API alone.
"""

import base64
import sys
import time

from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ExportImportDevice,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from azure.iot.hub.protocol.models import (
    AuthenticationMechanism,
    ConfigurationQueriesTestInput,
    SymmetricKey,
)
from msrest.exceptions import HttpOperationError

STRING = sys.argv[2]
KEY, OTHER = (base64.b64encode(letter * 32).decode() for letter in (b"k", b"o"))
registry = IoTHubRegistryManager.from_connection_string(STRING)
manager = IoTHubConfigurationManager.from_connection_string(STRING)


def refused(status, call, *arguments):
    try:
        call(*arguments)
    except HttpOperationError as error:
        answer = error.response
    else:
        raise AssertionError(f"{call} {arguments} was not refused with {status}")
    assert answer.status_code == status, (answer.status_code, answer.text)
    return answer.json()["Message"]


def identities():
    made = registry.create_device_with_sas("Cam-7", KEY, OTHER, "enabled")
    assert made.authentication.symmetric_key.primary_key == KEY and made.status == "enabled"
    assert "DeviceAlreadyExists" in refused(409, registry.create_device_with_sas, "Cam-7", KEY, OTHER, "enabled")
    changed = registry.update_device_with_sas("Cam-7", made.etag, OTHER, KEY, "disabled")
    assert changed.status == "disabled" and changed.etag != made.etag
    assert "Precondition" in refused(412, registry.update_device_with_sas, "Cam-7", made.etag, KEY, OTHER, "enabled")
    assert registry.get_device("Cam-7").authentication.symmetric_key.primary_key == OTHER
    signed = registry.create_device_with_certificate_authority("signed", "enabled", True)
    assert signed.authentication.type == "certificateAuthority" and signed.capabilities.iot_edge
    assert [one.device_id for one in registry.get_devices(10)] == ["Cam-7", "signed"]
    assert registry.get_device_registry_statistics().total_device_count == 2
    assert registry.get_service_statistics().connected_device_count == 0
    assert "Precondition" in refused(412, registry.delete_device, "Cam-7", made.etag)
    registry.delete_device("Cam-7", changed.etag)
    registry.delete_device("signed")
    assert "DeviceNotFound" in refused(404, registry.get_device, "Cam-7")


def modules():
    registry.create_device_with_sas("d", KEY, OTHER, "enabled")
    made = registry.create_module_with_sas("d", "m", "us", KEY, OTHER)
    assert made.managed_by == "us"
    changed = registry.update_module_with_sas("d", "m", "them", made.etag, OTHER, KEY)
    assert changed.authentication.symmetric_key.primary_key == OTHER
    assert "Precondition" in refused(412, registry.update_module_with_sas, "d", "m", "us", made.etag, KEY, OTHER)
    assert [one.module_id for one in registry.get_modules("d")] == ["m"]
    registry.update_module_twin("d", "m", Twin(properties=TwinProperties(desired={"a": 1})))
    assert registry.get_module_twin("d", "m").properties.desired["a"] == 1
    registry.replace_module_twin("d", "m", Twin(tags={"t": 1}, properties=TwinProperties(desired={"b": 2})))
    found = registry.get_module_twin("d", "m")
    assert "a" not in found.properties.desired and found.tags == {"t": 1}
    registry.delete_module("d", "m")
    assert "ModuleNotFound" in refused(404, registry.get_module, "d", "m")


def twins():
    registry.create_device_with_sas("d", KEY, OTHER, "enabled")
    first = registry.get_twin("d")
    one = registry.update_twin(
        "d", Twin(tags={"site": "oslo"}, properties=TwinProperties(desired={"a": {"b": 1}})), first.etag
    )
    assert one.properties.desired["$version"] == 2 and one.tags == {"site": "oslo"}
    assert one.properties.desired["$metadata"]["a"]["b"]["$lastUpdatedVersion"] == 2
    assert "Precondition" in refused(412, registry.update_twin, "d", Twin(tags={}), first.etag)
    whole = registry.get_twin("d")  # as most programs do: read, change, send all of it back
    whole.tags["more"] = True
    sent = registry.update_twin("d", whole, whole.etag)
    assert sent.tags == {"site": "oslo", "more": True} and sent.properties.desired["a"] == {"b": 1}
    replaced = registry.replace_twin("d", Twin(properties=TwinProperties(desired={"c": 1})), sent.etag)
    assert "a" not in replaced.properties.desired
    assert "ArgumentInvalid" in refused(
        400, registry.update_twin, "d", Twin(properties=TwinProperties(desired={"a.b": 1}))
    )
    call = CloudToDeviceMethod(method_name="reboot", payload={}, response_timeout_in_seconds=5)
    assert "404103" in refused(404, registry.invoke_device_method, "d", call)


def queries():
    keys = AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=KEY, secondary_key=OTHER))
    many = [
        ExportImportDevice(
            id=f"n{number}", import_mode="create", status="enabled", authentication=keys, tags={"even": number % 2 == 0}
        )
        for number in range(7)
    ]
    assert registry.bulk_create_or_update_devices(many).is_successful
    asked, found, more = QuerySpecification(query="SELECT * FROM devices WHERE tags.even = true"), [], None
    while True:
        page = registry.query_iot_hub(asked, more, 2)
        assert len(page.items) <= 2
        found += [twin.device_id for twin in page.items]
        more = page.continuation_token
        if not more:
            break
    assert found == ["n0", "n2", "n4", "n6"]
    assert "ArgumentInvalid" in refused(400, registry.query_iot_hub, QuerySpecification(query="SELECT * FROM jobs"))


def configurations():
    registry.create_device_with_sas("d", KEY, OTHER, "enabled")
    content = ConfigurationContent(device_content={"properties.desired.net": {"mtu": 1500}})
    metrics = ConfigurationMetrics(queries={"all": "SELECT deviceId FROM devices"})
    wanted = Configuration(
        id="net",
        content=content,
        target_condition="tags.site='oslo'",
        priority=5,
        labels={"who": "us"},
        metrics=metrics,
    )
    made = manager.create_configuration(wanted)
    assert made.system_metrics.results == {"targetedCount": 0, "appliedCount": 0} and made.metrics.results == {"all": 1}
    registry.update_twin("d", Twin(tags={"site": "oslo"}))
    assert registry.get_twin("d").properties.desired["net"] == {"mtu": 1500}
    assert manager.get_configuration("net").system_metrics.results == {"targetedCount": 1, "appliedCount": 1}
    made.priority = 7
    changed = manager.update_configuration(made, made.etag)
    assert changed.priority == 7
    assert "Precondition" in refused(412, manager.update_configuration, made, made.etag)
    assert [one.id for one in manager.get_configurations(10)] == ["net"]
    tested = manager.test_configuration_queries(
        ConfigurationQueriesTestInput(target_condition="tags.a = ", custom_metric_queries={})
    )
    assert tested.target_condition_error
    agent = {"properties.desired": {"modules": {"camera": {"type": "docker"}}}}
    edge = ConfigurationContent(modules_content={"$edgeAgent": agent, "camera": {"properties.desired": {"rate": 2}}})
    manager.apply_configuration_on_edge_device("d", edge)
    assert registry.get_module_twin("d", "camera").properties.desired["rate"] == 2
    assert "Precondition" in refused(412, manager.delete_configuration, "net", "MA==")
    manager.delete_configuration("net", changed.etag)
    assert "net" not in registry.get_twin("d").properties.desired
    assert "ConfigurationNotFound" in refused(404, manager.get_configuration, "net")


def call():
    """A method of a device that another process connects; how long that takes is not ours to say."""
    method = CloudToDeviceMethod(
        method_name="add", payload={"x": [1, 2]}, response_timeout_in_seconds=30, connect_timeout_in_seconds=60
    )
    found = registry.invoke_device_method("d", method)
    assert found.status == 201, found
    assert registry.get_device("d").connection_state == "Connected"
    assert registry.get_service_statistics().connected_device_count == 1


if __name__ == "__main__":
    started = time.monotonic()
    globals()[sys.argv[1]]()
    print(f"{sys.argv[1]}: {time.monotonic() - started:.1f} s")
