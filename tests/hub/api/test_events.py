"""Server-sent events: what kinds of things changed, told to everybody who waits, and nothing of what they are."""

import asyncio

import pytest

from farshore.core import documents
from farshore.core.errors import Unavailable
from farshore.hub.api import events
from farshore.hub.api.events import News


class Request:
    """What the route needs of one."""

    def __init__(self, hub, news, **headers) -> None:
        class State:
            pass

        self.app, self.headers = State(), headers
        self.app.state = State()
        self.app.state.hub, self.app.state.news = hub, news


def heard(hub, change, last=None, news=None):
    """What a reader is sent until ``change`` has been told of; the parts of the event."""

    async def read():
        answer = await events.events(
            Request(hub, news or News(), **({"last-event-id": str(last)} if last is not None else {}))
        )
        stream = answer.body_iterator
        assert await anext(stream) == b"retry: 2000\n\n"
        change()
        said = await anext(stream)
        await stream.aclose()
        return said

    return asyncio.run(read())


def test_what_changes_is_told_by_its_kind_alone(hub, pushed):
    said = heard(hub, lambda: pushed("secret-model"))
    serial, data = said.decode().strip().split("\n")
    assert serial.startswith("id: ") and b"secret" not in said
    assert "version" in documents.decode(data.removeprefix("data: ").encode(), dict, what="event")["kinds"]


def test_who_comes_back_is_told_what_they_missed(hub, pushed):
    pushed()
    assert b"version" in heard(hub, lambda: None, last=0)


def test_only_so_many_read_at_a_time(hub, monkeypatch):
    monkeypatch.setattr(events, "MAX_READERS", 1)
    news = News()
    news.readers = 1
    with pytest.raises(Unavailable):
        asyncio.run(events.events(Request(hub, news)))


def test_readers_are_counted_and_leave(hub, pushed):
    news = News()
    heard(hub, pushed, news=news)
    assert news.readers == 0


def test_a_closing_hub_ends_the_stream(hub):
    async def read():
        answer = await events.events(Request(hub, News()))
        stream = answer.body_iterator
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0.05)
        hub.bells.close()
        return await waiting

    assert asyncio.run(read()) is None


def test_it_needs_a_role(client):
    assert client.get("/v1/events").status_code == 401
