"""A candidate in the shadow: it is asked what clients ask, compared, and nobody else ever notices it."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import msgspec
import numpy as np
import pytest
from onnx import numpy_helper

from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.errors import Corrupt
from farshore.serve.frames import Compared, decode
from farshore.serve.memory import estimate

from .conftest import (
    Client,
    Device,
    colours_model,
    colours_variant,
    heavy_model,
    picture,
    read_response,
    serve,
    trap_model,
    until,
)
from .test_model import Load

LABELS = "red\ngreen\nblue\n"
RED, GREEN, GREY, BLUE = (picture(colour) for colour in ((255, 51, 0), (0, 255, 51), (90, 91, 92), (0, 0, 255)))


def swapped() -> bytes:
    """A model that takes green for blue and blue for green."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(colours_model())
    model.graph.node[-1].output[0] = "straight"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 1], np.int64), "order"))
    model.graph.node.append(helper.make_node("Gather", ["straight", "order"], ["scores"], axis=1))
    return model.SerializeToString()


def two(device: Device, data: bytes | None = None) -> str:
    device.colours(1, names=LABELS, activate=True)
    return device.colours(2, names=LABELS, data=data)


async def cast(client: Client, digest: str, share: float = 1.0, model: str = "colours") -> tuple[int, dict]:
    body = json.dumps({"digest": digest, "share": share}).encode()
    reader, writer = await asyncio.open_unix_connection(str(client.server.settings.socket))
    writer.write(
        f"POST /control/models/{model}/shadow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    status, _, answer = await read_response(reader)
    writer.close()
    return status, answer


async def candidate(client: Client, model: str = "colours") -> Serving | None:
    return msgspec.convert(await client.status(), Status).models.get(model, ModelStatus()).candidate


async def shown(client: Client, compared: int) -> Serving:
    """What the shadow has shown, once that many answers were compared."""
    async with asyncio.timeout(60):
        while True:
            found = await candidate(client)
            if found is not None and found.compared >= compared:
                return found
            await asyncio.sleep(0.01)


async def slowly(client: Client, *pictures: bytes) -> None:
    """Ask, and wait until the shadow has looked at each."""
    for number, sent in enumerate(pictures, 1):
        assert (await client.score(sent))[2]["version"] == 1
        await shown(client, number)


def test_a_worse_candidate_is_found_out_by_real_requests(device: Device) -> None:
    digest = two(device, swapped())

    async def talk(client: Client) -> None:
        await client.ready()
        assert (await client.order("probe", "colours", digest))[1]["ok"]
        assert await cast(client, digest) == (200, {})
        await slowly(client, RED, GREEN, RED, GREEN)
        found = await candidate(client)
        assert (found.compared, found.agreed, found.requests, found.errors, found.share) == (4, 2, 4, 0, 1.0)
        assert sorted(found.sketch.classes) == [("blue", 0, 2), ("green", 2, 0), ("red", 2, 2)]
        assert sum(found.sketch.before) == sum(found.sketch.after) == 4
        assert found.seconds > 0

    serve(device, talk)


def test_one_that_says_the_same_agrees_and_may_take_over(device: Device) -> None:
    digest = two(device)

    async def talk(client: Client) -> None:
        await client.ready()
        await client.order("probe", "colours", digest)
        await cast(client, digest)
        await cast(client, digest)  # asked twice: it goes on
        await slowly(client, RED, GREEN, GREY)
        found = await candidate(client)
        assert (found.compared, found.agreed) == (3, 3)
        _, _, metrics = await client.get("/metrics")
        labels = b'{model="colours",version="2"} '
        for line in (b"compared" + labels + b"3", b"agreed" + labels + b"3", b"missed" + labels + b"0"):
            assert b"\nfarshore_shadow_" + line + b"\n" in metrics
        assert (await client.order("switch", "colours", digest))[0] == 200
        assert (await client.score(RED))[2]["version"] == 2
        assert await candidate(client) is None
        assert client.server.pool.models["colours"].shadow is None

    serve(device, talk)


def test_one_that_does_not_stand_warm_is_loaded_beside(device: Device) -> None:
    digest = two(device)

    async def talk(client: Client) -> None:
        await client.ready()
        assert await cast(client, digest, 0.5) == (200, {})
        found = await candidate(client)
        assert (found.ready, found.share, found.version) == (True, 0.5, 2)
        assert await cast(client, digest, 0) == (200, {})
        assert (await candidate(client)).share == 0

    serve(device, talk)


def test_a_share_is_a_share(device: Device) -> None:
    digest = two(device)

    async def talk(client: Client) -> None:
        await client.ready()
        await cast(client, digest, 0.2)
        shadow = client.server.pool.models["colours"].shadow
        for _ in range(300):
            await client.score(RED)
        assert 20 <= shadow.compared + shadow.missed + 2 <= 120

    serve(device, talk)


def test_under_load_nobody_fails_and_what_is_too_much_is_not_compared(device: Device) -> None:
    device.colours(1, activate=True)
    digest = device.colours(2, data=colours_model(work=12))

    async def talk(client: Client) -> None:
        await client.ready()
        await client.order("probe", "colours", digest)
        await cast(client, digest)
        load = Load(client, 4)
        found = await shown(client, 5)
        await load.end()
        assert set(load.statuses) == {200}
        assert set(load.versions) == {1}
        assert not load.mixed
        shadow = client.server.pool.models["colours"].shadow
        assert shadow.missed > 0
        assert found.agreed == 0  # their class names differ: red1, red2

    serve(device, talk)


def test_pinned_and_drawn_answers_are_not_compared(device: Device) -> None:
    digest = two(device)

    async def talk(client: Client) -> None:
        await client.ready()
        await cast(client, digest)
        assert (await client.score(RED, "?version=1"))[0] == 200
        assert (await client.score(RED, "?version=2"))[2]["version"] == 2
        assert (await client.ask("POST", "/score", RED, {"Accept": "image/png"}))[0] == 200
        assert (await client.score(b"nonsense"))[0] == 400
        await client.score(GREEN)
        assert (await shown(client, 1)).requests == 1

    serve(device, talk)


def test_a_shadow_that_dies_is_counted_and_harms_nobody(device: Device) -> None:
    digest = two(device)

    async def talk(client: Client) -> None:
        await client.ready()
        pool = client.server.pool
        for deaths in (1, 2, 3):
            assert (await cast(client, digest))[0] == 200
            os.kill(pool.models["colours"].lanes[digest].worker.pid, signal.SIGKILL)
            await until(lambda: pool.models["colours"].lanes[digest].worker is None)
            found = await candidate(client)
            assert (found.crashes, found.ready) == (deaths, False)
            assert (await client.score(RED))[2]["version"] == 1

    serve(device, talk)


def test_a_picture_that_its_shadow_hangs_over_costs_the_shadow_alone(device: Device) -> None:
    digest = two(device, trap_model(16))

    async def talk(client: Client) -> None:
        await client.ready()
        assert (await cast(client, digest))[0] == 200
        shadow = client.server.pool.models["colours"].shadow
        assert (await client.score(BLUE))[2]["version"] == 1
        await until(lambda: shadow.lane.deaths == 1)
        assert (await client.score(BLUE))[2]["version"] == 1

    serve(device, talk, hang_seconds=0.2)


def test_a_shadow_that_fails_where_the_other_answers_is_counted(device: Device) -> None:
    digest = two(device, trap_model(16))

    async def talk(client: Client) -> None:
        await client.ready()
        await cast(client, digest)
        assert (await client.score(picture((255, 0, 0))))[2]["version"] == 1
        await until(lambda: client.server.pool.models["colours"].shadow.errors == 1)
        found = await candidate(client)
        assert (found.requests, found.errors, found.compared) == (1, 1, 0)

    serve(device, talk)


def test_without_room_for_both_it_is_refused_and_what_answers_stays(device: Device) -> None:
    device.colours(1, names=LABELS, data=heavy_model(24), activate=True)
    digest = device.colours(2, names=LABELS, data=heavy_model(24))

    async def talk(client: Client) -> None:
        await client.ready()
        status, answer = await cast(client, digest)
        assert (status, answer["error"]["code"]) == (409, "conflict")
        assert "memory" in answer["error"]["message"]
        assert (await client.score(RED))[2]["version"] == 1
        assert (await candidate(client)).ready is False

    serve(device, talk, memory=180 << 20)


def test_a_shadow_makes_room_for_a_model_that_is_asked_for(device: Device) -> None:
    device.colours(1, names=LABELS, data=heavy_model(24), activate=True)
    digest = device.colours(2, names=LABELS, data=heavy_model(24))

    async def talk(client: Client) -> None:
        await client.ready()
        pool = client.server.pool
        assert (await cast(client, digest))[0] == 200
        device.slots.activate(
            "other", device.install("other", 1, colours_variant(device.blobs, heavy_model(24), LABELS))
        )
        enough = (
            pool.models["colours"].leader.need + estimate(24 << 20) + (8 << 20)
        )  # for either, and not for the shadow
        object.__setattr__(pool.settings, "memory", enough)
        pool.model("other").begin(device.slots.current("other"), None)
        status, _, answer = await client.score(RED, "?model=other")
        assert (status, answer["model"]) == (200, "other")
        assert (await candidate(client)).ready is False
        assert (await client.score(RED, "?model=colours"))[2]["version"] == 1

    serve(device, talk)


def test_orders_that_make_no_sense_are_refused(device: Device) -> None:
    digest = two(device)

    async def talk(client: Client) -> None:
        await client.ready()
        first = device.slots.current("colours").digest
        for target, share, code in (
            (first, 1.0, "conflict"),
            ("sha256:" + "0" * 64, 1.0, "not_found"),
            (digest, 1.5, "invalid"),
        ):
            _, answer = await cast(client, target, share)
            assert answer["error"]["code"] == code
        assert (await cast(client, digest, model="unknown"))[0] == 404
        await cast(client, digest)
        third = device.colours(3, names=LABELS)
        await cast(client, third)  # another one takes its place
        found = await candidate(client)
        assert (found.version, found.share) == (3, 1.0)
        await client.order("drop", "colours", third)
        assert await candidate(client) is None
        assert client.server.pool.models["colours"].shadow is None

    serve(device, talk)


@pytest.mark.parametrize("share", [1.1, -0.1, float("nan")])
def test_a_worker_that_a_model_took_over_cannot_agree_more_than_wholly(share: float) -> None:
    message = msgspec.msgpack.encode(["compared", 1, 200, share, [], []])
    with pytest.raises(Corrupt):
        decode(message)
    assert decode(msgspec.msgpack.encode(Compared(1, 200, 1.0))) == Compared(1, 200, 1.0)
