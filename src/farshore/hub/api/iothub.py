"""The operator API's part for clients that speak IoT Hub's dialect: how they connect, methods, messages from and to them."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from farshore.core.errors import Conflict, Invalid, NotFound
from farshore.hub import moments, policies
from farshore.hub.api import door
from farshore.hub.api.door import Endpoint
from farshore.hub.hub import Hub
from farshore.hub.identities import Wanted
from farshore.hub.iothub import door as iothub_door
from farshore.hub.iothub import provisioning
from farshore.hub.policies import POLICIES
from farshore.hub.records import identities, messages
from farshore.hub.records.identities import SAS
from farshore.hub.records.messages import Received, Waiting
from farshore.mqtt.iothub import MESSAGE

MAX_SERIAL = 1 << 53
MAX_BODY = 64 << 10
"""IoT Hub's, of a message to a device."""
MAX_SECONDS = 300
WEEK = 7 * 24 * 3600

Id = Annotated[str, Meta(max_length=128)]
Property = Annotated[str, Meta(min_length=1, max_length=256)]
Properties = Annotated[dict[Property, Annotated[str, Meta(max_length=1024)] | None], Meta(max_length=64)]


class NewConnection(Struct, frozen=True, forbid_unknown_fields=True):
    """Attributes: ``module`` of the device, "" for itself; ``host``, one of the hub's names; ``gateway``, where to connect instead;
    ``create`` the device if there is none.
    """

    module: Id = ""
    host: Annotated[str, Meta(max_length=255)] = ""
    gateway: Annotated[str, Meta(max_length=255)] = ""
    create: bool = False


class Connection(Struct, frozen=True):
    """What an SDK needs: ``connection_string``, and the authority to trust (``ca``, PEM)."""

    device: str
    module: str
    host: str
    port: int
    websocket_port: int
    generation: str
    connection_string: str
    ca: str


class Call(Struct, frozen=True, forbid_unknown_fields=True):
    """A direct method: ``payload`` any JSON; ``seconds`` to wait for the answer, ``connect_seconds`` for the client to connect."""

    payload: Any = None
    module: Id = ""
    seconds: Annotated[float, Meta(ge=1, le=MAX_SECONDS)] = 30
    connect_seconds: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] = 0


class Answer(Struct, frozen=True):
    """What a device answered: a status of its own choice, and JSON."""

    status: int
    payload: Any


class NewMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """A message to a device, or to an ``input`` of a ``module``. The body is ``text`` or ``base64``; it waits for ``seconds``."""

    text: str | None = None
    base64: Annotated[str, Meta(max_length=MAX_BODY * 2)] | None = None
    properties: Properties = {}
    module: Id = ""
    input: Id = ""
    seconds: Annotated[int, Meta(ge=1, le=WEEK)] = WEEK


class Message(Struct, frozen=True, omit_defaults=True):
    """A message, from or to a device; its body as ``json``, ``text`` or ``base64``, the first that it is."""

    serial: int
    at: str
    device: str
    module: str = ""
    output: str = ""
    input: str = ""
    id: str = ""
    properties: dict[str, str | None] = {}
    expires: str | None = None
    sent: bool = False
    json: Any = msgspec.UNSET
    text: str | None = None
    base64: str | None = None


class Policy(Struct, frozen=True):
    """A shared access policy: ``rights`` it gives, both its keys, and what a service's SDK needs to use it."""

    name: str
    rights: list[str]
    primary_key: str
    secondary_key: str
    connection_string: str


class Renewal(Struct, frozen=True, forbid_unknown_fields=True):
    """New keys of a policy: the primary one, which goes on as secondary, or ``both`` at once."""

    both: bool = False


class Provisioning(Struct, frozen=True, omit_defaults=True):
    """How devices provision themselves: id scope, the group's key, and with a ``registration`` the one made from it."""

    scope: str
    host: str
    port: int
    key: str
    ca: str
    registration: str = ""
    registration_key: str = ""


