"""Pictures and requests that mean harm, at the front door of a whole server: a worker's own decoder, a front's own parser."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import struct
import zlib
from collections import Counter
from pathlib import Path

import pytest
from tests.attacks.test_pictures import SEEDS, bmp_of_size, jpeg_of_size, mutated, png

from farshore.serve import memory

from .conftest import Client, Device, picture, serve, until
from .test_connection import BAD

MAX_PIXELS = 2_000_000
"""A picture of so many pixels is 8 MB decoded."""


def whole_png(data: bytes) -> bytes:
    """A mutated PNG with the check sums of its chunks put right, so that the decoder reads on."""
    fixed, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = min(at + 8 + length, len(data) - 4)
        body = data[at + 4 : end]
        fixed += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        at = end + 4
    return bytes(fixed)


def hostile(chance: random.Random) -> bytes:
    """A mutated picture, or one that lies about its size."""
    kind = chance.random()
    if kind < 0.05:
        sides = [chance.choice((1, 7, 1000, 2000, 16_384, 65_535, 1 << 20)) for _ in range(2)]
        pixels = zlib.compress(bytes(chance.randrange(1 << 20)))
        return chance.choice(
            (jpeg_of_size(*(min(side, 65_535) for side in sides)), bmp_of_size(*sides), png(*sides, pixels))
        )
    data = mutated(chance.choice(SEEDS), chance)
    return whole_png(data) if data.startswith(b"\x89PNG") and kind < 0.8 else data


def peak(pid: int) -> int:
    """The most bytes that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def pictures_at_the_door(device: Device, rounds: int, seed: int) -> None:
    device.colours(1, activate=True)
    chance = random.Random(seed)
    statuses: Counter[int] = Counter()
    early: list[int] = []

    async def main(client: Client) -> None:
        await client.ready()
        (lane,) = client.server.pool.models["colours"].lanes.values()
        pid = lane.worker.pid

        async def post() -> None:
            while statuses.total() < rounds:
                sent = hostile(chance)
                status, _, body = await client.score(sent)
                statuses[status] += 1
                if status == 200:
                    assert body["classes"]
                else:
                    assert body["error"]["message"]
                    assert "\n" not in body["error"]["message"]
                if not early and statuses.total() >= rounds // 5:
                    early.append(memory.held(pid))

        async with asyncio.TaskGroup() as posting:
            for _ in range(4):
                posting.create_task(post())
        assert (lane.worker.pid, lane.deaths) == (pid, 0), "not one of them ended the worker"
        assert set(statuses) <= {200, 400, 413}
        assert all(statuses[status] for status in (200, 400, 413))
        status, _, body = await client.score(picture((0, 250, 0)))
        assert (status, body["classes"][0]["class"]) == (200, "green1")
        assert client.server._intake.buffered == 0
        late = memory.held(pid)
        print(f"{dict(statuses)}; worker {early[0] >> 20} MB early, {late >> 20} late, {peak(pid) >> 20} at most")
        assert late - early[0] < 24 << 20
        assert peak(pid) - early[0] < 160 << 20  # two at a time, each a few times its pixels

    serve(device, main, max_pixels=MAX_PIXELS)


def test_mutated_pictures_at_the_door(device: Device) -> None:
    pictures_at_the_door(device, 300, 1)


@pytest.mark.deep
def test_ten_thousand_mutated_pictures_at_the_door(device: Device) -> None:
    pictures_at_the_door(device, 10_000, 2)


GOOD = [
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /score?threshold=0.5&top=3 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX-Request-Id: 7\r\n\r\nabcd",
    b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"POST /score HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nz",
    b'POST /v2/models/colours/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"inputs":[]}',
    b"GET /v2/models/colours/versions/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
REQUESTS = [*GOOD, *(sent for _, sent, _ in BAD if len(sent) < 4096)]
TOLD = {100, 200, 400, 404, 405, 408, 413, 415, 417, 431, 501, 503}


def request(chance: random.Random) -> bytes:
    """Mutated, or as it should be: what follows a good one on its connection is read in another state."""
    return chance.choice(GOOD) if chance.random() < 0.3 else mutated(chance.choice(REQUESTS), chance)


def requests_at_the_door(device: Device, rounds: int, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    device.colours(1, activate=True)
    chance = random.Random(seed)
    told: Counter[int] = Counter()
    sent = 0

    async def main(client: Client) -> None:
        await client.ready()
        server = client.server

        async def knock() -> None:
            nonlocal sent
            while sent < rounds:
                sent += 1
                words = b"".join(request(chance) for _ in range(chance.choice((1, 1, 2, 3))))
                reader, writer = await client.connect()
                pieces = chance.choice((1, 1, 1, 3))
                try:
                    for number in range(pieces):
                        writer.write(words[number * len(words) // pieces : (number + 1) * len(words) // pieces])
                        await writer.drain()
                        await asyncio.sleep(0)
                    everything = await reader.read()
                except ConnectionError:
                    everything = b""
                for line in everything.split(b"\r\n"):
                    if line.startswith(b"HTTP/1.1 "):
                        told[int(line[9:12])] += 1
                writer.close()

        async with asyncio.TaskGroup() as knocking:
            for _ in range(32):
                knocking.create_task(knock())
        assert set(told) <= TOLD, "never a fault of the server's own"
        assert told[200]
        assert told[400]
        (lane,) = server.pool.models["colours"].lanes.values()
        assert lane.deaths == 0
        client.close()
        client._idle.clear()  # the server has closed it
        await until(lambda: not server._pictures.open)
        assert server._intake.buffered == 0
        assert server.pool.outstanding == 0
        assert (await client.score(picture((0, 250, 0))))[0] == 200
        print(json.dumps(told))

    with caplog.at_level(logging.ERROR):
        serve(device, main, header_seconds=0.2, body_seconds=0.2, idle_seconds=0.2, max_body=4096)
    assert caplog.records == []


def test_mutated_requests_at_the_door(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    requests_at_the_door(device, 300, 1, caplog)


@pytest.mark.deep
def test_twenty_thousand_mutated_requests_at_the_door(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    requests_at_the_door(device, 20_000, 2, caplog)
