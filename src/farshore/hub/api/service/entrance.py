"""Who may use which route of the service API, and what its errors look like.

Services prove themselves by tokens that a shared access policy's key signs (:mod:`farshore.hub.policies`). Errors are IoT Hub's: from
``Message`` its clients read what happened.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from farshore.core import documents
from farshore.core.errors import Conflict, Denied, FarshoreError, Invalid, NotFound, TooLarge
from farshore.hub import acting, moments
from farshore.hub.acting import Actor
from farshore.hub.api import access, door
from farshore.hub.api.door import Endpoint
from farshore.hub.connected import NoAnswer, NotConnected
from farshore.hub.fleet import Stale
from farshore.hub.hub import Hub
from farshore.hub.policies import Right

Kind = Literal["Device", "Module", "Configuration"]

_DEVICE, _MODULE = "/devices/{device}", "/devices/{device}/modules/{module}"
_TWIN, _MODULE_TWIN = "/twins/{device}", "/twins/{device}/modules/{module}"
_CONFIGURATION = "/configurations/{configuration}"
DEFAULT: Right = "DeviceConnect"
RIGHTS: Mapping[tuple[str, str], Right] = {
    ("GET", "/devices"): "RegistryRead",
    ("POST", "/devices"): "RegistryWrite",
    ("GET", _DEVICE): "RegistryRead",
    ("PUT", _DEVICE): "RegistryWrite",
    ("DELETE", _DEVICE): "RegistryWrite",
    ("GET", f"{_DEVICE}/modules"): "RegistryRead",
    ("GET", _MODULE): "RegistryRead",
    ("PUT", _MODULE): "RegistryWrite",
    ("DELETE", _MODULE): "RegistryWrite",
    ("POST", f"{_DEVICE}/applyConfigurationContent"): "RegistryWrite",
    ("POST", "/devices/query"): "ServiceConnect",
    ("GET", _TWIN): "ServiceConnect",
    ("PATCH", _TWIN): "ServiceConnect",
    ("PUT", _TWIN): "ServiceConnect",
    ("POST", f"{_TWIN}/methods"): "ServiceConnect",
    ("GET", _MODULE_TWIN): "ServiceConnect",
    ("PATCH", _MODULE_TWIN): "ServiceConnect",
    ("PUT", _MODULE_TWIN): "ServiceConnect",
    ("POST", f"{_MODULE_TWIN}/methods"): "ServiceConnect",
    ("GET", "/configurations"): "RegistryRead",
    ("POST", "/configurations/testQueries"): "RegistryRead",
    ("GET", _CONFIGURATION): "RegistryRead",
    ("PUT", _CONFIGURATION): "RegistryWrite",
    ("DELETE", _CONFIGURATION): "RegistryWrite",
    ("GET", "/statistics/devices"): "RegistryRead",
    ("GET", "/statistics/service"): "RegistryRead",
}
UNNOTED = {("POST", "/devices/query"), ("POST", "/configurations/testQueries")}
"""What changes nothing, though it is a POST."""


async def answer(one: Endpoint, request: Request) -> Response:
    """Let a service in, or not, and answer it in IoT Hub's words."""
    hub: Hub = request.app.state.hub
    right = RIGHTS.get((one.method, one.path), DEFAULT)
    acting.now.set(None)
    try:
        path = "/".join(door.segment(request, part[1:-1]) if part[:1] == "{" else part for part in _parts(one.path))
        header, hosts = request.headers.get("authorization"), hub.settings.iothub_names
        policy = await hub.threads(hub.policies.check, header, hosts, path, right, hub.clock())
        if request.method not in access.SAFE and (one.method, one.path) not in UNNOTED:
            acting.now.set(Actor(f"iothub:{policy}", "sas"))
        done = await one.handler(request)
        await access.note(request, one.method, one.path)
    except FarshoreError as error:
        return failure(hub, error, _kind(one.path))
    return done


def failure(hub: Hub, error: FarshoreError, kind: Kind) -> Response:
    """An error as IoT Hub's clients read it."""
    text = door.one_line(error)
    status, code = _code(error, kind)
    tracking = f"{secrets.token_hex(16)}-TimeStamp:{moments.text(hub.clock())}"
    if isinstance(error, NotConnected | NoAnswer):
        said = {"errorCode": code, "message": text, "trackingId": tracking, "timestampUtc": moments.text(hub.clock())}
        text = documents.encode(said).decode()
    else:
        text = f"ErrorCode:{code};{text}"
    body = documents.encode({"Message": text, "ExceptionMessage": f"Tracking ID:{tracking}"})
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "iothub-errorcode": str(code)}
    if status == 503:
        headers["Retry-After"] = door.later()
    return Response(body, status, headers, "application/json")


def etag(request: Request) -> str | None:
    """What ``If-Match`` says: quoted, bare, ``*`` or nothing; it is taken as it comes."""
    return request.headers.get("if-match")


def quoted(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"'}


def number(request: Request, name: str, default: int, most: int) -> int:
    """A number in the address, at most ``most``: clients ask for more than there may be."""
    return min(door.number(request, name, default, 1, 1 << 31), most)


async def read(request: Request, what: str) -> dict[str, Any]:
    """The body, an object; errors as :func:`~farshore.hub.api.door.read`."""
    return await door.read(request, dict[str, Any], what=what)


def _parts(path: str) -> list[str]:
    return path.removeprefix("/").split("/")


def _kind(path: str) -> Kind:
    if path.startswith("/configurations"):
        return "Configuration"
    return "Module" if "{module}" in path else "Device"


def _code(error: FarshoreError, kind: Kind) -> tuple[int, str | int]:
    """HTTP status, and IoT Hub's name for what happened."""
    match error:
        case NotConnected():
            return 404, 404103
        case NoAnswer():
            return 504, 504101
        case Stale():
            return 412, "PreconditionFailed"
        case Conflict():
            exists = {"Device": "DeviceAlreadyExists", "Module": "ModuleAlreadyExistsOnDevice"}
            return 409, exists.get(kind, "ConfigurationAlreadyExists")
        case NotFound():
            return 404, f"{kind}NotFound"
        case Denied():
            return 401, "IotHubUnauthorizedAccess"
        case TooLarge():
            return 413, "RequestEntityTooLarge"
        case Invalid():
            return 400, "ArgumentInvalid"
        case _:
            return (503, "ServiceUnavailable") if error.status == 503 else (500, "ServerError")
