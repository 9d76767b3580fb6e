"""The hub as a process: routes over a :class:`Hub`, background work, and the HTTP server around it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farshore.core.errors import FarshoreError, Unavailable
from farshore.hub import acting, moments, studio
from farshore.hub.api import (
    access,
    device,
    door,
    events,
    fleet,
    iothub,
    layers,
    models,
    oidc,
    operators,
    pages,
    rollouts,
    service,
    trust,
)
from farshore.hub.api.door import Door, Endpoint
from farshore.hub.hub import ADMIN, Hub
from farshore.hub.iothub import door as device_door
from farshore.hub.settings import Settings
from farshore.tls import peer

log = logging.getLogger(__name__)

HEADER_MS = 10_000
BUFFER = 64 << 10
BACKLOG = 1024
OTHER_FILES = 512
"""Descriptors for all but requests that wait."""
TIDY_SECONDS = 3600.0
TICK_SECONDS = 1.0
REST_SECONDS = 30.0
ANSWER_SECONDS = 0.1
"""Time between the order to stop and the last connection's end: enough to answer those that wait."""
CERTIFICATE_SECONDS = 3600.0
"""Time between two looks at the certificate's age."""
ENDPOINTS = (
    *device.ENDPOINTS,
    *models.ENDPOINTS,
    *fleet.ENDPOINTS,
    *iothub.ENDPOINTS,
    *events.ENDPOINTS,
    *operators.ENDPOINTS,
    *oidc.ENDPOINTS,
    *rollouts.ENDPOINTS,
    *layers.ENDPOINTS,
    *trust.ENDPOINTS,
    *service.ENDPOINTS,
    *pages.ENDPOINTS,
)


class App:
    """The ASGI application.

    Args:
        hub: what it speaks for.
        closes: the hub is closed when the application's lifespan ends.

    """

    def __init__(self, hub: Hub, *, closes: bool = True) -> None:
        self.hub = hub
        inner = Starlette(
            routes=[*(_route(one) for one in ENDPOINTS), *studio.routes()],
            exception_handlers={
                FarshoreError: door.on_farshore_error,
                HTTPException: door.on_http_error,
                RecursionError: door.on_recursion,
                Exception: door.on_any_error,
            },
            lifespan=_lifespan,
        )
        inner.router.redirect_slashes = False
        inner.state.hub = hub
        inner.state.closes = closes
        inner.state.news = events.News()
        inner.state.studio = studio.Studio()
        inner.state.pages = pages.Pages(ENDPOINTS, hub.settings.url)
        self._door = Door(inner)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._door(scope, receive, send)


def create_app(settings: Settings, clock: moments.Clock = time.time) -> App:
    """Open a hub and put its API around it.

    Args:
        settings: of the hub.
        clock: tells the time.

    Raises:
        FarshoreError: as :class:`Hub`.

    """
    return App(Hub(settings, clock))


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then stop cleanly.

    Raises:
        FarshoreError: as :class:`Hub`; also when the address cannot be listened on.

    """
    os.umask(0o077)  # the database and the objects are their owner's, also in a folder that others may read
    _check_address(settings)
    asyncio.run(_serve(App(Hub(_with_descriptors(settings)), closes=False)))


async def _serve(app: App) -> None:
    """Serve until asked to stop; a certificate of the hub's own is made anew in time, and taken up by a new server."""
    hub, settings = app.hub, app.hub.settings
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    log.info("hub on %s: open it in a browser; API page at /docs", settings.url)
    _tell_protection(hub)
    await asyncio.to_thread(_tell_first_operator, hub)
    try:
        while not asked.is_set():
            hub.bells.open()
            server = _server(app)
            ending = asyncio.create_task(_end(hub, server, asked))
            try:
                await server.serve()
            finally:
                ending.cancel()
            if not asked.is_set() and not hub.certificate_is_due():
                raise Unavailable("the HTTP server ended by itself: start the hub again")
            hub.renew_certificate()
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"cannot listen on {settings.host}:{settings.port}: {error}") from error
    finally:
        hub.close()


