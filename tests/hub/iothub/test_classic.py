"""The classic contract with the hub's own store: a module that knows nothing of Farshore, told by a deployment."""

import base64
import hashlib
import io
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from tests.hub.conftest import LABELS, TOML
from tests.hub.iothub.sdk import python
from tests.hub.iothub.service import Service
from tests.hub.iothub.test_service_sdk import Https

from farshore.core.errors import Invalid

PATIENCE = 60.0
MODULE = "classic"


@pytest.fixture
def service(client, hub):
    return Service(client, hub)


@pytest.fixture
def told(service, operator, pushed):
    """Two versions, a device with a module, and a deployment that tells it the first."""
    found = [pushed(seed=1), pushed(seed=2)]
    service.put("/devices/d")
    service.put(f"/devices/d/modules/{MODULE}")
    deploy(operator, 1)
    return found


def deploy(operator, version, **more):
    body = {"selector": "*", "model": f"detector@{version}", "classic": MODULE, **more}
    return operator.ask("PUT", "/v1/deployments/cams", json=body).json()


def desired(hub):
    values = hub.fleet.twin("d", MODULE).desired.values
    return values, hub.bundles.fresh("d", values)


def fetch(client, address):
    return client.get(address.removeprefix("http://127.0.0.1:8400"))


def test_the_twin_keeps_a_reference_and_a_reader_gets_an_address(told, hub, client, clock):
    stored, fresh = desired(hub)
    assert stored["FileName"] == "detector-1.zip" and stored["DownloadUrl"].startswith("farshore:sha256:")
    answer = fetch(client, fresh["DownloadUrl"])
    assert answer.status_code == 200
    assert (
        base64.b64encode(hashlib.md5(answer.content).digest()).decode() == fresh["ContentMD5"] == stored["ContentMD5"]
    )
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None and any(name.endswith(".onnx") for name in archive.namelist())
    clock.now += hub.settings.ticket_seconds + 1
    assert fetch(client, fresh["DownloadUrl"]).status_code == 403
    assert fetch(client, desired(hub)[1]["DownloadUrl"]).status_code == 200


def test_devices_themselves_are_told_nothing(told, hub, operator):
    assert hub.fleet.twin("d").desired.values == {}
    shown = operator.get("/v1/deployments/cams")
    assert (shown["classic"], shown["version"]) == (MODULE, 1)
    hub.fleet.twin("d", MODULE)
    assert operator.get("/v1/devices/d")["modules"] == {MODULE: {"desired": "detector@1"}}


def test_what_a_module_says_it_runs_is_seen(told, hub, operator):
    hub.fleet.report("d", MODULE, {"LatestAIModelFileName": "detector-1.zip"})
    deploy(operator, 2)
    hub.fleet.twin("d", MODULE)
    assert operator.get("/v1/devices/d")["modules"] == {MODULE: {"current": "detector@1", "desired": "detector@2"}}
    assert operator.get("/v1/deployments/cams")["devices"] == {"desired": 1}
    for odd in ("other-1.zip", "detector-9.zip", "../x", 7, None):
        hub.fleet.report("d", MODULE, {"LatestAIModelFileName": odd})
        assert "current" not in operator.get("/v1/devices/d")["modules"][MODULE]


def test_the_same_files_make_the_same_zip_and_it_is_not_collected(told, hub, operator, clock):
    first = hub.bundles.make("detector@1")
    clock.now += 30 * 24 * 3600
    hub.registry.collect()
    assert hub.bundles.make("detector@1") == first
    assert desired(hub)[0]["ContentMD5"] == first.md5


