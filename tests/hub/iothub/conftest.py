"""A hub with its device door open, in a thread of its own, and clients that speak MQTT to it over real TLS."""

import asyncio
import json
import socket
import ssl
import threading
import time
from itertools import count

import pytest

from farshore.hub.app import create_app
from farshore.hub.identities import Wanted
from farshore.hub.iothub.door import certificate
from farshore.hub.settings import Settings
from farshore.mqtt import packets, sas
from farshore.mqtt.packets import Connack, Connect, Puback, Publish, Reader, Suback, Subscribe

PATIENCE = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """The hub; :attr:`hub` is used from the test's own thread, as the hub's threads use it."""

    def __init__(self, data, **settings):
        self.clients = []
        self.settings = Settings(data=data, builders=0, **{"iothub_port": free_port(), **settings})
        self.start()

    def start(self, clock=time.time):
        self.app, self.loop = create_app(self.settings, clock), asyncio.new_event_loop()
        self.hub, self._stop, ready = self.app.hub, asyncio.Event(), threading.Event()
        self.context = ssl.create_default_context(cadata=certificate(self.hub)[2].decode())
        self._failed = None

        async def live():
            incoming = asyncio.Queue()
            await incoming.put({"type": "lifespan.startup"})

            async def send(message):
                self._failed = message.get("message")
                ready.set()

            task = asyncio.create_task(
                self.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, incoming.get, send)
            )
            await self._stop.wait()
            await incoming.put({"type": "lifespan.shutdown"})
            await task

        def run():
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(live())
            self.loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE) and not self._failed, self._failed

    def stop(self):
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()

    def do(self, awaitable):
        """Wait for something of the hub's own event loop."""
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(PATIENCE)

    def ring(self, device):
        self.loop.call_soon_threadsafe(self.hub.bells.ring, device)

    def identity(self, device, module="", **wanted):
        """Make an identity; its primary key."""
        if module:
            self.hub.identities.ensure(device, module)
            known = self.hub.identities.one(device, module)
        else:
            known, _ = self.hub.identities.put(device, "", Wanted(kind="sas", **wanted), None)
        return known.identity.primary

    def client(self, device, key=None, module="", **more):
        return Mqtt(self, f"{device}/{module}" if module else device, key, **more)

    def patch(self, device, desired, module=""):
        row = self.hub.fleet.change_twin(
            device, {"properties": {"desired": desired}}, None, replace=False, module=module
        )
        self.ring(device)
        return row


class Mqtt:
    """A client of ours: bare packets, no memory, no retry."""

    def __init__(
        self,
        running,
        client,
        key,
        *,
        expires=None,
        host="localhost",
        connect=True,
        password=None,
        will=None,
        keepalive=60,
    ):
        self.running, self.reader, self.numbers, self.heard = running, Reader(), count(1), []
        plain = socket.create_connection(("127.0.0.1", running.settings.iothub_port), timeout=PATIENCE)
        self.socket = running.context.wrap_socket(plain, server_hostname="localhost")
        running.clients.append(self)
        self.path = "devices/" + client.replace("/", "/modules/", 1)
        if password is None and key is not None:
            expires = int(running.hub.clock()) + 3600 if expires is None else expires
            password = sas.sign(f"{host}/{self.path}", key, expires).encode()
        self.hello = Connect(client, f"{host}/{client}/?api-version=2019-10-01", password, keepalive, will=will)
        if connect:
            self.send(self.hello)
            self.connack = self.expect(Connack)

    def send(self, *sent):
        self.socket.sendall(b"".join(map(packets.write, sent)))

    def receive(self, seconds=PATIENCE):
        """The next packet; None when the hub hung up."""
        self.socket.settimeout(seconds)
        while (packet := self.reader.next()) is None:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, TimeoutError):
                    raise
                return None
            if not data:
                return None
            self.reader.feed(data)
        self.heard.append(packet)
        return packet

    def expect(self, kind, topic=""):
        """The next packet of a kind; others on the way are kept in :attr:`heard`."""
        while True:
            packet = self.receive()
            assert packet is not None, f"hung up instead of {kind.__name__}"
            if isinstance(packet, kind) and getattr(packet, "topic", "").startswith(topic):
                return packet

    def silent(self, seconds=0.3):
        """Whether nothing comes for a moment."""
        try:
            return self.receive(seconds)
        except TimeoutError:
            return "silent"

    def subscribe(self, *filters, qos=1):
        self.send(Subscribe(next(self.numbers), tuple((name, qos) for name in filters)))
        return self.expect(Suback).codes

    def publish(self, topic, payload=b"", qos=1, **more):
        packet = next(self.numbers) if qos else 0
        self.send(Publish(topic, payload, qos, packet, **more))
        return packet

    def say(self, topic, payload=b""):
        """Publish and wait until it is acknowledged."""
        packet = self.publish(topic, payload)
        assert self.expect(Puback).packet == packet

    def twin(self):
        self.publish("$iothub/twin/GET/?$rid=1", b" ")
        answer = self.expect(Publish, "$iothub/twin/res/")
        assert answer.topic == "$iothub/twin/res/200/?$rid=1"
        return json.loads(answer.payload)

    def report(self, change, rid="7"):
        self.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={rid}", json.dumps(change).encode())
        return self.expect(Publish, "$iothub/twin/res/")

    def told(self):
        packet = self.expect(Publish, "$iothub/twin/PATCH/properties/desired/")
        return json.loads(packet.payload)

    def gone(self):
        """Whether the hub hangs up."""
        while (packet := self.receive()) is not None:
            assert not isinstance(packet, Connack)
        return True

    def close(self):
        self.socket.close()


@pytest.fixture
def running(tmp_path):
    found = Running(tmp_path / "hub")
    yield found
    found.stop()
    for client in found.clients:
        client.close()
