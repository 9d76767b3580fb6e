"""The hub's own IoT Hub face as Farshore's agent and publisher meet an IoT Hub: Microsoft's SDK on the device door, port 8883."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.hub.iothub.conftest import PATIENCE, Running
from tests.hub.iothub.sdk import PORT, loopback

from farshore.agent import azure_line
from farshore.agent.azure_line import Line
from farshore.agent.azure_link import AzureLink
from farshore.hub.iothub.door import certificate

MODULE = "farshore"


class Face:
    """A hub with its device door on the port that SDKs know; its service side as :class:`farshore.client.iothub.IotHub`."""

    def __init__(self, folder) -> None:
        self.host = loopback()
        self.running = Running(folder / "hub", host=self.host, iothub_port=PORT)
        self.ca = folder / "iothub-ca.pem"
        self.ca.write_bytes(certificate(self.running.hub)[2])
        self.links: list[AzureLink] = []

    def connection(self, device: str, module: str = MODULE) -> str:
        self.running.identity(device)
        key = self.running.identity(device, module)
        return f"HostName={self.host};DeviceId={device};ModuleId={module};SharedAccessKey={key}"

    def link(self, connection: str) -> AzureLink:
        access = azure_line.access(connection, {}, self.ca)
        self.links.append(AzureLink(access.host, access.device, partial(Line, access), patience=PATIENCE))
        return self.links[-1]

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.running.stop()

    def cut(self, device: str, module: str) -> None:
        """End a client's connection."""
        hub = self.running.hub

        async def end() -> None:
            hub.connected.end(device, module, "cut by a test")

        self.running.do(end())

    def restart(self) -> None:
        """Stop the hub, and start it anew over the same data."""
        self.running.stop()
        self.running.start()

    # -- the service side ------------------------------------------------------------------------------------------

    def twin(self, device: str, module: str = "") -> Any:
        row = self.running.hub.fleet.twin(device, module)
        sections = {"desired": row.desired, "reported": row.reported}
        return {
            "deviceId": device,
            "moduleId": module,
            "properties": {name: one.values for name, one in sections.items()},
        }

    def patch_twin(self, device: str, module: str, change: Any) -> Any:
        self.running.patch(device, change["properties"]["desired"], module)
        return self.twin(device, module)

    def query(self, text: str) -> list[Any]:
        found = [self.twin(key, MODULE) for key in ("d",)]
        return [one for one in found if "ask" in one["properties"]["reported"].get("farshore", {})]

    def invoke(self, device: str, module: str, method: str, payload: Any, seconds: int = 30) -> int:
        return self.running.do(self.running.hub.connected.invoke(device, module, method, payload, seconds)).status
