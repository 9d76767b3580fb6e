"""Device provisioning as DPS does it: a device that knows the group's key, or its own made from it, asks where it belongs.

The scope is the hub itself. A registration makes a device of that name with a key derived from the group's
(https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation).
"""

from __future__ import annotations

import base64
import secrets

from farshore.core import documents
from farshore.core.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from farshore.hub import moments
from farshore.hub.hub import Hub
from farshore.hub.identities import Wanted
from farshore.mqtt import iothub, sas
from farshore.mqtt.iothub import Poll, Register, Registration
from farshore.store import files

SCOPE = "farshore"
KEY = "provisioning.key"
RETRY_SECONDS = 1


def group_key(hub: Hub) -> str:
    """The group's key, base64; made at the first call."""
    path = hub.settings.data.absolute() / KEY
    if not path.exists():
        files.write_atomic(path, base64.b64encode(secrets.token_bytes(sas.KEY)), mode=0o600)
    try:
        return sas.check_key(path.read_text().strip())
    except (Invalid, UnicodeDecodeError):
        raise Invalid(f"{path} is damaged: restore it from a backup") from None


def device_key(hub: Hub, name: str) -> str:
    """The key of one registration, made from the group's."""
    return sas.digest(group_key(hub), name.encode())


def admit(hub: Hub, who: Registration, password: bytes | None) -> float:
    """Let a registration in; when its token expires, seconds since the epoch.

    Raises:
        Unauthenticated: its token is not by its key.

    """
    if who.scope.lower() != SCOPE:
        raise Unauthenticated(f"id scope {who.scope[:80]!r}: this hub's is {SCOPE!r}")
    token = sas.parse((password or b"").decode("utf-8", "replace"))
    if token.resource.lower() != f"{who.scope}/registrations/{who.name}".lower():
        raise Unauthenticated(f"token: it is not for registration {who.name!r}")
    sas.verify(token, [device_key(hub, who.name)], hub.clock())
    return float(token.expires)


def answer(hub: Hub, who: Registration, asked: Register | Poll) -> tuple[str, bytes]:
    """Topic and body of an answer. A registration is done at once and told at the second asking, as clients expect it.

    Raises:
        Unavailable: the database does not answer.

    """
    try:
        _settle(hub, who.name)
    except (Denied, Conflict, Invalid) as error:
        said = iothub.failure(401002, asked.rid, error.message, moments.text(hub.clock()))
        return iothub.registration_answer(401, asked.rid), said
    operation = base64.urlsafe_b64encode(who.name.encode()).decode()
    if isinstance(asked, Register):
        body = documents.encode({"operationId": operation, "status": "assigning"})
        return iothub.registration_answer(202, asked.rid, RETRY_SECONDS), body
    now = moments.text(hub.clock())
    state = {
        "registrationId": who.name,
        "assignedHub": hub.settings.iothub_names[0],
        "deviceId": who.name,
        "status": "assigned",
        "substatus": "initialAssignment",
        "createdDateTimeUtc": now,
        "lastUpdatedDateTimeUtc": now,
    }
    body = documents.encode({"operationId": operation, "status": "assigned", "registrationState": state})
    return iothub.registration_answer(200, asked.rid), body


def _settle(hub: Hub, name: str) -> None:
    """The device of a registration, made if need be. A device of that name that came by another way stays whose it is."""
    key = device_key(hub, name)
    try:
        found = hub.identities.admit(name)
    except Denied:
        try:
            hub.fleet.device(name)
        except NotFound:
            hub.identities.put(name, "", Wanted(kind="sas", primary=key, secondary=key), None)
            return
        raise
    if key not in found.keys:
        raise Conflict(f"there is a device {name!r} with a key of its own: delete it first, or use that key")
