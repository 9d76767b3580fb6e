"""Unmodified azure-iot-hub, and azure-iot-device beside it, against a hub in a process of its own."""

import contextlib
import os
import shutil
import ssl
import subprocess
import time

import pytest
from tests.hub.conftest import Process
from tests.hub.iothub.sdk import PORT, ROOT, Sdk, loopback, needs_port_443, python

from farshore.hub import authority


class Https(Process):
    """A hub as users run it: HTTPS for services, MQTT for devices, at an address of its own."""

    def __init__(self, folder, port=None) -> None:
        self.host, self.wanted = loopback(), port
        made = authority.settle(folder / "tls", [self.host, "localhost"], time.time())
        self.ca = folder / "tls" / "ca.pem"
        super().__init__(
            folder / "hub",
            verify=ssl.create_default_context(cafile=str(self.ca)),
            FARSHORE_HUB_HOST=self.host,
            FARSHORE_HUB_CERTIFICATE=str(made.certificate),
            FARSHORE_HUB_CERTIFICATE_KEY=str(made.key),
            FARSHORE_HUB_IOTHUB_PORT=str(PORT),
        )

    def start(self):
        self.port = self.wanted or self.port
        super().start()

    @property
    def url(self):
        return f"https://{self.host}:{self.port}"

    def string(self, policy="iothubowner"):
        policies = self.operator().get("/v1/policies")
        return next(one["connection_string"] for one in policies if one["name"] == policy)

    def check(self, name, string=""):
        """Have the SDK check something; it fails with what the SDK said."""
        script = ROOT / "tests" / "sdks" / "service_checks.py"
        done = subprocess.run(
            [python("service"), str(script), name, string or self.string()],
            check=False,
            env={**os.environ, "REQUESTS_CA_BUNDLE": str(self.ca)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr[-4000:]


@pytest.fixture
def https(tmp_path):
    python("service")
    running = Https(tmp_path)
    yield running
    running.end()


@pytest.mark.parametrize("what", ["identities", "modules", "twins", "queries", "configurations"])
def test_azure_iot_hub(https, what):
    https.check(what)


def test_a_policy_gives_its_rights_and_no_more(https):
    https.check("twins")
    with pytest.raises(AssertionError, match="Unauthorized"):
        https.check("identities", https.string("service"))


def test_a_method_from_one_sdk_to_the_other(https):
    operator = https.operator()
    with contextlib.ExitStack() as stack:
        https.check("twins")  # makes the device
        connection = operator.ask("POST", "/v1/devices/d/connection", json={}).json()
        sdk = Sdk("device")
        stack.callback(sdk.close)
        sdk.ask("create", connection_string=connection["connection_string"], ca=str(https.ca), module=False)
        sdk.ask("connect")
        sdk.ask("methods", status=201)
        https.check("call")
        assert sdk.next("method")["payload"] == {"x": [1, 2]}


@pytest.mark.deep
def test_azure_iothub_of_node(tmp_path):
    """Its SDK can name no port: the hub listens on 443, at an address of its own."""
    package, node = ROOT / ".node-azure" / "node_modules" / "azure-iothub", shutil.which("node")
    if node is None or not package.exists():
        pytest.skip("needs Node and azure-iothub: make node-sdk")
    needs_port_443()
    https = Https(tmp_path, 443)
    try:
        script = ROOT / "tests" / "sdks" / "service_checks.js"
        done = subprocess.run(
            [node, str(script), str(package), https.string()],
            check=False,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(https.ca)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    finally:
        https.end()
