"""The loop without end: wires one device together and turns until told to stop."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farshore.agent import device, identity, patches
from farshore.agent.clock import Clock, SystemClock
from farshore.agent.download import Apply
from farshore.agent.identity import Identity
from farshore.agent.journal import Journal
from farshore.agent.link import Link
from farshore.agent.manifests import Manifests
from farshore.agent.pace import Pace
from farshore.agent.renewal import RenewingLink
from farshore.agent.report import Reporter
from farshore.agent.runtime import NoRuntime, Runtime, SocketRuntime
from farshore.agent.seed import SeededLink
from farshore.agent.settings import Settings
from farshore.agent.site import Site
from farshore.agent.state import Device
from farshore.agent.steps import Hands
from farshore.agent.trust import Trust
from farshore.agent.turn import Agent
from farshore.core.errors import Conflict, FarshoreError
from farshore.store import files
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

log = logging.getLogger(__name__)


def run(settings: Settings, *, once: bool = False) -> None:
    """Be this device's agent until stopped by Ctrl-C or SIGTERM.

    Args:
        settings: of this device.
        once: do all that can be done now, then return; for cron and tests.

    Raises:
        NotFound: not enrolled.
        Conflict: another agent runs in this folder.
        Invalid: settings or identity are unusable.

    """
    who = identity.load(settings)
    apply = patches.apply if patches.usable() else None
    with _alone(settings), _stoppable():
        link = _link(settings, who)
        agent = build(settings, who, link, SystemClock(), random.Random(), apply=apply)  # noqa: S311 - jitter
        log.info("agent of %s, hub %s", who.device, settings.hub or who.hub)
        try:
            _go(agent, once=once)
        except KeyboardInterrupt:
            log.info("stopped")
        finally:
            agent.stop()
            link.close()


def build(
    settings: Settings, who: Identity, link: Link, clock: Clock, chance: random.Random, *,
    runtime: Runtime | None = None, apply: Apply | None = None,
) -> Agent:  # fmt: skip
    """An agent over the given far sides.

    Args:
        settings: of this device.
        who: its identity.
        link: to its hub.
        clock: time.
        chance: for jitter.
        runtime: what runs the versions; by the settings if None.
        apply: decodes patches.

    """
    files.make_folder(settings.folder)
    files.sweep(settings.folder)
    slots = Slots(settings.root)
    if runtime is None:
        runtime = NoRuntime(slots) if settings.serve == "none" else SocketRuntime(settings.root, settings.probe)
    facts = Device(device.memory(), device.machine(), settings.quota, settings.keep_free, settings.trial)
    journal = Journal(settings.folder / "journal.json")
    site = Site(
        settings=settings,
        device=facts,
        blobs=Blobs(settings.root / "blobs"),
        slots=slots,
        journal=journal,
        manifests=Manifests(settings.folder / "manifests"),
        trust=Trust(
            settings.folder / "trust",
            who.device,
            who.root.encode(),
            clock,
            asks=settings.link == "hub" or bool(settings.classic),
        ),
        link=link,
        runtime=runtime,
        clock=clock,
        pace=Pace(settings.rate, clock, journal),
    )
    return Agent(
        site, Hands(site, apply), Reporter(settings.folder / "reported.json", f"{chance.getrandbits(64):016x}"), chance
    )


def _link(settings: Settings, who: Identity) -> Link:
    link: Link
    if settings.link == "azure":
        from farshore.agent import azure_link  # noqa: PLC0415 - whoever speaks to a hub needs no SDK

        link = azure_link.open_link(settings)
    else:
        link = RenewingLink(identity.open_link(settings, who), settings, who, device.boot())
    return link if settings.seed is None else SeededLink(link, settings.seed)


def _go(agent: Agent, *, once: bool) -> None:
    """Turn after turn. No error ends this: what may pass will pass, and what will not is in the log and in the report."""
    started = False
    while True:
        try:
            if not started:
                agent.start(device.boot())
                started = True
            if not agent.turn(hold=not once) and once:
                return
        except FarshoreError as error:
            log.warning("%s", error.message)
            if once:
                raise
            agent.stumble()
        except Exception:
            log.exception("unexpected error; going on")
            if once:
                raise
            agent.stumble()


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the folder against a second agent, which would undo what the first does. A killed agent's hold is gone with it."""
    path = settings.folder / "lock"
    with files.translated(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another agent runs in {settings.root}: stop it first") from None
        yield
    finally:
        os.close(fd)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM stop the agent as Ctrl-C does: at once, wherever it is. It must survive worse."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