def test_priorities_deletion_and_a_change_back_to_our_own_words(told, hub, operator):
    deploy(operator, 2, priority=5)
    assert desired(hub)[0]["FileName"] == "detector-2.zip"
    operator.ask(
        "PUT", "/v1/deployments/low", json={"selector": "*", "model": "detector@1", "classic": MODULE, "priority": 1}
    )
    assert desired(hub)[0]["FileName"] == "detector-2.zip"
    operator.ask("DELETE", "/v1/deployments/cams")
    assert desired(hub)[0]["FileName"] == "detector-1.zip"
    operator.ask("PUT", "/v1/deployments/low", json={"selector": "*", "model": "detector@1"})
    assert desired(hub)[0] == {} and hub.fleet.twin("d").desired.values["models"]["detector"]["version"] == 1


def test_rollouts_leave_it_alone_and_so_do_whole_twins_sent_back(told, hub, operator, service):
    body = {"deployment": "cams", "model": "detector@2", "waves": [{"percent": 100}]}
    assert "classic contract" in operator.ask("POST", "/v1/rollouts", json=body, status=409).text
    whole = service.get(f"/twins/d/modules/{MODULE}")
    assert whole["properties"]["desired"]["DownloadUrl"].startswith("farshore:")
    assert whole["configurations"] == {"cams": {"status": "Applied"}}
    service.patch(f"/twins/d/modules/{MODULE}", whole)
    shown = service.get("/configurations/cams")
    changed = service.put("/configurations/cams", {**shown, "priority": 3, "labels": {"a": "b"}}, etag=shown["etag"])
    assert (changed["priority"], changed["content"]) == (3, shown["content"])
    listed = operator.get("/v1/deployments/cams")
    assert (listed["classic"], listed["labels"]) == (MODULE, {"a": "b"})
    deploy(operator, 2)
    assert desired(hub)[0]["FileName"] == "detector-2.zip"


def test_nobody_else_writes_references(told, hub, service):
    stored = {"DownloadUrl": desired(hub)[0]["DownloadUrl"]}
    service.put("/devices/d/modules/other")
    service.refused("PATCH", "/twins/d/modules/other", 400, json={"properties": {"desired": stored}})
    content = {"moduleContent": {"properties.desired.DownloadUrl": stored["DownloadUrl"]}}
    service.refused(
        "PUT",
        "/configurations/sly",
        400,
        json={"content": content, "targetCondition": "FROM devices.modules WHERE true"},
    )
    with pytest.raises(Invalid):
        hub.fleet.change_twin("d", {"properties": {"desired": stored}}, None, replace=True, module="other")


@pytest.fixture
def https(tmp_path):
    python("device")
    running = Https(tmp_path)
    yield running
    running.end()


def test_a_module_downloads_compares_unpacks_loads_and_reports(https, tmp_path, make_onnx):
    """Through two changes, one of them while the module is away."""
    operator = https.operator()
    for seed in (1, 2, 3):
        operator.push("detector", {"net.onnx": make_onnx(seed), "labels.txt": LABELS}, overrides=TOML)
    operator.enrolled("d")
    string = operator.ask("POST", "/v1/devices/d/connection", json={"module": MODULE}).json()["connection_string"]
    deploy(operator, 1)
    environment = {
        **os.environ, "EdgeHubConnectionString": f"{string};GatewayHostName={https.host}",
        "EdgeModuleCACertificateFile": str(https.ca), "SSL_CERT_FILE": str(https.ca),
    }  # fmt: skip
    command = [python("device"), str(Path(__file__).with_name("classic_module.py")), str(tmp_path / "models")]
    with (tmp_path / "module.log").open("wb") as log:

        def start():
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

        def runs(version):
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                held = https.operator().get("/v1/devices/d").get("modules", {}).get(MODULE, {})
                if held.get("current") == f"detector@{version}":
                    return
                time.sleep(0.1)
            raise AssertionError(f"{held}: {(tmp_path / 'module.log').read_text()[-3000:]}")

        module = start()
        try:
            runs(1)
            deploy(operator, 2)
            runs(2)
            module.kill()
            module.wait()
            deploy(operator, 3)
            module = start()
            runs(3)
        finally:
            module.kill()
            module.wait()
