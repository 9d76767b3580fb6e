"""IoT Hub's topics and what they mean (https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub).

Every topic to a client has a ``?`` with ``$rid`` or ``$version`` where one belongs, and the ``/`` before a property bag also when
the bag is empty: clients index blindly.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from msgspec import Struct

from farshore.core import documents
from farshore.core.errors import Invalid

TWIN_ANSWERS = "$iothub/twin/res/#"
DESIRED = "$iothub/twin/PATCH/properties/desired/#"
METHODS = "$iothub/methods/POST/#"
REGISTRATION_ANSWERS = "$dps/registrations/res/#"
OUTPUT = "$.on"
MESSAGE = "$.mid"
MAX_ID = 128
MAX_PROPERTIES = 128

_GET, _REPORT = "$iothub/twin/GET/", "$iothub/twin/PATCH/properties/reported/"
_RESULT = "$iothub/methods/res/"
_REGISTER, _POLL = "$dps/registrations/PUT/iotdps-register/", "$dps/registrations/GET/iotdps-get-operationstatus/"

Bag = dict[str, str | None]
"""Properties of a message; None where a key stands without ``=``."""


class Identity(Struct, frozen=True):
    """Who connects: a device, or one of its modules ("" for the device itself)."""

    device: str
    module: str = ""

    @property
    def path(self) -> str:
        """Below the host, in audiences and addresses."""
        return f"devices/{self.device}/modules/{self.module}" if self.module else f"devices/{self.device}"

    def __str__(self) -> str:
        """As a client id has it."""
        return f"{self.device}/{self.module}" if self.module else self.device


class Login(Struct, frozen=True):
    """What a CONNECT says of who connects.

    Attributes:
        host: the hub's name as the client knows it.
        identity: who.
        client_type: the SDK, as it names itself; "" if it does not.

    """

    host: str
    identity: Identity
    client_type: str = ""


class Registration(Struct, frozen=True):
    """A CONNECT to the provisioning service: ``name`` is the registration's id."""

    scope: str
    name: str


class TwinGet(Struct, frozen=True):
    """The twin is asked for."""

    rid: str


class TwinReport(Struct, frozen=True):
    """A merge patch of reported is in the payload."""

    rid: str


class MethodResult(Struct, frozen=True):
    """A method's result is in the payload."""

    rid: str
    status: int


class Telemetry(Struct, frozen=True):
    """A message for the hub; ``output`` is "" unless a module named one."""

    output: str
    properties: Bag


class Register(Struct, frozen=True):
    """A device asks the provisioning service where it belongs."""

    rid: str


class Poll(Struct, frozen=True):
    """…and whether that is known by now."""

    rid: str
    operation: str


Operation = TwinGet | TwinReport | MethodResult | Telemetry | Register | Poll


# -- who connects ----------------------------------------------------------------------------------------------------


def check_id(name: str) -> str:
    """``name`` if a device or module may be called so.

    Raises:
        Invalid: it may not: such a name would break topics.

    """
    if not 0 < len(name) <= MAX_ID or any(char in "/#+" or not char.isprintable() or char == " " for char in name):
        raise Invalid(f"id {name[:40]!r}: 1 to {MAX_ID} printable characters without / # + and spaces")
    return name


def login(client: str, user: str | None) -> Login | Registration:
    """Who connects, from client id and user name.

    Args:
        client: ``device`` or ``device/module``, or a registration's id.
        user: ``host/device[/module]/?api-version=…`` (older clients: without ``?``), or ``scope/registrations/id/api-version=…``.

    Raises:
        Invalid: they do not fit together.

    """
    parts = (user or "").split("/")
    query = parse_query(parts[-1])
    if len(parts) < 3 or "api-version" not in query:
        raise Invalid("user name: host/device/?api-version=… or host/device/module/?api-version=… is needed")
    host, names = parts[0], parts[1:-1]
    if len(names) == 2 and names[0] == "registrations" and names[1] == client and "/" not in client:
        return Registration(host, check_id(client))
    if not host or len(names) > 2 or "/".join(names) != client:
        raise Invalid("user name: it names another device or module than the client id")
    return Login(host, Identity(*(check_id(name) for name in names)), query.get("DeviceClientType", "")[:256])


# -- from the client -------------------------------------------------------------------------------------------------


