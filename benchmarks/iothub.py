"""What IoT Hub's clients cost one hub process: memory for each session, connects and messages per second, a reconnect storm.

Clients and hub are two processes on this machine; everything goes over TLS and the SDKs' own sequence: CONNECT, SUBSCRIBE to twin
answers and desired changes, GET of the twin. A message counts when it is acknowledged, which is when it is on disk. In the storm the
hub is killed while all clients send, and started again: each comes back, sends again what was not acknowledged, and goes on. Ids of
what the hub then has are compared with ids of what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from farshore.cli.output import print_table
from farshore.hub.hub import Hub
from farshore.hub.identities import Wanted
from farshore.hub.iothub.door import certificate
from farshore.hub.records import messages
from farshore.hub.settings import Settings
from farshore.mqtt import packets, sas
from farshore.mqtt.packets import Connack, Connect, Puback, Publish, Reader, Suback, Subscribe
from farshore.serve.memory import held

SESSIONS = int(sys.argv[1].removeprefix("--sessions=")) if len(sys.argv) > 1 else 2000
AT_ONCE = 100
"""Clients that connect at one time, when there is no storm."""
EACH = 10
WINDOW = 4
"""Messages of one client that wait for their acknowledgement."""


class Client:
    """One session; it remembers what was not acknowledged."""

    def __init__(self, world, name, key):
        self.world, self.name, self.key = world, name, key
        self.reader = self.writer = None
        self.unacked, self.number, self.acked = {}, 0, 0

    async def connect(self):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.world.port, ssl=self.world.context, server_hostname="localhost", limit=1 << 14
        )
        self.packets, self.reader, self.writer = Reader(), reader, writer
        token = sas.sign(f"localhost/devices/{self.name}", self.key, int(time.time()) + 3600).encode()
        self.write(Connect(self.name, f"localhost/{self.name}/?api-version=2019-10-01", token))
        answer = await self.next(Connack)
        if answer.code:
            raise ConnectionRefusedError(answer.code)
        return answer.present

    async def open(self):
        """As the SDKs begin."""
        await self.connect()
        self.write(Subscribe(1, (("$iothub/twin/res/#", 1), ("$iothub/twin/PATCH/properties/desired/#", 1))))
        await self.next(Suback)
        self.write(Publish("$iothub/twin/GET/?$rid=1", b" ", 1, 2))
        await self.next(Puback)

    def write(self, packet):
        self.writer.write(packets.write(packet))

    async def next(self, kind):
        while True:
            while (packet := self.packets.next()) is None:
                data = await self.reader.read(8192)
                if not data:
                    raise ConnectionResetError
                self.packets.feed(data)
            if isinstance(packet, kind):
                return packet

    def send(self):
        self.number += 1
        packet = self.number % 60000 + 10
        topic = f"devices/{self.name}/messages/events/%24.mid={self.name}-{self.number}"
        sent = Publish(topic, b'{"temperature": 21.5, "state": "running"}', 1, packet)
        self.unacked[packet] = sent
        self.write(sent)

    async def acknowledged(self):
        packet = await self.next(Puback)
        if self.unacked.pop(packet.packet, None) is not None:
            self.acked += 1

    async def talk(self, count):
        """Send ``count`` messages, a few under way at any time."""
        wanted, sent = self.acked + count, len(self.unacked)
        while self.acked < wanted:
            while sent < count and len(self.unacked) < WINDOW:
                self.send()
                sent += 1
            await self.acknowledged()

    async def talk_whatever_happens(self, until):
        """Send until told, coming back by itself and sending again; then wait for what is left."""
        tries = 0
        while self.unacked or not until.is_set():
            try:
                if self.writer is None:
                    tries += 1
                    await asyncio.wait_for(self.connect(), 60)
                    tries = 0
                    self.world.back.append(time.perf_counter())
                    for packet, sent in self.unacked.items():
                        self.write(Publish(sent.topic, sent.payload, 1, packet, dup=True))
                if not until.is_set() and len(self.unacked) < WINDOW:
                    self.send()
                    await asyncio.sleep(random.uniform(0, 0.5))
                elif self.unacked:
                    await self.acknowledged()
            except (OSError, TimeoutError, ssl.SSLError):
                if self.writer is not None:
                    self.writer.close()
                self.writer = None
                await asyncio.sleep(random.uniform(0, min(0.1 * 2**tries, 2.0)))


class World:
    """The hub's process and its clients."""

    def __init__(self, folder):
        self.data = folder / "hub"
        self.ports = [self._free() for _ in range(2)]
        self.port = self.ports[1]
        self.settings = Settings(data=self.data, builders=0, port=self.ports[0], iothub_port=self.port)
        hub = Hub(self.settings)
        names = [f"device-{number}" for number in range(SESSIONS)]
        keys = [hub.identities.put(name, "", Wanted(kind="sas"), None)[0].identity.primary for name in names]
        self.context = ssl.create_default_context(cadata=certificate(hub)[2].decode())
        hub.close()
        self.clients = [Client(self, name, key) for name, key in zip(names, keys, strict=True)]
        self.process, self.back = None, []

    @staticmethod
    def _free():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def start(self):
        arguments = [sys.executable, "-m", "farshore.cli", "hub", "--data", str(self.data)]
        arguments += ["--port", str(self.ports[0]), "--iothub-port", str(self.port)]
        environment = {**os.environ, "FARSHORE_HUB_BUILDERS": "0"}
        self.process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def received(self):
        hub = Hub(self.settings)
        try:
            found, count, after = set(), 0, 0
            while True:
                with hub.database.reading() as tx:
                    page = messages.after(tx, after, 1000)
                if not page:
                    return found, count
                count += len(page)
                found |= {one.properties["$.mid"] for one in page}
                after = page[-1].serial
        finally:
            hub.close()


