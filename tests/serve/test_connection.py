"""The door itself, byte by byte: limits, time-outs, pipelining, and requests that could be understood in two ways."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from farshore.core.errors import Invalid
from farshore.serve.connection import MAX_AHEAD, Connections
from farshore.serve.http import MAX_HEAD, Refused, Response, failure
from farshore.serve.intake import Intake
from farshore.serve.settings import Settings

from .conftest import read_response, until


class Echo:
    """Answers with what it got; ``/slow`` when told to, ``/no`` not at all."""

    max_body = 100_000

    def __init__(self) -> None:
        self.slow: list = []
        self.refused: list = []
        self.padding = b""
        self.cancelled = 0

    def admit(self, request):
        if request.path == b"/no":
            raise Refused(Invalid("not wanted"))

    def refusal(self, path, headers, refused):
        self.refused.append(path)
        return failure(refused.error, status=refused.status, headers=refused.headers)

    def answer(self, request, reply):
        if request.path == b"/fault":
            raise RuntimeError("ours")
        if request.path == b"/slow":
            self.slow.append(reply)
            return self.cancel
        said = {
            "method": request.method,
            "path": request.path.decode(),
            "query": request.query.decode(),
            "size": request.size,
        }
        told = json.dumps({**said, "body": b"".join(request.body)[:50].decode("latin-1")}).encode()
        reply(Response(200, told + self.padding))
        return None

    def cancel(self) -> None:
        self.cancelled += 1


def talk(conversation, **settings):
    async def main(tmp="/nonexistent"):
        from pathlib import Path

        app = Echo()
        chosen = Settings(root=Path(tmp), **settings)
        home = Connections(app, chosen, Intake(chosen.max_buffered))
        server = await asyncio.get_running_loop().create_server(home.connect, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def clock():
            while True:
                await asyncio.sleep(0.02)
                home.look()

        ticking = asyncio.create_task(clock())
        opened = []

        async def connect():
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            return opened[-1]

        try:
            async with asyncio.timeout(20):
                await conversation(connect, app, home)
        finally:
            ticking.cancel()
            server.close()
            for _, writer in opened:
                writer.close()
            await asyncio.sleep(0.01)
        assert home.intake.buffered == 0

    asyncio.run(main())


async def until_closed(reader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_follow_each_other_on_one_connection():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        for size in (0, 1, 70_000):
            writer.write(b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size)
            status, headers, body = await read_response(reader)
            assert (status, body["size"], body["path"], body["query"]) == (200, size, "/a", "b=c")
            assert "connection" not in headers

    talk(conversation)


def test_a_request_may_come_one_byte_at_a_time():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        for byte in b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_response(reader))[2]["body"] == "abc"

    talk(conversation)


def test_chunked_bodies():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
            + GET
        )
        assert (await read_response(reader))[2]["body"] == "abcde"
        assert (await read_response(reader))[2]["method"] == "GET"

    talk(conversation)


def test_expect_100_continue_is_met_only_for_what_is_taken():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head % (b"/", 3))
        assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await read_response(reader))[2]["body"] == "abc"
        for path, size, status in ((b"/no", 3, b"400"), (b"/", 200_000, b"413")):
            reader, writer = await connect()
            writer.write(head % (path, size))
            assert (await reader.readuntil(b"\r\n")).split(b" ")[1] == status

    talk(conversation)


def test_pipelined_requests_are_answered_in_order():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(MAX_AHEAD)))
        for number in range(MAX_AHEAD):
            assert (await read_response(reader))[2]["path"] == f"/{number}"
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        await until(lambda: app.slow)
        app.slow.pop()(Response(200, b"1"))
        assert (await read_response(reader))[2] == 1
        assert (await read_response(reader))[2]["path"] == "/"

    talk(conversation)


def test_sending_ahead_without_end_is_stopped():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 1000)
        await until(lambda: app.slow)
        app.slow.pop()(Response(200, b"1"))
        everything = await until_closed(reader)
        assert everything.count(b"HTTP/1.1 200") <= MAX_AHEAD + 1
        assert b"sent ahead" in everything

    talk(conversation)


BAD = [
    ("CL with TE", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE with CL", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("two equal lengths", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("negative length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n", 400),
    ("plus length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("length list", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    ("huge length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
    ("too large", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n", 413),
    ("gzip, chunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("xchunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("chunked in 1.0", b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    ("bad chunk", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 400),
    ("huge chunk", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    ("folded line", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    ("space before colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    ("version 3", b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 400),
    ("no version", b"GET /\r\n\r\n", 400),
    ("null in header", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
    ("compressed", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415),
    ("strange expectation", b"POST / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nContent-Length: 3\r\n\r\nabc", 417),
    ("long header", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * MAX_HEAD + b"\r\n\r\n", 431),
    ("long header that never ends", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 3 * MAX_HEAD, 431),
    ("many headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n", 431),
    ("long path", b"GET /" + b"a" * 2 * MAX_HEAD + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "status"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_cannot_be_understood_in_one_way_is_refused_and_the_connection_closed(sent, status):
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(sent + GET)
        found, headers, body = await read_response(reader)
        assert (found, headers["connection"]) == (status, "close")
        assert body["error"]["message"]
        assert await until_closed(reader) == b"", "nothing after it may be answered"

    talk(conversation)


def test_chunks_beyond_the_limit():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"2710\r\n" + b"z" * 10_000 + b"\r\n") * 11
        )
        assert (await read_response(reader))[0] == 413

    talk(conversation)


def test_a_body_of_framing_alone():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                writer.write(b"1;" + b"x" * 5000 + b"\r\nz\r\n")
                await writer.drain()
        assert (await read_response(reader))[0] == 400

    talk(conversation)


@pytest.mark.parametrize("sent", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab"])
def test_what_does_not_arrive_in_time_gets_408(sent):
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(sent)
        status, headers, _ = await read_response(reader)
        assert (status, headers["connection"]) == (408, "close")

    talk(conversation, header_seconds=0.1, body_seconds=0.1)


def test_drops_keep_no_header_alive():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        answer = asyncio.create_task(reader.readline())
        with contextlib.suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
                if answer.done():
                    break
        assert b"408" in await answer

    talk(conversation, header_seconds=0.2)


def test_idle_connections_are_closed():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(GET)
        await read_response(reader)
        assert await until_closed(reader) == b""

    talk(conversation, idle_seconds=0.1)


def test_an_old_client_gets_its_connection_closed():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        status, headers, _ = await read_response(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert await until_closed(reader) == b""

    talk(conversation)


def test_an_offer_of_another_protocol_is_ignored():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
        )
        status, _, body = await read_response(reader)
        assert (status, body["body"]) == (200, "abc")

    talk(conversation)


def test_head_gets_no_body():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: " in head
        assert (await read_response(reader))[2]["method"] == "GET"

    talk(conversation)


def test_a_client_that_goes_away_is_noticed():
    async def conversation(connect, app, home):
        _, writer = await connect()
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: app.slow)
        writer.close()
        await until(lambda: app.cancelled)
        app.slow.pop()(Response(200, b"1"))  # too late, and harmless
        await until(lambda: not (home.open))

    talk(conversation)


def test_too_many_connections_and_bytes_get_503():
    async def conversation(connect, app, home):
        await connect()
        await connect()
        reader, _ = await connect()
        assert (await read_response(reader))[0] == 503

    talk(conversation, connections=2)

    async def heavy(connect, app, home):
        doors = [await connect() for _ in range(3)]
        for _, writer in doors:
            writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"z" * 50_000)
            await asyncio.sleep(0.05)
        assert (await read_response(doors[2][0]))[0] == 503
        for reply in app.slow:
            reply(Response(200, b"1"))
        assert (await read_response(doors[0][0]))[0] == 200

    talk(heavy, max_buffered=120_000)


def test_a_client_that_never_reads_gets_no_further_answers():
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.transport.pause_reading()
        body = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + b"z" * 30_000
        app.padding = b" " * 50_000
        sent = 0

        async def flood():
            nonlocal sent
            while True:
                writer.write(body % sent)
                sent += 1
                await writer.drain()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                await flood()
        (connection,) = home.open
        held = connection._transport.get_write_buffer_size()
        assert held < 300_000, held
        # It starts to read: everything taken is answered, in order.
        writer.transport.resume_reading()
        for number in range(sent - 1):
            assert (await read_response(reader))[2]["path"] == f"/{number}"

    talk(conversation)


def test_a_client_that_never_reads_is_cut_off():
    async def conversation(connect, app, home):
        _, writer = await connect()
        writer.transport.pause_reading()
        app.padding = b" " * (8 << 20)
        writer.write(GET)
        await until(lambda: home.open)
        await until(lambda: not home.open)

    talk(conversation, idle_seconds=0.2)


def test_a_fault_of_ours_is_answered_and_the_connection_goes_on(caplog):
    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"GET /fault HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        status, _, body = await read_response(reader)
        assert (status, body["error"]["code"]) == (500, "internal")
        assert (await read_response(reader))[0] == 200

    talk(conversation)
    assert "RuntimeError: ours" in caplog.text


def test_clients_that_leave_while_they_are_answered_take_their_bytes_with_them():
    """What they sent counts against the limit no longer, or the door would be shut for good after enough of them."""

    async def conversation(connect, app, home):
        for left in range(1, 6):
            _, writer = await connect()
            writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"z" * 50_000)
            await until(lambda left=left: len(app.slow) == left)
            writer.transport.abort()
            await until(lambda left=left: app.cancelled == left)
            assert home.intake.buffered == 0
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"z" * 50_000)
        assert (await read_response(reader))[0] == 200

    talk(conversation, max_buffered=120_000)


def test_a_refusal_is_told_in_the_shape_of_its_own_address():
    """Also where an answer to another address came before it on the connection, and where there is no address at all."""

    async def conversation(connect, app, home):
        for sent, path in (
            (GET.replace(b"/ ", b"/no?a=b "), b"/no"),
            (b"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n", b"/big"),
            (b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", b"/two"),
            (b"\x00\x01", b""),
        ):
            reader, writer = await connect()
            writer.write(GET.replace(b"/ ", b"/before ") + sent)
            assert (await read_response(reader))[2]["path"] == "/before"
            assert 400 <= (await read_response(reader))[0] < 500
            assert app.refused.pop() == path
            assert await until_closed(reader) == b""

    talk(conversation)


@pytest.mark.parametrize(
    "behind", [GET, b"\x00nonsense", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]
)
def test_nothing_behind_the_last_request_is_answered(behind, caplog):
    """Also where all of it comes at once, so that the parser stumbles over it after the answer went out."""

    async def conversation(connect, app, home):
        reader, writer = await connect()
        writer.write(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + behind)
        assert (await read_response(reader))[2]["path"] == "/last"
        assert await until_closed(reader) == b""

    talk(conversation)
    assert caplog.records == []
