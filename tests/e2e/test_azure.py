"""Everything as its user runs it: a hub that is also the IoT Hub, a container, publishing, answering, and an agent by Microsoft's SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.azurite import Azurite
from tests.e2e.conftest import Command, wait_for
from tests.hub.iothub.sdk import PORT, loopback

from farshore.client import Hub
from farshore.client.iothub import IotHub
from farshore.core.errors import Conflict, FarshoreError, Invalid, NotFound, Unauthenticated, Unavailable
from farshore.hub import authority
from farshore.hub.policies import Policies
from farshore.store.slots import Slots

HTTP = 8443
DEVICE = "turbine-7"


class CloudHub(Command):
    """A hub on an address of its own, with TLS on both doors."""

    def __init__(self, folder: Path) -> None:
        self.host, self.data = loopback(), folder
        own = authority.settle(folder.with_name("tls"), [self.host], time.time())
        chain, self.ca = folder.with_name("chain.pem"), folder.with_name("ca.pem")
        self.ca.write_bytes(own.pem)
        chain.write_bytes(own.certificate.read_bytes() + own.pem)
        super().__init__(
            folder.with_suffix(".log"),
            *("hub", "--data", str(folder), "--host", self.host, "--port", str(HTTP), "--iothub-port", str(PORT)),
            *("--certificate", str(chain), "--certificate-key", str(own.key)),
            FARSHORE_HUB_BUILDERS="0",
        )

    def start(self):
        super().start()
        wait_for(self.answers, "hub", self)
        return self

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def client(self) -> Hub:
        return Hub(f"https://{self.host}:{HTTP}", self.token, self.ca)

    def answers(self) -> bool:
        try:
            self.client().info()
            return True
        except (FarshoreError, OSError):
            return False

    def policy(self, name: str = "iothubowner") -> str:
        key = Policies(self.data / "iothub.keys").one(name).primary
        return f"HostName={self.host}:{HTTP};SharedAccessKeyName={name};SharedAccessKey={key}"


@pytest.fixture
def azurite(tmp_path):
    with Azurite(tmp_path / "azurite") as found:
        yield found


@pytest.fixture
def hub(tmp_path, azurite):
    process = CloudHub(tmp_path / "hub").start()
    yield process
    process.kill()


@pytest.fixture
def environment(hub, azurite):
    return {
        **azurite.environment,
        "FARSHORE_HUB": f"https://{hub.host}:{HTTP}",
        "FARSHORE_CA": str(hub.ca),
        "FARSHORE_TOKEN": hub.token,
        "FARSHORE_IOTHUB": hub.policy(),
        "FARSHORE_AZURE_STORE": azurite.container("models"),
    }


@pytest.fixture
def farshore(environment):
    def run(*arguments: str):
        found = subprocess.run(
            [sys.executable, "-m", "farshore.cli", *map(str, arguments)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    return run


@pytest.fixture
def iothub(hub):
    made = IotHub(hub.policy(), hub.ca)
    made._call("PUT", f"/devices/{DEVICE}", {"deviceId": DEVICE, "authentication": {"type": "sas"}})
    yield made
    made.close()


def current(root):
    found = Slots(root).current("detector")
    return None if found is None else found.version


def test_publish_answer_and_an_agent(hub, farshore, iothub, environment, push, tmp_path):
    push(1)
    client = hub.client()
    client.put_deployment("prod", model="detector@1", selector="*")
    said = json.loads(farshore("azure", "publish", DEVICE, "--create", "--iothub-ca", hub.ca, "--json"))
    assert said["devices"][0]["models"] == {"detector": 1}
    assert said["sent"] > 1_000_000
    connection = tmp_path / "module.txt"
    connection.write_text(
        farshore("iothub", "connection-string", DEVICE, "--module", "farshore", "--ca-file", tmp_path / "module-ca.pem")
    )
    answering = Command(
        tmp_path / "answer.log", "azure", "answer", "--iothub-ca", str(hub.ca), "--every", "0.2", **environment
    ).start()
    root = tmp_path / DEVICE
    agent = Command(
        root.with_suffix(".log"),
        *("agent", "--root", str(root), "--link", "azure", "--connection", str(connection), "--ca", str(hub.ca)),
        *(
            "--enrol",
            said["token"],
            "--serve",
            "none",
            "--keep-free",
            "0",
            "--trial",
            "0",
            "--wait",
            "5",
            "--poll",
            "1",
        ),
    ).start()
    try:
        wait_for(lambda: current(root) == 1, "version 1", agent, answering)
        iothub.patch_twin(
            DEVICE, "farshore", {"properties": {"desired": {"farshore": None}}}
        )  # it would hold against any
        push(2)
        client.put_deployment("prod", model="detector@2", selector="*")
        again = json.loads(
            farshore("azure", "publish", DEVICE, "--iothub-ca", hub.ca, "--configuration", "fleet", "--json")
        )
        assert again["devices"][0]["dispatch"] > said["devices"][0]["dispatch"]
        wait_for(lambda: current(root) == 2, "version 2", agent, answering)

        def shown():
            (row,) = json.loads(farshore("azure", "status", "--iothub-ca", hub.ca, "--json"))
            return row["running"] == {"detector": 2} and row

        assert wait_for(shown, "status", agent)["dispatch"] == again["devices"][0]["dispatch"]
        assert "detector@2" in farshore("azure", "status", "--iothub-ca", hub.ca)
        fleet = ("azure", "publish", DEVICE, "--iothub-ca", hub.ca, "--configuration", "fleet", "--json")
        passed = json.loads(farshore(*fleet))
        assert passed["reports"] == 1
        assert client.twin(DEVICE)["properties"]["reported"]["models"]["detector"]["current"]["version"] == 2
        after = json.loads(farshore(*fleet))
        assert after["devices"] == passed["devices"]  # what still holds is left as it is
        agent.kill()
        push(3)
        client.put_deployment("prod", model="detector@3", selector="*")
        farshore("azure", "publish", DEVICE, "--iothub-ca", hub.ca, "--configuration", "fleet")
        assert sum(one["id"].startswith("fleet-") for one in iothub.configurations()) == 1  # the former one is gone
        agent.start()
        wait_for(lambda: current(root) == 3, "version 3", agent, answering)
    finally:
        agent.kill()
        answering.kill()


def test_the_service_api_of_an_iot_hub(hub, iothub):
    iothub.put_module(DEVICE, "m")
    iothub.put_module(DEVICE, "m")
    iothub.patch_twin(DEVICE, "m", {"properties": {"desired": {"a": {"b": 1}}}})
    assert iothub.twin(DEVICE, "m")["properties"]["desired"]["a"] == {"b": 1}
    assert [one["moduleId"] for one in iothub.query("SELECT * FROM devices.modules WHERE moduleId = 'm'")] == ["m"]
    assert list(iothub.query("SELECT * FROM devices.modules WHERE IS_DEFINED(properties.reported.farshore.ask)")) == []
    with pytest.raises(NotFound):
        iothub.twin("absent", "m")
    with pytest.raises(NotFound):
        iothub.invoke(DEVICE, "m", "farshore-routes", {})
    with pytest.raises(Unauthenticated):
        IotHub(f"{hub.policy().rpartition(chr(59))[0]};SharedAccessKey={chr(65) * 43}=", hub.ca).twin(DEVICE)
    with pytest.raises(Unavailable):
        IotHub(hub.policy()).twin(DEVICE)  # nobody vouches for that certificate
    with pytest.raises(Invalid, match="SharedAccessKeyName missing"):
        IotHub("HostName=h;SharedAccessKey=topsecret")
    with pytest.raises(Conflict):
        iothub._call("PUT", f"/devices/{DEVICE}/modules/m", {"deviceId": DEVICE, "moduleId": "m"})