def filters_of(identity: Identity | Registration) -> frozenset[str]:
    """All that this client may subscribe to; anything else is refused."""
    if isinstance(identity, Registration):
        return frozenset({REGISTRATION_ANSWERS})
    base = identity.path
    own = {f"{base}/inputs/#", f"{base}/#"} if identity.module else {f"{base}/messages/devicebound/#"}
    return frozenset({TWIN_ANSWERS, DESIRED, METHODS, *own})


def operation(identity: Identity | Registration, topic: str) -> Operation:
    """What a PUBLISH means.

    Raises:
        Invalid: nothing that this client may send: close the connection.

    """
    place, _, query = topic.partition("?")
    if isinstance(identity, Registration):
        return _provisioning(place, query)
    events = f"{identity.path}/messages/events"
    if topic == events or topic.startswith(f"{events}/"):
        properties = read_bag(topic[len(events) + 1 :])
        output = (properties.pop(OUTPUT, None) or "") if identity.module else ""
        return Telemetry(output, properties)
    if place == _GET:
        return TwinGet(_rid(query))
    if place == _REPORT:
        return TwinReport(_rid(query))
    if place.startswith(_RESULT):
        status = place[len(_RESULT) :].removesuffix("/")
        if not status.removeprefix("-").isascii() or not status.removeprefix("-").isdigit() or len(status) > 10:
            raise Invalid("method: its result's status is a number")
        return MethodResult(_rid(query), int(status))
    raise Invalid(f"topic {topic[:80]!r}: nothing is published there")


def _provisioning(place: str, query: str) -> Operation:
    if place == _REGISTER:
        return Register(_rid(query))
    if place == _POLL:
        return Poll(_rid(query), parse_query(query).get("operationId", ""))
    raise Invalid(f"topic {place[:80]!r}: only registrations are published here")


def _rid(query: str) -> str:
    found = parse_query(query).get("$rid", "")
    if not found or len(found) > 128:
        raise Invalid("topic: $rid is missing or too long")
    return found


def parse_query(text: str) -> dict[str, str]:
    """``?a=b&c=d`` decoded; of a name that stands there twice the first counts."""
    found: dict[str, str] = {}
    for part in text.removeprefix("?").split("&")[: 2 * MAX_PROPERTIES]:
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(unquote(name), unquote(value))
    return found


def read_bag(text: str) -> Bag:
    """A message's properties.

    Raises:
        Invalid: too many.

    """
    text = text.removeprefix("?").removesuffix("/")
    parts = [part for part in text.split("&") if part]
    if len(parts) > MAX_PROPERTIES:
        raise Invalid(f"message: at most {MAX_PROPERTIES} properties")
    found: Bag = {}
    for part in parts:
        name, equals, value = part.partition("=")
        found.setdefault(unquote(name), unquote(value) if equals else None)
    return found


# -- to the client ---------------------------------------------------------------------------------------------------


def write_bag(properties: Bag) -> str:
    """Properties as a topic's last part; a space is ``%20``."""
    return "&".join(
        quote(name, safe="") if value is None else f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in properties.items()
    )


def twin_answer(status: int, rid: str, version: int | None = None) -> str:
    counted = "" if version is None else f"&$version={version}"
    return f"$iothub/twin/res/{status}/?$rid={quote(rid, safe='')}{counted}"


def desired_changed(version: int) -> str:
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def method_call(name: str, rid: str) -> str:
    return f"$iothub/methods/POST/{quote(name, safe='')}/?$rid={rid}"


def input_message(identity: Identity, name: str, properties: Bag) -> str:
    return f"{identity.path}/inputs/{quote(name, safe='')}/{write_bag(properties)}"


def devicebound(device: str, properties: Bag) -> str:
    told: Bag = {"$.to": f"/devices/{device}/messages/deviceBound", **properties}
    return f"devices/{device}/messages/devicebound/{write_bag(told)}"


def registration_answer(status: int, rid: str, retry_after: int | None = None) -> str:
    wait = "" if retry_after is None else f"&retry-after={retry_after}"
    return f"$dps/registrations/res/{status}/?$rid={quote(rid, safe='')}{wait}"


# -- bodies ----------------------------------------------------------------------------------------------------------


def failure(code: int, tracking: str, message: str, stamp: str) -> bytes:
    """The body of a twin answer that is no success: ``code`` has six digits, e.g. 400004."""
    return documents.encode({"errorCode": code, "trackingId": tracking, "message": message, "timestampUtc": stamp})
