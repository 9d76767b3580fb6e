"""An IoT Hub in memory: module twins, direct methods, one query. The far side of publishing, answering, and the agent's link."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farshore.core import twin
from farshore.core.errors import NotFound, Unavailable

STAMP = "2026-01-02T03:04:05.0000000Z"


@dataclass
class Module:
    """One module's twin, and who is called for it."""

    desired: twin.Section = field(default_factory=lambda: twin.empty(STAMP, versioned=True))
    reported: twin.Section = field(default_factory=lambda: twin.empty(STAMP))
    called: Callable[[str, Any], bool] | None = None


class SimIotHub:
    """Its service API is that of :class:`farshore.client.iothub.IotHub`."""

    def __init__(self) -> None:
        self.modules: dict[tuple[str, str], Module] = {}
        self.changed = threading.Condition(threading.RLock())
        self.up = True

    def put_module(self, device: str, module: str) -> None:
        self.modules.setdefault((device, module), Module())

    def twin(self, device: str, module: str = "") -> Any:
        one = self._module(device, module)
        return {
            "deviceId": device,
            "moduleId": module,
            "properties": {"desired": twin.wire(one.desired), "reported": twin.wire(one.reported)},
        }

    def patch_twin(self, device: str, module: str, change: Any) -> Any:
        with self.changed:
            one = self._module(device, module)
            one.desired = twin.patch(
                one.desired, change["properties"]["desired"], STAMP, limit=twin.MAX_DESIRED, versioned=True
            )
            self.changed.notify_all()
        return self.twin(device, module)

    def query(self, text: str) -> list[Any]:
        assert "IS_DEFINED(properties.reported.farshore.ask)" in text
        return [
            self.twin(*key)
            for key, one in list(self.modules.items())
            if "ask" in one.reported.values.get("farshore", {})
        ]

    def invoke(self, device: str, module: str, method: str, payload: Any, seconds: int = 30) -> int:
        called = self._module(device, module).called
        if called is None:
            raise NotFound(f"{device} is not connected")
        return 200 if called(method, payload) else 404

    def _module(self, device: str, module: str) -> Module:
        if (device, module) not in self.modules:
            raise NotFound(f"no module {module} on {device}")
        return self.modules[device, module]


class SimLine:
    """See :class:`farshore.agent.azure_line.Line`."""

    def __init__(self, iothub: SimIotHub, device: str, module: str, called: Callable[[str, Any], bool]) -> None:
        self._iothub = iothub
        self._module = iothub.modules[device, module]
        self._module.called = called

    def desired(self) -> dict[str, Any]:
        self._reach()
        return twin.wire(self._module.desired)

    def wait(self, version: int, seconds: float) -> None:
        with self._iothub.changed:
            self._iothub.changed.wait_for(lambda: self._module.desired.version != version, seconds)

    def report(self, change: dict[str, Any]) -> None:
        self._reach()
        with self._iothub.changed:
            self._module.reported = twin.patch(self._module.reported, change, STAMP, limit=twin.MAX_REPORTED)

    def close(self) -> None:
        self._module.called = None

    def _reach(self) -> None:
        if not self._iothub.up:
            raise Unavailable("the IoT Hub cannot be reached")
