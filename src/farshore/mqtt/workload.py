"""IoT Edge's workload API, its two routes: modules get their tokens signed and learn whom to trust, and hold no key themselves.

``GET /trust-bundle`` and ``POST /modules/{module}/genid/{generation}/sign``
(https://github.com/Azure/iotedge/blob/main/edgelet/api/workload.yaml). Clients send no content type, and any ``api-version``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from farshore.core import documents
from farshore.core.errors import Invalid
from farshore.mqtt import sas

MAX_BODY = 64 << 10
VERSION = "2018-06-28"
"""The version that clients are told to ask for; some know no other."""

Keys = Callable[[str, str], str | None]
"""``(module, generation)`` → its key, base64; None if there is no such module."""


def answer(method: str, target: str, body: bytes, keys: Keys, trusted: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON body for one request.

    Args:
        method: of HTTP.
        target: path and query as they were sent.
        body: of the request.
        keys: of the modules served here.
        trusted: PEM of the authority that modules have to trust.

    """
    parts = [unquote(part) for part in target.partition("?")[0].strip("/").split("/")]
    if parts == ["trust-bundle"]:
        return (200, {"certificate": trusted}) if method == "GET" else _wrong(405, "use GET")
    match parts:
        case ["modules", module, "genid", generation, "sign"] if method == "POST":
            return _sign(keys(module, generation), body)
        case ["modules", _, "genid", _, "sign"]:
            return _wrong(405, "use POST")
    return _wrong(404, "only /trust-bundle and /modules/MODULE/genid/GENERATION/sign are here")


def _sign(key: str | None, body: bytes) -> tuple[int, dict[str, Any]]:
    if key is None:
        return _wrong(404, "no such module, or another generation of it")
    try:
        asked = documents.decode(body, dict[str, Any], what="sign request", limit=MAX_BODY)
        data = base64.b64decode(str(asked.get("data", "")), validate=True)
        if str(asked.get("algo", "")).upper() != "HMACSHA256" or not data:
            raise Invalid("sign request: algo HMACSHA256 and data in base64 are needed")
        return 200, {"digest": sas.digest(key, data)}
    except Invalid as error:
        return _wrong(400, error.message)
    except (binascii.Error, ValueError):
        return _wrong(400, "sign request: data is not base64")


def _wrong(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"message": message}