async def connect(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    asked = await door.read(request, NewConnection, what="connection")
    names = _open(hub)
    if asked.host and asked.host.lower() not in {name.lower() for name in names}:
        raise Invalid(f"host {asked.host[:80]!r} is none of this hub's names: start it with --name {asked.host[:80]}")

    def make() -> Connection:
        if asked.create:
            _create(hub, device)
        known = hub.identities.ensure(device, asked.module)
        one = known.identity
        host = asked.host or names[0]
        parts = [f"HostName={host}", f"DeviceId={one.device}"]
        parts += [f"ModuleId={one.module}"] if one.module else []
        parts += [f"SharedAccessKey={one.primary}"] if one.kind == SAS else ["x509=true"]
        parts += [f"GatewayHostName={asked.gateway}"] if asked.gateway else []
        ca = iothub_door.certificate(hub)[2].decode()
        settings = hub.settings
        return Connection(
            one.device, one.module, host, settings.iothub_port, settings.iothub_websocket_port, one.generation,
            ";".join(parts), ca,
        )  # fmt: skip

    return door.reply(request, await hub.threads(make))


async def call(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, method = door.segment(request, "device"), door.segment(request, "method")
    asked = await door.read(request, Call, what="method", limit=256 << 10)
    if not 0 < len(method) <= 100:
        raise Invalid("method: a name of 1 to 100 characters is needed")
    _check_id(asked.module)
    await hub.threads(_check_there, hub, device, asked.module)
    found = await hub.connected.invoke(
        device, asked.module, method, asked.payload, asked.seconds, asked.connect_seconds
    )
    return door.reply(request, Answer(found.status, found.payload))


async def send(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device = door.segment(request, "device")
    asked = await door.read(request, NewMessage, what="message", limit=4 * MAX_BODY)
    if bool(asked.module) != bool(asked.input):
        raise Invalid("message: to a module it goes to one of its inputs: give module and input, or neither")
    body, now = _body_of(asked), hub.clock()
    made = Waiting(
        0, device, asked.module, asked.input, 0, False, now, now + asked.seconds, dict(asked.properties), body
    )

    def put() -> Waiting:
        with hub.database.writing() as tx:
            if identities.one(tx, device, asked.module) is None:
                raise _no_identity(device, asked.module)
            return messages.send(tx, made)

    found = await hub.threads(put)
    hub.connected.deliver(device, asked.module)
    return door.reply(request, _waiting(found), 201)


async def list_waiting(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    device, module = door.segment(request, "device"), request.query_params.get("module", "")

    def read() -> list[Waiting]:
        with hub.database.reading() as tx:
            return messages.pending(tx, device, module, hub.clock())

    return door.reply(request, [_waiting(one) for one in await hub.threads(read)])


async def list_received(request: Request) -> Response:
    return await _received(request, "")


async def list_received_of(request: Request) -> Response:
    return await _received(request, door.segment(request, "device"))


async def _received(request: Request, device: str) -> Response:
    hub: Hub = request.app.state.hub
    after, limit = door.number(request, "after", 0, 0, MAX_SERIAL), door.number(request, "limit", 100, 1, 1000)
    module = request.query_params.get("module")

    def read() -> list[Received]:
        with hub.database.reading() as tx:
            return messages.after(tx, after, limit, device, module)

    found: list[Message] = []
    size = 0
    for one in await hub.threads(read):
        size += len(one.body)
        if found and size > 4 << 20:  # the rest comes with the next page
            break
        found.append(_message(one))
    return door.reply(request, found)


async def list_policies(request: Request) -> Response:
    hub: Hub = request.app.state.hub

    def look() -> list[Policy]:
        return [_policy(hub, name, hub.policies.one(name)) for name in POLICIES]

    return door.reply(request, await hub.threads(look))


async def renew_policy(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    name, asked = door.segment(request, "policy"), await door.read(request, Renewal, what="renewal")
    made = await hub.threads(hub.policies.renew, name, both=asked.both)
    return door.reply(request, _policy(hub, name, made))


def _policy(hub: Hub, name: str, one: policies.Policy) -> Policy:
    string = f"HostName={service_host(hub)};SharedAccessKeyName={name};SharedAccessKey={one.primary}"
    return Policy(name, sorted(POLICIES[name]), one.primary, one.secondary, string)


def service_host(hub: Hub) -> str:
    """Where services reach this hub, by name and, unless it is the usual one, port: Node's SDK can name no port at all."""
    return urlsplit(hub.settings.url).netloc.removesuffix(":443")


async def provision(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    name = request.query_params.get("registration", "")
    if name:
        _check_id(name)
    host = _open(hub)[0]

    def make() -> Provisioning:
        key, ca = provisioning.group_key(hub), iothub_door.certificate(hub)[2].decode()
        own = provisioning.device_key(hub, name) if name else ""
        return Provisioning(provisioning.SCOPE, host, hub.settings.iothub_port, key, ca, name, own)

    return door.reply(request, await asyncio.to_thread(make))


def _open(hub: Hub) -> tuple[str, ...]:
    if not hub.settings.iothub_port:
        raise Conflict("this hub does not speak IoT Hub's MQTT: start it with --iothub-port 8883")
    return hub.settings.iothub_names


def _create(hub: Hub, device: str) -> None:
    """Make a device that has no key of Farshore's, if there is none of that name."""
    try:
        hub.identities.one(device)
    except NotFound:
        hub.identities.put(device, "", Wanted(kind="sas"), None)


def _check_there(hub: Hub, device: str, module: str) -> None:
    with hub.database.reading() as tx:
        if identities.one(tx, device, module) is None:
            raise _no_identity(device, module)


def _no_identity(device: str, module: str) -> NotFound:
    named = f"{device}/{module}" if module else device
    return NotFound(f"{named} has no IoT Hub identity: farshore iothub connection-string makes one")


def _check_id(name: str) -> None:
    if len(name) > 128:
        raise Invalid("a name has at most 128 characters")


def _body_of(asked: NewMessage) -> bytes:
    if (asked.text is None) == (asked.base64 is None):
        raise Invalid("message: give its body as text or base64")
    try:
        body = asked.text.encode() if asked.text is not None else base64.b64decode(asked.base64 or "", validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("message: base64 is damaged") from None
    if len(body) > MAX_BODY:
        raise Invalid(f"message: {len(body)} bytes; at most {MAX_BODY} are taken")
    return body


def _waiting(row: Waiting) -> Message:
    made = Message(row.serial, moments.text(row.at), row.device, row.module, input=row.input, properties=row.properties)
    more = {"id": row.properties.get(MESSAGE) or "", "expires": moments.text(row.expires), "sent": row.sent}
    return msgspec.structs.replace(made, **more, **_said(row.body))


def _message(row: Received) -> Message:
    made = Message(row.serial, moments.text(row.at), row.device, row.module, row.output, properties=row.properties)
    return msgspec.structs.replace(made, id=row.properties.get(MESSAGE) or "", **_said(row.body))


def _said(body: bytes) -> dict[str, Any]:
    """The body as the first that it is: JSON, text, bytes."""
    try:
        return {"json": msgspec.json.decode(body)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


_DEVICE = "/v1/devices/{device}"
_PAGE = (
    ("after", "serial to begin after"),
    ("limit", "most items, 1 to 1000"),
    ("module", 'of this module; "" for none'),
)
ENDPOINTS = (
    Endpoint(
        "POST",
        f"{_DEVICE}/connection",
        connect,
        "What an IoT Hub SDK needs to connect as a device or module; makes an identity if there is none",
        takes=NewConnection,
        gives=Connection,
    ),
    Endpoint("POST", f"{_DEVICE}/methods/{{method}}", call, "Call a direct method", takes=Call, gives=Answer),
    Endpoint(
        "POST", f"{_DEVICE}/messages", send, "Send a message; it waits until it is taken", takes=NewMessage,
        gives=Message, status=201,
    ),
    Endpoint(
        "GET", f"{_DEVICE}/messages", list_received_of, "Messages that came from a device, the oldest first",
        gives=list[Message], query=_PAGE,
    ),
    Endpoint(
        "GET", f"{_DEVICE}/waiting", list_waiting, "Messages that wait for a device", gives=list[Message],
        query=(("module", "of this module"),),
    ),
    Endpoint("GET", "/v1/messages", list_received, "Messages that came in, the oldest first", gives=list[Message], query=_PAGE),
    Endpoint("GET", "/v1/policies", list_policies, "Shared access policies, with their keys", gives=list[Policy]),
    Endpoint(
        "POST", "/v1/policies/{policy}/renew", renew_policy, "New keys of a policy", takes=Renewal, gives=Policy,
    ),
    Endpoint(
        "GET", "/v1/provisioning", provision, "How devices provision themselves", gives=Provisioning,
        query=(("registration", "id to make a key for"),),
    ),
)  # fmt: skip
