"""Several models in one memory: what nobody asks for sleeps, and wakes when somebody does."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import Client, Device, picture, serve, until
from .test_model import Load, worker_pids

pytestmark = pytest.mark.usefixtures("same_size")
RED = picture((255, 51, 0))
ONE = 72 << 20
"""Room for one worker as it is estimated (64 MB and three times the model), not for two as they turn out to be (48 MB each)."""


def three(device: Device) -> None:
    for name in ("a", "b", "c"):
        device.colours(1, model=name, activate=True)


async def ask(client: Client, name: str) -> int:
    return (await client.score(RED, f"?model={name}"))[0]


def test_the_one_asked_longest_ago_makes_room(device: Device) -> None:
    three(device)

    async def talk(client: Client) -> None:
        await client.ready()
        pool = client.server.pool
        assert len(worker_pids()) == 1, "one fits; the others wait until somebody asks"
        for name in ("a", "b", "c", "b", "a"):
            assert await ask(client, name) == 200
            assert not pool.models[name].asleep
            await until(lambda: len(worker_pids()) == 1)
        assert [name for name, model in pool.models.items() if not model.asleep] == ["a"]
        assert (await client.get("/readyz"))[0] == 200, "who sleeps is ready: it answers when it is asked"

    serve(device, talk, memory=ONE, wait_seconds=60.0)


def test_who_sleeps_tells_its_signature_and_sleeps_on(device: Device) -> None:
    """Clients of the Open Inference Protocol ask for it before they ask anything else."""
    three(device)

    async def talk(client: Client) -> None:
        await client.ready()
        pool = client.server.pool
        assert await ask(client, "b") == 200
        await until(lambda: pool.models["a"].asleep and len(worker_pids()) == 1)
        for name in ("a", "c"):  # one has answered before, the other never was loaded
            for version in ("", "/versions/1"):
                address = f"/v2/models/{name}{version}"
                status, _, told = await client.get(address)
                assert (status, told["versions"]) == (200, ["1"])
                assert [(each["name"], each["shape"]) for each in told["inputs"]] == [("x", [1, 3, 16, 16])]
                assert (await client.get(f"{address}/config"))[2]["input"][0]["dims"] == [1, 3, 16, 16]
                assert (await client.get(f"{address}/ready"))[0] == 200
            assert (await client.get(f"/v2/models/{name}/versions/2"))[0] == 404
            assert pool.models[name].asleep
        assert len(worker_pids()) == 1

    serve(device, talk, memory=ONE, wait_seconds=60.0)


def test_a_model_tells_its_signature_while_it_loads_and_none_when_it_cannot(device: Device) -> None:
    device.colours(1, activate=True)
    device.colours(1, model="broken", data=b"not a model at all", activate=True)

    async def talk(client: Client) -> None:
        assert (await client.get("/v2/models/colours"))[0] == 200
        lane = client.server.pool.models["broken"].lane(client.server.pool.slots.current("broken").digest)
        await until(lambda: lane.broken)
        status, _, body = await client.get("/v2/models/broken")
        assert (status, "cannot be loaded" in body["error"]) == (503, True)

    serve(device, talk)


def test_who_was_asked_last_stays_where_there_is_room_for_some(device: Device) -> None:
    three(device)

    async def talk(client: Client) -> None:
        await client.ready()
        pool = client.server.pool
        assert [await ask(client, name) for name in ("a", "b", "a", "c")] == [200] * 4
        # What a worker really holds is less than its estimate; so two fit, and not three.
        await until(lambda: pool.models["b"].asleep)
        assert not pool.models["a"].asleep
        assert not pool.models["c"].asleep

    serve(device, talk, memory=116 << 20, wait_seconds=60.0)


def test_a_pinned_model_stays_and_the_other_is_told(device: Device) -> None:
    three(device)

    async def talk(client: Client) -> None:
        await client.ready()
        assert await ask(client, "a") == 200
        status, headers, body = await client.score(RED, "?model=b")
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert headers["retry-after"]
        assert await ask(client, "a") == 200

    serve(device, talk, memory=ONE, pins=("a",), wait_seconds=1.0)


def test_many_clients_of_models_that_take_turns_all_get_answers(device: Device) -> None:
    three(device)

    async def talk(client: Client) -> None:
        await client.ready()
        for _ in range(3):
            answers = await asyncio.gather(*(ask(client, name) for name in "abcabc"))
            assert set(answers) == {200}

    serve(device, talk, memory=ONE, wait_seconds=60.0)


def test_an_update_of_one_model_sends_another_to_sleep_for_a_moment(device: Device) -> None:
    device.colours(1, model="other", activate=True)
    device.colours(1, activate=True)
    two = device.colours(2, cases=(device.case(RED, {"classes": [{"class": "red2"}]}),))

    async def talk(client: Client) -> None:
        await client.ready()
        assert await ask(client, "other") == 200
        load = Load(client, query="?model=colours")
        await until(lambda: load.statuses[200] > 3)
        _, probe = await client.order("probe", "colours", two)
        assert probe["ok"], probe
        assert (await client.order("switch", "colours", two))[0] == 200
        await load.end()
        assert set(load.statuses) == {200}
        assert await ask(client, "other") == 200

    serve(device, talk, memory=ONE, wait_seconds=60.0)