async def timed(work):
    begun = time.perf_counter()
    await asyncio.gather(*work)
    return time.perf_counter() - begun


async def measure(world):
    rows = []
    before = held(world.process.pid)
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one(client):
        async with gate:
            await client.open()

    seconds = await timed(open_one(client) for client in world.clients)
    rows.append(("connect, subscribe, get twin", f"{SESSIONS / seconds:.0f} clients/s"))
    await asyncio.sleep(2)
    memory = held(world.process.pid) - before
    rows.append(
        (f"memory of {SESSIONS} idle sessions", f"{memory / SESSIONS / 1024:.0f} KiB each, {memory / 1e6:.0f} MB")
    )

    few = world.clients[:50]
    seconds = await timed(client.talk(EACH * SESSIONS // 50) for client in few)
    rows.append((f"messages from 50 clients, {WINDOW} under way", f"{EACH * SESSIONS / seconds:.0f} messages/s"))
    seconds = await timed(client.talk(EACH) for client in world.clients)
    rows.append(
        (f"messages from {SESSIONS} clients, {WINDOW} under way", f"{EACH * SESSIONS / seconds:.0f} messages/s")
    )
    rows.append(("memory after that", f"{held(world.process.pid) / 1e6:.0f} MB in all"))

    until = asyncio.Event()
    talking = [asyncio.create_task(client.talk_whatever_happens(until)) for client in world.clients]
    await asyncio.sleep(2)
    world.kill()
    await asyncio.sleep(1)
    killed = time.perf_counter()
    world.back.clear()
    await asyncio.to_thread(world.start)
    started = time.perf_counter()
    while len(world.back) < SESSIONS:  # noqa: ASYNC110 - a look now and then is enough
        await asyncio.sleep(0.1)
    rows.append(("hub killed: start again", f"{started - killed:.1f} s"))
    rows.append((f"{SESSIONS} clients back, sending meanwhile", f"{max(world.back) - started:.1f} s after that"))
    await asyncio.sleep(1)
    until.set()
    await asyncio.gather(*talking)
    for client in world.clients:
        client.writer.close()
    return rows


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, SESSIONS + 512)), hard))
    with tempfile.TemporaryDirectory() as folder:
        world = World(pathlib.Path(folder))
        world.start()
        try:
            rows = asyncio.run(measure(world))
        finally:
            world.kill()
        found, rows_there = world.received()
    sent = {f"{client.name}-{number}" for client in world.clients for number in range(1, client.number + 1)}
    rows.append(("messages acknowledged", f"{len(sent)}"))
    rows.append(("of these lost", f"{len(sent - found)}"))
    rows.append(("kept twice", f"{rows_there - len(found)}"))
    print(f"\n{SESSIONS} MQTT sessions over TLS on one hub process, clients on the same machine\n")
    print_table(["what", ">"], rows)


if __name__ == "__main__":
    main()
