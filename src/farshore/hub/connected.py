"""Who is connected, and what is asked of them. Used from the event loop only, but for :meth:`Connected.flush`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Protocol

from msgspec import Struct

from farshore.core import documents
from farshore.core.errors import Conflict, NotFound, TooLarge, Unavailable
from farshore.hub.database import Database
from farshore.hub.moments import Clock
from farshore.hub.records import identities, subscriptions
from farshore.mqtt.iothub import Identity

MAX_PAYLOAD = 128 << 10
"""IoT Hub's, of a method's request and result."""
LOOK_SECONDS = 0.1


class NotConnected(NotFound):
    """It is not connected, or takes no methods: ask when it is."""


class NoAnswer(Unavailable):
    """It was asked, and did not answer in time: whether it acted is not known."""

    status = 504


class Result(Struct, frozen=True):
    """What a method came to: a status of the device's own choice, and JSON."""

    status: int
    payload: Any


class Client(Protocol):
    """One connected client, as :mod:`.iothub.connection` has it."""

    def end(self, reason: str) -> None:
        """Close it."""

    def wake(self) -> None:
        """There are messages for it."""

    def call(self, method: str, payload: bytes) -> asyncio.Future[Result] | None:
        """Ask it; None if it takes no methods now."""


class Connected:
    """All connected clients: one for each identity, the newest.

    Args:
        database: for notes of who came and went.
        clock: tells the time.

    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._clients: dict[Identity, Client] = {}
        self._lock = threading.Lock()
        self._moved: dict[Identity, float] = {}
        self._told: dict[Identity, int] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, who: Identity, client: Client) -> None:
        """A client came; one of the same identity that is there goes."""
        before = self._clients.get(who)
        self._clients[who] = client
        if before is not None:
            before.end("another client of the same identity took its place")
        self._note(who)

    def leave(self, who: Identity, client: Client) -> None:
        """A client went, unless another took its place."""
        if self._clients.get(who) is client:
            del self._clients[who]
            self._note(who)

    def told(self, who: Identity, version: int) -> None:
        """A client was told desired with this ``$version``; written down now and then."""
        with self._lock:
            self._told[who] = version

    def connected(self, device: str, module: str = "") -> bool:
        return Identity(device, module) in self._clients

    def end(self, device: str, module: str, reason: str) -> None:
        """Close a client's connection, if it has one."""
        client = self._clients.get(Identity(device, module))
        if client is not None:
            client.end(reason)

    def deliver(self, device: str, module: str = "") -> None:
        """There are messages for a client: they go out now, if it is here."""
        client = self._clients.get(Identity(device, module))
        if client is not None:
            client.wake()

    async def invoke(
        self, device: str, module: str, method: str, payload: Any, seconds: float = 30, connect_seconds: float = 0
    ) -> Result:
        """Call a direct method.

        Args:
            device: its id.
            module: "" for the device itself.
            method: its name.
            payload: JSON.
            seconds: to wait for the answer.
            connect_seconds: to wait for it to connect first.

        Raises:
            NotConnected: it is not there, or not subscribed to methods.
            NoAnswer: it did not answer in time.
            TooLarge: the payload is.
            Conflict: too many calls wait for it.

        """
        body = documents.encode(payload)
        if len(body) > MAX_PAYLOAD:
            raise TooLarge(f"payload: {len(body)} bytes; at most {MAX_PAYLOAD} are taken")
        loop = asyncio.get_running_loop()
        end = loop.time() + connect_seconds
        while True:
            client = self._clients.get(Identity(device, module))
            asked = None if client is None else client.call(method, body)
            if asked is not None:
                break
            if loop.time() >= end:
                name = Identity(device, module)
                raise NotConnected(f"{name} is not connected, or takes no methods")
            await asyncio.sleep(LOOK_SECONDS)
        try:
            return await asyncio.wait_for(asked, seconds)
        except TimeoutError:
            raise NoAnswer(f"{Identity(device, module)} did not answer {method!r} in {seconds:g} s") from None

    def flush(self) -> None:
        """Write down who came and went, and what they were told: many clients, one transaction."""
        with self._lock:
            moved, self._moved = self._moved, {}
            told, self._told = self._told, {}
        if not (moved or told):
            return
        with self._database.writing() as tx:
            for who, at in moved.items():
                identities.note_connection(tx, who.device, who.module, at)
            for who, version in told.items():
                subscriptions.note_told(tx, who.device, who.module, version)

    def _note(self, who: Identity) -> None:
        with self._lock:
            self._moved[who] = self._clock()


class Calls:
    """Methods that a client was asked and has not answered.

    Args:
        most: at one time.

    """

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._last = 0
        self._waiting: dict[str, asyncio.Future[Result]] = {}

    def ask(self) -> tuple[str, asyncio.Future[Result]]:
        """A new request's id, and what its answer will be.

        Raises:
            Conflict: too many wait.

        """
        if len(self._waiting) >= self._most:
            raise Conflict(f"{self._most} methods wait for this client's answers already")
        self._last += 1
        rid, done = str(self._last), asyncio.get_running_loop().create_future()
        self._waiting[rid] = done
        done.add_done_callback(lambda _: self._waiting.pop(rid, None))
        return rid, done

    def answer(self, rid: str, result: Result) -> None:
        """Its answer came; nobody may wait for it any more."""
        done = self._waiting.get(rid)
        if done is not None and not done.done():
            done.set_result(result)

    def end(self, reason: str) -> None:
        """No answer will come."""
        for done in list(self._waiting.values()):
            if not done.done():
                done.set_exception(NotConnected(reason))
