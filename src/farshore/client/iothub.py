"""The operator's side of an IoT Hub: the few calls of its service API that publishing needs, by a policy's connection string.

https://learn.microsoft.com/rest/api/iothub/service, version 2021-04-12.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from farshore import __version__
from farshore.core.dispatch import SECTION
from farshore.core.errors import (
    Conflict,
    Denied,
    FarshoreError,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from farshore.mqtt import sas
from farshore.tls import peer

Json = Any
VERSION = "2021-04-12"
TOKEN_SECONDS = 3600
MAX_REPLY = 64 << 20
PAGE = 100
_TIMEOUT = urllib3.Timeout(connect=10, read=90)
_ERRORS: Mapping[int, type[FarshoreError]] = {
    400: Invalid, 401: Unauthenticated, 403: Denied, 404: NotFound, 409: Conflict, 412: Conflict, 413: TooLarge,
}  # fmt: skip


class IotHub:
    """An IoT Hub's service API.

    Args:
        connection: a policy's connection string, e.g. ``HostName=h.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=…``.
        ca: PEM file with the only authorities to believe; None for the system's.

    Raises:
        Invalid: no such string; the message never repeats a key.

    Every method may raise the errors of :mod:`farshore.core.errors`: what the IoT Hub said, or ``Unavailable``.

    """

    def __init__(self, connection: str, ca: Path | None = None) -> None:
        parts = dict(part.partition("=")[::2] for part in connection.strip().split(";") if part)
        missing = [name for name in ("HostName", "SharedAccessKeyName", "SharedAccessKey") if not parts.get(name)]
        if missing:
            raise Invalid(
                f"connection string of a policy: {', '.join(missing)} missing; copy it whole from Shared access policies"
            )
        self.host = parts["HostName"]
        self._policy, self._key = parts["SharedAccessKeyName"], sas.check_key(parts["SharedAccessKey"])
        self._pool = urllib3.PoolManager(
            retries=False, timeout=_TIMEOUT, ssl_context=peer.context(ca, oldest=ssl.TLSVersion.TLSv1_2)
        )

    def twin(self, device: str, module: str = "") -> Json:
        """A device's twin, or a module's."""
        return self._call("GET", f"/twins/{_path(device, module)}")[0]

    def patch_twin(self, device: str, module: str, change: Json) -> Json:
        """Merge into a twin's ``tags`` and ``properties.desired``."""
        return self._call("PATCH", f"/twins/{_path(device, module)}", change)[0]

    def put_module(self, device: str, module: str) -> None:
        """Make a module's identity, unless it is there."""
        try:
            self._call("PUT", f"/devices/{quote(device, safe='')}/modules/{quote(module, safe='')}",
                       {"deviceId": device, "moduleId": module})  # fmt: skip
        except Conflict:
            return

    def query(self, text: str) -> Iterator[Json]:
        """All rows of a query in IoT Hub's language."""
        following = ""
        while True:
            headers = {"x-ms-max-item-count": str(PAGE), **({"x-ms-continuation": following} if following else {})}
            rows, answered = self._call("POST", "/devices/query", {"query": text}, headers)
            yield from rows
            following = answered.get("x-ms-continuation", "")
            if not following:
                return

    def invoke(self, device: str, module: str, method: str, payload: Json, seconds: int = 30) -> int:
        """Call a direct method.

        Returns:
            the status that the device answered with.

        Raises:
            NotFound: it is not connected.
            Unavailable: it did not answer in time.

        """
        body = {
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": seconds,
            "connectTimeoutInSeconds": 0,
        }
        return int(self._call("POST", f"/twins/{_path(device, module)}/methods", body)[0]["status"])

    def configurations(self) -> list[Json]:
        """All configurations (at most 100 exist)."""
        found: list[Json] = self._call("GET", "/configurations?top=100")[0]
        return found

    def put_configuration(self, body: Json) -> None:
        """Make a configuration; its id and content never change afterwards."""
        self._call("PUT", f"/configurations/{quote(body['id'], safe='')}", body)

    def delete_configuration(self, name: str) -> None:
        """Delete a configuration; one that is not there is fine."""
        try:
            self._call("DELETE", f"/configurations/{quote(name, safe='')}", None, {"If-Match": '"*"'})
        except NotFound:
            return

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def _call(
        self, method: str, path: str, body: Json = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Json, Mapping[str, str]]:
        token = sas.sign(self.host, self._key, int(time.time()) + TOKEN_SECONDS, self._policy)
        sent = {"Authorization": token, "User-Agent": f"farshore/{__version__}", **(headers or {})}
        data = None
        if body is not None:
            data, sent["Content-Type"] = msgspec.json.encode(body), "application/json; charset=utf-8"
        address = f"https://{self.host}{path}{'&' if '?' in path else '?'}api-version={VERSION}"
        try:
            response = self._pool.request(
                method, address, body=data, headers=sent, redirect=False, preload_content=False
            )
            text = response.read(MAX_REPLY + 1, decode_content=True)
            response.release_conn()
        except (HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unavailable(f"{self.host}: {' '.join(str(reason).split())[:200]}") from error
        if response.status >= 300:
            raise _refusal(self.host, path, response.status, text)
        try:
            return (msgspec.json.decode(text) if text else None), response.headers
        except msgspec.DecodeError:
            raise Unavailable(f"{self.host} did not answer in JSON: is it an IoT Hub?") from None


def quoted(text: str) -> str:
    """A text as IoT Hub's query language writes it."""
    return "'" + text.replace("'", "''") + "'"


def configure(iothub: IotHub, name: str, module: str, target: str, priority: int, number: int) -> None:
    """Tell every module that a condition matches of a dispatch. A configuration's content never changes: a new one takes the old one's place.

    Args:
        iothub: the IoT Hub.
        name: what its configurations are called, before a ``-`` and the number.
        module: id of the module.
        target: condition on the twins; "" for all.
        priority: among configurations of one target.
        number: of the dispatches.

    Raises:
        Invalid: no such name is taken there.

    """
    if not re.match(r"[a-z0-9][a-z0-9-]{0,80}\Z", name):
        raise Invalid(f"configuration {name[:80]!r}: small letters, digits and - are taken")
    condition = f"moduleId = {quoted(module)}" + (f" AND ({target})" if target else "")
    body = {
        "id": f"{name}-{number}",
        "schemaVersion": "1.0",
        "labels": {"farshore": name},
        "content": {"moduleContent": {f"properties.desired.{SECTION}": {"dispatch": number}}},
        "targetCondition": f"from devices.modules where {condition}",
        "priority": priority,
    }
    iothub.put_configuration(body)
    for one in iothub.configurations():
        known = re.match(rf"{re.escape(name)}-(\d+)\Z", str(one.get("id", "")))
        if known is not None and int(known[1]) < number:
            iothub.delete_configuration(one["id"])


def _refusal(host: str, path: str, status: int, text: bytes) -> FarshoreError:
    """What a refusal says: ``{"Message": "ErrorCode:DeviceNotFound;…"}``."""
    try:
        message = " ".join(str(msgspec.json.decode(text)["Message"]).split())[:300]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = ""
    kind = _ERRORS.get(status, Unavailable)
    return kind(f"{host}{path.partition('?')[0]}: status {status}{': ' if message else ''}{message}")


def _path(device: str, module: str) -> str:
    return quote(device, safe="") + (f"/modules/{quote(module, safe='')}" if module else "")
