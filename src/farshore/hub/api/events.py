"""The operator API's events: news without asking again and again, as server-sent events.

What is sent says only what kind of thing changed (``device``, ``rollout``, …): what it is now, each reader asks with the role that
they have.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from farshore.core import documents
from farshore.core.errors import Unavailable
from farshore.hub.api.door import Endpoint
from farshore.hub.bells import Bells
from farshore.hub.hub import Hub
from farshore.hub.records import changes

MAX_READERS = 256
PAUSE_SECONDS = 1.0
"""Between two looks at the feed; what happens meanwhile is one event."""
ALIVE_SECONDS = 15.0
"""Silence after which a comment is sent, so that neither side keeps a connection that has died."""
SESSION_SECONDS = 300.0
"""After so long the stream ends, and its reader, who comes back by itself, is asked anew who they are."""
LINES = 1000
BELL = ""
"""Of those who read events; no device has this name."""


class News:
    """The end of the change feed, read at most once in :data:`PAUSE_SECONDS` however many want to know."""

    def __init__(self) -> None:
        self.readers = 0
        self._lock = asyncio.Lock()
        self._read = -PAUSE_SECONDS
        self._newest = 0

    async def newest(self, hub: Hub) -> int:
        """Serial of the last change."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._read >= PAUSE_SECONDS:
                self._newest = await hub.threads(_newest, hub)
                self._read = asyncio.get_running_loop().time()
            return self._newest


async def events(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    news: News = request.app.state.news
    if news.readers >= MAX_READERS or hub.bells.closed:
        raise Unavailable(f"{MAX_READERS} read events already: ask again in a while")
    given = request.headers.get("last-event-id", "")
    last = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else await hub.threads(_newest, hub)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(hub, news, last), headers=headers, media_type="text/event-stream")


async def _stream(hub: Hub, news: News, last: int) -> AsyncIterator[bytes]:
    """Events behind the serial ``last``."""
    news.readers += 1
    loop = asyncio.get_running_loop()
    end, spoke = loop.time() + SESSION_SECONDS, loop.time()
    try:
        yield b"retry: 2000\n\n"
        while loop.time() < end and not hub.bells.closed:
            newest = await news.newest(hub)
            if newest != last:
                kinds = await hub.threads(_kinds, hub, last)
                last, spoke = newest, loop.time()
                yield b"id: %d\ndata: %b\n\n" % (last, documents.canonical({"kinds": kinds}))
            elif loop.time() - spoke >= ALIVE_SECONDS:
                spoke = loop.time()
                yield b": here\n\n"
            await _pause(hub.bells)
    finally:
        news.readers -= 1


async def _pause(bells: Bells) -> None:
    """Wait a moment, or until the hub closes."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PAUSE_SECONDS
    with bells.listen(BELL) as bell:
        while (left := end - loop.time()) > 0 and not bells.closed:
            if bell is None:
                await asyncio.sleep(left)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), left)
            bell.clear()


def _newest(hub: Hub) -> int:
    with hub.database.reading() as tx:
        return changes.newest(tx)


def _kinds(hub: Hub, after: int) -> list[str]:
    with hub.database.reading() as tx:
        found = changes.after(tx, after, LINES)
    return sorted({one.kind.partition(".")[0] for one in found})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/events",
        events,
        "What kinds of things change, as it happens (server-sent events)",
        gives=bytes,
    ),
)