async def _end(hub: Hub, server: Server, asked: asyncio.Event) -> None:
    """End the server when that is asked for, or its certificate is to be renewed."""
    while not asked.is_set() and not hub.certificate_is_due():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), CERTIFICATE_SECONDS)
    hub.bells.close()  # those that wait for news get their answer now
    await asyncio.sleep(ANSWER_SECONDS)
    asyncio.get_running_loop().call_soon(server.stop)


def _server(app: App) -> Server:
    settings, own = app.hub.settings, app.hub.authority
    certificate = own.certificate if own else Path(settings.certificate) if settings.certificate else None
    key = own.key if own else Path(settings.certificate_key) if settings.certificate_key else None
    return Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=settings.held + BACKLOG,  # those that wait must never keep out those they wait for
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MS, max_buffer_size=BUFFER),
        log_enabled=False,
        ssl_cert=certificate,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls13,
        ssl_ca=Path(settings.client_ca) if settings.client_ca else None,
        ssl_client_verify=bool(settings.client_ca),
    )


def _tell_first_operator(hub: Hub) -> None:
    settings = hub.settings
    if settings.development:
        log.info("development: the operator of this machine has a token in %s", settings.data / ADMIN)
    if settings.new_admin or not settings.development:
        secret = hub.operators.first_link(anew=settings.new_admin)
        if secret is not None:
            log.warning("the admin chooses a password here, once, within a day:\n\n  %s\n", hub.setup_link(secret))


def _tell_protection(hub: Hub) -> None:
    settings = hub.settings
    if hub.authority is not None:
        log.info(
            "its own certificate authority: fingerprint %s, good for %s",
            hub.authority.pin,
            ", ".join(settings.reached_by),
        )
    elif not settings.certificate and not peer.is_loopback(settings.host):
        log.warning("plain HTTP beyond this machine: whoever is on the network reads and changes what is said")


def _with_descriptors(settings: Settings) -> Settings:
    """As many may wait as the process may have connections; it asks for as many as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.held + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings
    held = max(soft - OTHER_FILES, 0)
    log.warning("only %d requests may wait at a time: the limit of open files is %d", held, soft)
    return replace(settings, held=held)


def _check_address(settings: Settings) -> None:
    """Fail with one clear line before anything is opened; the server would fail later, in a thread of its own."""
    for port in filter(None, (settings.port, settings.iothub_port, settings.iothub_websocket_port)):
        try:
            found = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)
            with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(found[0][4])
        except OSError as error:
            reason = error.strerror or error
            raise Unavailable(f"cannot listen on {settings.host}:{port}: {reason}; choose another") from error


def _route(one: Endpoint) -> Route:
    async def answer(request: Request) -> Response:
        acting.now.set(None)
        if one.who == "service":
            return await service.entrance.answer(one, request)
        if one.who != "operator":
            return await one.handler(request)
        await access.admit(request, one.method, one.path)
        done = await one.handler(request)
        await access.note(request, one.method, one.path)
        return done

    return Route(one.path, answer, methods=[one.method], name=one.handler.__name__)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    hub: Hub = app.state.hub
    loop = asyncio.get_running_loop()

    def ring() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(hub.bells.ring_all)

    def tick() -> None:
        if hub.rollouts.tick():
            ring()

    hub.fleet.moved = ring
    work = [
        asyncio.create_task(_now_and_then(hub, tick, TICK_SECONDS)),
        asyncio.create_task(_now_and_then(hub, hub.fleet.flush_seen, hub.settings.seen_seconds)),
        asyncio.create_task(_now_and_then(hub, hub.connected.flush, hub.settings.seen_seconds)),
        asyncio.create_task(_now_and_then(hub, hub.tidy, TIDY_SECONDS)),
        asyncio.create_task(_now_and_then(hub, hub.tryouts.rest, REST_SECONDS)),
    ]
    try:
        async with device_door.opened(hub):
            yield
            hub.bells.close()
    finally:
        hub.bells.close()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        if app.state.closes:
            await asyncio.to_thread(hub.close)


async def _now_and_then(hub: Hub, work: Any, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await hub.long_work(work)
        except FarshoreError as error:  # the disk may be full for a while: the next round does it
            log.warning("background work: %s", error.message)
