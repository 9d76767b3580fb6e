"""Workers killed, crashed and hung, at load, in mid-request and at any instant of an update: something whole always answers, and nobody
gets a wrong answer."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from .conftest import Client, Device, picture, serve, trap_model, until
from .test_model import Load, worker_pids

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
        assert load.statuses[200] > 0

    serve(device, talk, steady_seconds=0.5)


def test_workers_killed_in_updates(device: Device) -> None:
    update_with_kills(device, 4, 1)


@pytest.mark.deep
def test_workers_killed_at_many_instants(device: Device) -> None:
    update_with_kills(device, 50, 2)


ENDS = [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP]
"""Killed (the kernel does that, too, when memory runs out), crashed in native code, hung."""


@pytest.mark.parametrize("end", ENDS, ids=lambda each: each.name)
def test_a_candidate_that_ends_while_it_loads_is_told_and_harms_nobody(device: Device, end: signal.Signals) -> None:
    device.colours(1, activate=True)
    two = device.colours(2)

    async def talk(client: Client) -> None:
        await client.ready()
        load, model = Load(client), client.server.pool.models["colours"]
        probing = asyncio.create_task(client.order("probe", "colours", two))
        ended: set[int] = set()

        def end_it() -> bool:
            lane = model.lanes.get(two)
            if lane is not None and lane.worker is not None and lane.worker.pid not in ended:
                assert lane.state == "loading"
                ended.add(lane.worker.pid)
                os.kill(lane.worker.pid, end)
            return probing.done()

        await until(end_it)
        assert len(ended) == 2, "once may be an accident"
        _, probe = await probing
        assert (probe.get("ok"), probe["fault"]["code"]) == (False, "unavailable")
        await load.end()
        assert set(load.statuses) == {200}
        assert set(load.versions) == {1}
        _, again = await client.order("probe", "colours", two)
        assert again.get("ok"), f"another time it goes well: {again}"

    serve(device, talk, load_seconds=8.0)


@pytest.mark.parametrize("end", ENDS, ids=lambda each: each.name)
def test_a_start_that_ends_while_it_loads_is_tried_again(device: Device, end: signal.Signals) -> None:
    device.colours(1, activate=True)

    async def talk(client: Client) -> None:
        asked = asyncio.create_task(client.score(RED))
        while not (found := worker_pids()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (pid,) = found
        os.kill(pid, end)
        status, _, answer = await asked
        assert (status, answer["version"]) == (200, 1)
        assert pid not in worker_pids()

    serve(device, talk, load_seconds=8.0, wait_seconds=60.0)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda each: each.name)
def test_a_request_that_kills_two_workers_gets_503_and_the_next_an_answer(device: Device, end: signal.Signals) -> None:
    device.colours(1, data=trap_model(), size=8, activate=True)

    async def talk(client: Client) -> None:
        await client.ready()
        (lane,) = client.server.pool.models["colours"].lanes.values()
        asked = asyncio.create_task(client.score(picture((0, 0, 255))))  # computes for ever
        for deaths in (1, 2):
            await until(lambda: lane.running)
            os.kill(lane.worker.pid, end)
            await until(lambda: lane.deaths == deaths)  # noqa: B023 - called before the loop goes on
        status, headers, body = await asked
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert "retry-after" in headers
        assert (await client.score(RED))[0] == 200

    serve(device, talk, wait_seconds=60.0)
