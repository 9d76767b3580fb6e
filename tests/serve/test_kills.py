"""Workers killed at any instant of an update: something whole always answers, and nobody gets a wrong answer."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from .conftest import Client, Device, picture, serve
from .test_pool import Load, worker_pids

RED = picture((255, 51, 0))


def update_with_kills(device: Device, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    cases = {
        number: (device.case(RED, {"classes": [{"class": f"red{number}", "score": 1.0}]}, f"case{number}"),)
        for number in (1, 2)
    }
    digests = {number: device.colours(number, cases=cases[number]) for number in (1, 2)}
    device.slots.activate("colours", digests[1])

    async def killer() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0, 0.6))
            pids = worker_pids()
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)

    async def talk(client: Client) -> None:
        await client.ready()
        load = Load(client, 2)
        now = 1
        for _ in range(rounds):
            target = 3 - now
            killing = asyncio.create_task(killer())
            _, probe = await client.order("probe", "colours", digests[target])
            status, _ = await client.order("switch", "colours", digests[target])
            killing.cancel()
            if status == 200:
                now = target
            else:
                assert status == 503
            assert probe.get("ok") or probe["fault"]["code"] in {"unavailable", "invalid"}
            await asyncio.sleep(chance.uniform(0, 0.3))
        # Whatever was killed: the version that was confirmed last answers, alone, in the end.
        await client.order("switch", "colours", digests[now])
        await client.ready()
        await load.end()
        assert (await client.score(RED))[2]["version"] == now
        assert not load.mixed
        assert set(load.statuses) <= {200, 503}
        assert load.statuses[200] > load.statuses[503]

    serve(device, talk, steady_seconds=0.5)


def test_workers_killed_in_updates(device: Device) -> None:
    update_with_kills(device, 4, 1)


@pytest.mark.deep
def test_workers_killed_at_many_instants(device: Device) -> None:
    update_with_kills(device, 50, 2)
