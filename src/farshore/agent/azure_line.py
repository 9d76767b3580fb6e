"""A module's connection to an IoT Hub, over Microsoft's SDK: its twin, its reports, and the methods it is called by.

The SDK forgets subscriptions and changes when a connection is lost and comes back, so none ever comes back: each connection is a new client,
that listens first, reads the whole twin then, and drops what is older (https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-device-twins,
"Device reconnection flow"). Every call has a time-out, for the SDK has none. Who calls paces himself and sends again what failed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from azure.iot.device import MethodRequest, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import ClientError, CredentialError, OperationCancelled, OperationTimeout, ServiceError

from farshore.core import twin
from farshore.core.errors import FarshoreError, Invalid, Unauthenticated, Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)
logging.getLogger("azure.iot.device").setLevel(logging.WARNING)  # it tells of every packet

SECONDS = 60.0
"""Longest wait for anything that the IoT Hub should answer at once."""

KEEP_ALIVE = 240
"""Seconds between two signs of life; IoT Hub takes up to 1767, networks in between less."""

TOKEN_SECONDS = 86400
"""Life of a token. When it ends the connection does, and a new one is made."""

Called = Callable[[str, Any], bool]
"""(name, payload) of a method → whether it was known."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the IoT Hub is reached, and as whom.

    Attributes:
        connection: a device's or module's connection string; "" for the environment that IoT Edge gives a module.
        host: name of the IoT Hub.
        device: id; ``module`` likewise, "" for the device itself.
        ca: PEM file with the only authorities to believe; None for the system's.
        websockets: MQTT over websockets, port 443.

    """

    connection: str
    host: str
    device: str
    module: str = ""
    ca: Path | None = None
    websockets: bool = False


def access(connection: str, environ: Mapping[str, str], ca: Path | None, *, websockets: bool = False) -> Access:
    """Read how the IoT Hub is reached.

    Args:
        connection: a connection string; "" for IoT Edge's environment.
        environ: the environment.
        ca: PEM file with the only authorities to believe.
        websockets: see :class:`Access`.

    Raises:
        Invalid: neither is there; the message never repeats a key.

    """
    edge = connection or environ.get("EdgeHubConnectionString", "")
    if edge:
        parts = dict(part.partition("=")[::2] for part in edge.split(";") if part)
        missing = [name for name in ("HostName", "DeviceId") if not parts.get(name)]
        if missing:
            raise Invalid(
                f"connection string: {' and '.join(missing)} missing; copy that of the device or module, whole"
            )
        return Access(
            connection, parts["HostName"], parts["DeviceId"], parts.get("ModuleId", ""), ca, websockets=websockets
        )
    if "IOTEDGE_DEVICEID" in environ:
        names = ("IOTEDGE_IOTHUBHOSTNAME", "IOTEDGE_DEVICEID", "IOTEDGE_MODULEID")
        host, device, module = (environ.get(name, "") for name in names)
        if host and module:
            return Access("", host, device, module, ca, websockets=websockets)
    raise Invalid(
        "no way to an IoT Hub: run as an IoT Edge module, or give a connection string (FARSHORE_CONNECTION, or --connection FILE)"
    )


class Line:
    """See the module. Methods may be called from one thread.

    Args:
        access: how the IoT Hub is reached.
        called: told of each direct method, from another thread.

    Every method may raise ``Unavailable``, and ``Unauthenticated`` where the IoT Hub refuses the key.

    """

    def __init__(self, access: Access, called: Called) -> None:
        self._access, self._called = access, called
        self._client: Any = None
        self._changed = threading.Condition()
        self._desired: dict[str, Any] = {}
        self._behind = True
        self._lost = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="azure", daemon=True)
        self._thread.start()

    def desired(self) -> dict[str, Any]:
        """The desired section as it is now, with ``$version``."""
        self._settle()
        with self._changed:
            return dict(self._desired)

    def wait(self, version: int, seconds: float) -> None:
        """Return when desired has another ``$version`` than this, when the connection is lost, or after ``seconds``."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._behind or self._lost.is_set() or self._desired.get("$version") != version, seconds
            )

    def report(self, change: dict[str, Any]) -> None:
        """Merge into the reported section."""
        self._settle()
        self._do("report", self._client.patch_twin_reported_properties(change))

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Be connected, and know the twin."""
        if self._client is not None and (self._lost.is_set() or not self._client.connected):
            self._hang_up()
        if self._client is None:
            self._connect()
        if self._behind:
            self._read()

    def _connect(self) -> None:
        self._lost.clear()
        self._behind = True
        self._client = client = _client(self._access)
        try:
            client.on_connection_state_change = self._on_state
            self._do("connect", client.connect())
            self._do("listen", _in_thread(client, on_method_request_received=self._on_method))
            self._do("listen", _in_thread(client, on_twin_desired_properties_patch_received=self._on_patch))
        except FarshoreError:
            self._hang_up()
            raise

    def _read(self) -> None:
        """The whole twin: what came while it was under way and is newer stays."""
        with self._changed:
            self._behind, self._desired = False, {}
        try:
            found = self._do("twin", self._client.get_twin())["desired"]
        except (FarshoreError, KeyError, TypeError) as error:
            self._hang_up()
            raise error if isinstance(error, FarshoreError) else Unavailable("the IoT Hub gave no twin") from error
        with self._changed:
            if self._desired.get("$version", 0) > found.get("$version", 0):
                self._behind = True  # a change overtook the answer: what it changed is not known
            self._desired = found
        if self._behind:
            self._read()

    def _on_patch(self, change: dict[str, Any]) -> None:
        version = change.get("$version", 0)
        with self._changed:
            known = self._desired.get("$version", 0)
            if known and version <= known:
                return
            if known and version == known + 1:
                self._desired = {**twin.merge(self._desired, change), "$version": version}
            else:
                self._behind |= bool(known)  # what comes before the first reading does not stand for it
                self._desired = self._desired or {"$version": version}
            self._changed.notify_all()

    def _on_state(self) -> None:
        client = self._client
        if client is not None and not client.connected:
            self._lost.set()
            with self._changed:
                self._changed.notify_all()

    async def _on_method(self, request: MethodRequest) -> None:
        known = self._called(request.name, request.payload)
        answer = MethodResponse.create_from_method_request(request, 200 if known else 404, {})
        with suppress(Exception):  # whoever called hears of no answer, and calls again
            await asyncio.wait_for(self._client.send_method_response(answer), SECONDS)

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(FarshoreError):
                self._do("hang up", client.shutdown())

    def _do(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, SECONDS), self._loop).result()
        except CredentialError as error:
            raise Unauthenticated(f"{self._access.host} refuses this key: copy the connection string again") from error
        except (TimeoutError, OperationTimeout) as error:
            self._lost.set()
            raise Unavailable(f"{self._access.host}: no answer in time ({what})") from error
        except (ClientError, ServiceError, OperationCancelled, OSError, ValueError) as error:
            self._lost.set()
            cause = error.__cause__ or error
            raise Unavailable(f"{self._access.host}: {what}: {' '.join(str(cause).split())[:200]}") from error


def _client(access: Access) -> Any:
    options: dict[str, Any] = {
        "connection_retry": False,
        "auto_connect": False,
        "ensure_desired_properties": False,
        "keep_alive": KEEP_ALIVE,
        "sastoken_ttl": TOKEN_SECONDS,
        "websockets": access.websockets,
    }
    kind = IoTHubModuleClient if access.module else IoTHubDeviceClient
    try:
        if not access.connection:
            return IoTHubModuleClient.create_from_edge_environment(**options)
        if access.ca is not None:
            options["server_verification_cert"] = access.ca.read_text()
        return kind.create_from_connection_string(access.connection, **options)
    except (ValueError, TypeError) as error:
        raise Invalid(f"the connection string is not understood: {error}") from None
    except OSError as error:
        raise Invalid(f"the way to the IoT Hub is incomplete: {error}") from error


async def _in_thread(client: Any, **handlers: Any) -> None:
    """Set handlers: the SDK subscribes in their setters and blocks meanwhile."""
    for name, handler in handlers.items():
        await asyncio.to_thread(setattr, client, name, handler)
