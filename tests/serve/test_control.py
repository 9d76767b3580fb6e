"""The control door: what the agent asks, and what it is told when that cannot be."""

from __future__ import annotations

import asyncio
import json

import msgspec

from farshore.core.control import Status

from .conftest import Client, Device, picture, read_response, serve, until


async def ask(client: Client, method: str, path: str, body: bytes = b"") -> tuple[int, dict]:
    reader, writer = await asyncio.open_unix_connection(str(client.server.settings.socket))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    status, _, answer = await read_response(reader)
    writer.close()
    return status, answer


def test_status_is_what_the_agent_reads(device: Device) -> None:
    digest = device.colours(4, activate=True)

    async def talk(client: Client) -> None:
        await client.ready()
        for sent in (picture((1, 2, 3)), b"nonsense"):
            await client.score(sent)
        _, answer = await ask(client, "GET", "/control/models")
        status = msgspec.convert(answer, Status)
        assert status.runtimes == ("litert",)
        serving = status.models["colours"].serving
        assert serving is not None
        assert (serving.digest, serving.version, serving.requests, serving.errors, serving.ready) == (
            digest,
            4,
            2,
            0,
            True,
        )
        assert serving.seconds >= 0
        assert serving.latency == 0  # two requests say nothing yet
        assert serving.memory > 10_000_000  # a process with a runtime
        assert status.models["colours"].candidate is None
        for _ in range(12):
            await client.score(picture((1, 2, 3)))
        _, answer = await ask(client, "GET", "/control/models")
        serving = msgspec.convert(answer, Status).models["colours"].serving
        assert serving is not None
        assert 0 < serving.latency < 30

    serve(device, talk, runtimes=("litert",))


def test_what_is_not_understood_is_told(device: Device) -> None:
    digest = device.colours(1, activate=True)
    target = json.dumps({"digest": digest}).encode()

    async def talk(client: Client) -> None:
        for method, path, body, status in (
            ("GET", "/", b"", 404),
            ("GET", "/score", b"", 404),
            ("POST", "/control/models", b"", 405),
            ("GET", "/control/models/colours/probe", b"", 405),
            ("POST", "/control/models/colours/destroy", target, 404),
            ("POST", "/control/models/colours/a/probe", target, 404),
            ("POST", "/control/models/..%2fcolours/probe", target, 400),
            ("POST", "/control/models/Colours/probe", target, 400),
            ("POST", "/control/models/other/probe", target, 404),
            ("POST", "/control/models/colours/probe", b"", 400),
            ("POST", "/control/models/colours/probe", b"[]", 400),
            ("POST", "/control/models/colours/probe", b'{"digest": "../../etc"}', 400),
            ("POST", "/control/models/colours/switch", b" " * (1 << 17), 413),
            ("POST", "/control/models/other/drop", target, 200),
        ):
            found, answer = await ask(client, method, path, body)
            assert found == status, (path, answer)
            if status != 200:
                assert set(answer["error"]) == {"code", "message"}
        assert set(client.server.pool.models) == {"colours"}

    serve(device, talk)


def test_an_order_is_carried_out_though_who_gave_it_is_gone(device: Device) -> None:
    device.colours(1, activate=True)
    two = device.colours(2)

    async def talk(client: Client) -> None:
        await client.ready()
        _, writer = await asyncio.open_unix_connection(str(client.server.settings.socket))
        body = json.dumps({"digest": two}).encode()
        writer.write(
            f"POST /control/models/colours/switch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()
        model = client.server.pool.models["colours"]
        await until(lambda: model.leader is not None and model.leader.installed.version == 2)

    serve(device, talk)


def test_orders_for_one_model_follow_each_other(device: Device) -> None:
    one, two = device.colours(1, activate=True), device.colours(2)

    async def talk(client: Client) -> None:
        await client.ready()
        answers = await asyncio.gather(*(client.order("switch", "colours", digest) for digest in (two, one, two, one)))
        assert [(status, body["digest"]) for status, body in answers] == [
            (200, two),
            (200, one),
            (200, two),
            (200, one),
        ]
        assert (await client.score(picture((255, 0, 0))))[2]["version"] == 1

    serve(device, talk)


def test_a_model_whose_current_version_was_taken_away_is_let_go(device: Device) -> None:
    one = device.colours(1, activate=True)

    async def talk(client: Client) -> None:
        await client.ready()
        device.slots.clear_current("colours")
        assert (await client.order("drop", "colours", one))[0] == 200
        assert (await client.score(picture((255, 0, 0))))[0] == 503
        await until(lambda: not client.server.pool.models["colours"].lanes)
        assert (await client.get("/v1/models"))[2] == {"models": []}

    serve(device, talk)
