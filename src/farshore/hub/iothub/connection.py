"""One client's connection: what its packets come to, and what it is told.

Order of a PUBLISH: what it says is written down, its answer is sent, then it is acknowledged. Whoever dies in between gets it
again, or sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection as Transaction

from farshore.core import documents, twin
from farshore.core.errors import Denied, FarshoreError, Invalid, NotFound, Unauthenticated, Unavailable
from farshore.hub import moments
from farshore.hub.connected import MAX_PAYLOAD, Calls, Result
from farshore.hub.hub import Hub
from farshore.hub.iothub import admission, answers, provisioning
from farshore.hub.iothub.admission import Admitted, Waits
from farshore.hub.iothub.batch import Batch
from farshore.hub.iothub.mail import Mail
from farshore.hub.records import subscriptions
from farshore.hub.records.devices import Twin
from farshore.hub.records.messages import Received
from farshore.hub.records.subscriptions import Subscriptions
from farshore.mqtt import iothub, packets, session
from farshore.mqtt.iothub import (
    Identity,
    Login,
    MethodResult,
    Poll,
    Register,
    Registration,
    Telemetry,
    TwinGet,
    TwinReport,
)
from farshore.mqtt.packets import Connect, Puback, Publish, Subscribe, Unsubscribe, Will
from farshore.mqtt.session import Ended, Session

log = logging.getLogger(__name__)

MAX_TOGETHER = 64
"""Messages of one client that are written down at one time."""
MAX_UNREAD = 1 << 20
"""Bytes that may wait for a client to read them; beyond, it is closed."""
AGAIN_SECONDS = 1.0
"""Before looking again, when the database did not answer."""


class Stream(Protocol):
    """Bytes from and to one client."""

    @property
    def certified(self) -> str | None:
        """Common name of its TLS certificate, if it showed one by an authority of ours."""

    @property
    def unread(self) -> int:
        """Bytes that wait to be sent."""

    async def read(self) -> bytes:
        """What came in; empty when the client hung up."""

    def write(self, data: bytes) -> None:
        """Send, when there is room."""

    async def drain(self) -> None:
        """Wait for room."""

    def close(self) -> None:
        """Hang up. Whoever reads gets the end."""


@dataclass(frozen=True, slots=True)
class Room:
    """What connections share: the hub, its batched writes, the mail."""

    hub: Hub
    batch: Batch
    mail: Mail


class Connection:
    """See the module.

    Args:
        room: shared with the others.
        stream: to the client.

    """

    def __init__(self, room: Room, stream: Stream) -> None:
        self._room, self._hub, self._stream = room, room.hub, stream
        self._session = Session(_now())
        self._who: Identity | Registration | None = None
        self._calls = Calls()
        self._told: twin.Section | None = None
        self._version = 0
        self._since = 0
        self._bell: asyncio.Event | None = None
        self._mail = False
        self._stack = ExitStack()
        self._watching: asyncio.Task[None] | None = None
        self._posting = asyncio.Lock()
        self._inflight: dict[int, int] = {}

    async def run(self) -> None:
        """Serve the client until one of both hangs up."""
        ended: Ended | None = None
        try:
            while ended is None:
                self._session.feed(await self._read(), _now())
                ended = await self._work()
                self._write()
                if ended is None:
                    await self._stream.drain()
            await self._leave(ended)
        except OSError as error:
            log.debug("%s: %s", self._who, error)
        finally:
            self._close()

    async def _read(self) -> bytes:
        while True:
            self._session.check(_now())
            left = self._session.due - _now()
            if left <= 0:
                return b""
            try:
                async with asyncio.timeout(left):
                    return await self._stream.read()
            except TimeoutError:
                continue  # the time that is due may have moved

    async def _work(self) -> Ended | None:
        """Do all that the bytes so far ask for."""
        together: list[tuple[Publish, Received]] = []
        while True:
            event = self._session.next()
            if isinstance(event, Publish) and isinstance(self._who, Identity):
                meant = self._meant(self._who, event)
                if isinstance(meant, Received):
                    together.append((event, meant))
                    if len(together) < MAX_TOGETHER:
                        continue
            else:
                meant = None
            if together:
                await self._keep(together)
                together = []
            if event is None or isinstance(event, Ended):
                return event
            if not isinstance(meant, Received):
                await self._handle(event, meant)
                self._write()

    async def _handle(self, event: Any, meant: Any) -> None:
        try:
            if isinstance(event, Connect):
                await self._connect(event)
            elif isinstance(event, Subscribe):
                await self._subscribe(event)
            elif isinstance(event, Unsubscribe):
                await self._unsubscribe(event)
            elif isinstance(event, Puback):
                await self._taken(event.packet)
            elif isinstance(event, Publish):
                await self._operate(event, meant)
        except FarshoreError as error:  # the client comes again, and says again what was not acknowledged
            self._session.end(error.message)

    # -- coming and going ------------------------------------------------------------------------------------------

    async def _connect(self, asked: Connect) -> None:
        try:
            login = iothub.login(asked.client, asked.user)
            if isinstance(login, Registration):
                expires = await self._hub.threads(provisioning.admit, self._hub, login, asked.password)
                self._who = login
                self._session.accept({}, _now(), self._until(expires))
                return
            admitted = await self._hub.threads(
                admission.admit, self._hub, login, asked.password, self._stream.certified
            )
            self._enter(login, admitted)
        except (Waits, Unavailable) as error:
            self._refuse(session.LATER, asked, error)
        except (Denied, Invalid) as error:
            self._refuse(session.FORBIDDEN, asked, error)

    def _refuse(self, code: int, asked: Connect, error: FarshoreError) -> None:
        log.info("refused %s: %s", asked.client[:200], error.message)
        self._session.refuse(code, error.message)

    def _enter(self, login: Login, admitted: Admitted) -> None:
        self._bell = self._stack.enter_context(self._hub.bells.listen(login.identity.device))
        if self._bell is None:
            raise Unavailable("too many are connected, or the hub is closing")
        self._who, self._version, self._since = login.identity, admitted.version, admitted.remembered.told
        allowed = iothub.filters_of(login.identity)
        remembered = {name: qos for name, qos in admitted.remembered.filters.items() if name in allowed}
        self._session.accept(remembered, _now(), self._until(admitted.expires))
        self._hub.connected.enter(login.identity, self)
        self._mail = bool(remembered)
        self._watching = asyncio.create_task(self._watch(login.identity, self._bell))

    def _until(self, expires: float) -> float:
        """A moment of the hub's clock on the session's."""
        return _now() + max(expires - self._hub.clock(), 0.0)

    async def _leave(self, ended: Ended) -> None:
        log.debug("%s: %s", self._who, ended.reason)
        if ended.will is not None and isinstance(self._who, Identity):
            will: Will = ended.will
            meant = self._meant(self._who, Publish(will.topic, will.payload, retain=will.retain))
            if isinstance(meant, Received):
                kept = msgspec.structs.replace(meant, properties={**meant.properties, "iothub-MessageType": "Will"})
                await self._keep([(Publish("", b""), kept)])

    def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._stack.close()
        self._calls.end(f"{self._who} went before it answered")
        if isinstance(self._who, Identity):
            self._hub.connected.leave(self._who, self)
        self._stream.close()

    # -- a Client, as others see it ----------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        self._session.end(reason)
        self._write()
        self._stream.close()

    def wake(self) -> None:
        self._mail = True
        if self._bell is not None:
            self._bell.set()

    def call(self, method: str, payload: bytes) -> asyncio.Future[Result] | None:
        if iothub.METHODS not in self._session.filters:
            return None
        rid, done = self._calls.ask()
        self._session.send(iothub.method_call(method, rid), payload)
        self._write()
        return done

    # -- what it hears of ------------------------------------------------------------------------------------------

    async def _subscribe(self, asked: Subscribe) -> None:
        assert self._who is not None
        allowed = iothub.filters_of(self._who)
        codes = [min(qos, 1) if name in allowed else packets.REFUSED for name, qos in asked.filters]
        kept = {name: code for (name, _), code in zip(asked.filters, codes, strict=True) if code != packets.REFUSED}
        if iothub.DESIRED in kept and iothub.DESIRED not in self._session.filters and isinstance(self._who, Identity):
            # It hears of what changes from here on; what there is already, it asks for.
            row = await self._hub.threads(self._hub.fleet.twin, self._who.device, self._who.module)
            self._told = row.desired
        await self._remember({**self._session.filters, **kept})
        self._session.granted(asked, codes)
        self.wake()

    async def _unsubscribe(self, asked: Unsubscribe) -> None:
        await self._remember({name: qos for name, qos in self._session.filters.items() if name not in asked.filters})
        self._session.released(asked)

    async def _remember(self, filters: dict[str, int]) -> None:
        """Write subscriptions down, before they are confirmed: clients do not subscribe again when they come back."""
        if not isinstance(self._who, Identity) or filters == self._session.filters:
            return
        who, row = self._who, Subscriptions(filters, self._told.version if self._told else self._since)

        def write(tx: Transaction) -> None:
            subscriptions.put(tx, who.device, who.module, row)

        await self._room.batch.do(write)

    async def _watch(self, who: Identity, bell: asyncio.Event) -> None:
        """Look whenever it may be news: whether the client may stay, what it is told, what waits for it."""

        def look() -> Twin:
            admission.still(self._hub, who.device, who.module, self._version)
            return self._hub.fleet.twin(who.device, who.module)

        while True:
            bell.clear()
            try:
                row = await self._hub.threads(look)
                self._tell(who, row)
                if self._mail:
                    self._mail = False
                    await self._post(who)
                self._write()
                await bell.wait()
                if not self._mail:  # a rule changed for all: no stampede
                    await asyncio.sleep(random.uniform(0.0, self._hub.bells.spread))  # noqa: S311 - no secret
            except (NotFound, Denied) as error:
                self.end(error.message)
                return
            except Unavailable as error:
                log.warning("%s: %s", who, error.message)
                await asyncio.sleep(AGAIN_SECONDS)
                bell.set()

    def _tell(self, who: Identity, row: Twin) -> None:
        """Tell the client what is desired, if it listens and that is news to it."""
        known = self._told.version if self._told else self._since
        if iothub.DESIRED in self._session.filters and row.desired.version > known:
            # Of one who was away it is not known what they had: they get the whole.
            change = twin.since(row.desired, known, self._told.values) if self._told else row.desired.values
            body = answers.desired(self._hub, row, change)
            self._session.send(iothub.desired_changed(row.desired.version), documents.encode(body))
            self._hub.connected.told(who, row.desired.version)
        if self._told is None or row.desired.version > self._told.version:
            self._told = row.desired

    async def _post(self, who: Identity) -> None:
        """Send what waits for the client, as much as it may have unacknowledged."""
        async with self._posting:
            for message in await self._room.mail.pending(who):
                topic = answers.topic_of(who, message)
                qos = self._session.granted_for(topic)
                if qos is None or message.packet in self._inflight or (qos and not self._session.room):
                    continue
                if qos:
                    if not message.sent:
                        await self._room.mail.note_sent(message)
                    self._inflight[message.packet] = message.serial
                    self._session.send(topic, message.body, message.packet, dup=message.sent)
                else:
                    self._session.send(topic, message.body)
                    await self._room.mail.taken(message.serial)
                self._write()

    async def _taken(self, packet: int) -> None:
        serial = self._inflight.get(packet)
        if serial is not None:
            await self._room.mail.taken(serial)
            del self._inflight[packet]
            if self._session.room in {session.WINDOW // 2, session.WINDOW}:  # more may wait than there was room for
                self.wake()

    # -- what it says ----------------------------------------------------------------------------------------------

    def _meant(self, who: Identity, publish: Publish) -> Any:
        """What a PUBLISH asks for: an operation, or a message to keep; None if it ends the connection."""
        try:
            meant = iothub.operation(who, publish.topic)
        except Invalid as error:
            self._session.end(error.message)
            return None
        if not isinstance(meant, Telemetry):
            return meant
        properties = {**meant.properties, "mqtt-retain": "true"} if publish.retain else meant.properties
        return answers.received(who, meant.output, properties, publish.payload, self._hub.clock())

    async def _keep(self, together: list[tuple[Publish, Received]]) -> None:
        try:
            await self._room.mail.keep([message for _, message in together])
        except FarshoreError as error:
            self._session.end(error.message)  # nothing is acknowledged: it comes again
            return
        for publish, _ in together:
            self._session.taken(publish)
        self._write()

    async def _operate(self, publish: Publish, meant: Any) -> None:
        who = self._who
        if isinstance(who, Registration):
            await self._provision(who, publish)
        elif isinstance(meant, TwinGet):
            assert who is not None
            await self._twin(who, meant.rid)
        elif isinstance(meant, TwinReport):
            assert who is not None
            await self._report(who, meant.rid, publish.payload)
        elif isinstance(meant, MethodResult):
            self._calls.answer(meant.rid, Result(meant.status, answers.payload(publish.payload[: MAX_PAYLOAD + 1])))
        self._session.taken(publish)

    async def _twin(self, who: Identity, rid: str) -> None:
        row = await self._hub.threads(self._hub.fleet.twin, who.device, who.module)
        desired = answers.desired(self._hub, row, row.desired.values)
        body = documents.encode({"desired": desired, "reported": twin.wire(row.reported)})
        self._session.send(iothub.twin_answer(200, rid), body)  # also to one who did not subscribe: clients forget to
        if self._told is None or row.desired.version >= self._told.version:
            self._told = row.desired
            self._hub.connected.told(who, row.desired.version)

    async def _report(self, who: Identity, rid: str, payload: bytes) -> None:
        try:
            change = documents.decode(payload, dict[str, Any], what="reported", limit=packets.MAX_PACKET)
            row = await self._hub.threads(self._hub.fleet.report, who.device, who.module, change)
        except Unauthenticated:
            raise
        except Invalid as error:
            told = iothub.failure(400004, rid, error.message, moments.text(self._hub.clock()))
            self._session.send(iothub.twin_answer(400, rid), told)
            return
        self._session.send(iothub.twin_answer(204, rid, row.reported.version), b"")
        self._hub.fleet.saw(who.device)
        self._tell(who, row)

    async def _provision(self, who: Registration, publish: Publish) -> None:
        try:
            asked = iothub.operation(who, publish.topic)
        except Invalid as error:
            self._session.end(error.message)
            return
        assert isinstance(asked, Register | Poll)
        topic, body = await self._hub.threads(provisioning.answer, self._hub, who, asked)
        self._session.send(topic, body)

    def _write(self) -> None:
        data = self._session.take()
        if data:
            self._stream.write(data)
            if self._stream.unread > MAX_UNREAD:
                self.end("it does not read what it is sent")


def _now() -> float:
    return asyncio.get_running_loop().time()
