"""One turn of five verbs: read desired, read what is here, plan, act, report — and report also when the rest failed."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from farshore.agent import plan, steps
from farshore.agent.plan import Download, Hold, Step, Verdict
from farshore.agent.report import Reporter, reported
from farshore.agent.site import Site, survey
from farshore.agent.state import Local
from farshore.agent.steps import Hands
from farshore.core import wire
from farshore.core.control import COUNTED
from farshore.core.errors import FarshoreError, Invalid
from farshore.core.wire import Fault, SyncRequest
from farshore.store import files

log = logging.getLogger(__name__)

REPORT_GAP = 2.0
"""Seconds between two reports while there is work: what passes sooner is not worth its bytes."""

RETRY_FIRST, RETRY_MOST = 2.0, 600.0
"""Seconds after which a hub that does not answer is asked again: doubling from the first to the most, less up to half by chance."""


class Agent:
    """Brings one device to what is desired.

    Args:
        site: the device.
        hands: act on it.
        reporter: knows what the hub knows.
        chance: for jitter, so that a fleet does not come back all at once.

    """

    def __init__(self, site: Site, hands: Hands, reporter: Reporter, chance: random.Random) -> None:
        self._site, self._hands, self._reporter, self._chance = site, hands, reporter, chance
        self._synced = float("-inf")
        self._next_sync = float("-inf")
        self._sync_failures = 0
        self._stumbles = 0
        self._desired_fault: Fault | None = None
        self._refused: dict[str, Any] | None = None

    def start(self, boot: str) -> None:
        """What a start begins with: sweep up, count the machine's starts, check what is current, go back from what took the machine
        down. Then only does the inference server begin: it waits for the note of that.

        Args:
            boot: names this start of the machine; empty if unknown.

        """
        site = self._site
        site.slots.sweep()
        if site.journal.started(boot):
            steps.check_slots(site)
        note = site.settings.root / COUNTED
        if not note.exists() or note.read_bytes() != boot.encode():
            self._go_back()
            files.write_atomic(note, boot.encode())

    def _go_back(self) -> None:
        """Turn the links of versions that failed, as far as that goes without hub and inference server; the turns do the rest."""
        site = self._site
        local = survey(site, None)
        for verdict in plan.verdicts(site.journal.desired(), local, site.clock.now()).values():
            if isinstance(verdict, plan.RollBack):
                self._hands.perform(verdict, local)

    def stop(self) -> None:
        """Let go of what is open. Nothing has to be finished: the next start asks the same question again."""
        try:
            self._hands.let_go()
        except FarshoreError as error:
            log.warning("%s", error.message)

    def turn(self, *, hold: bool = True) -> bool:
        """Once around.

        Args:
            hold: with nothing to do, let the hub hold the sync, or sleep; else return at once, after a last word to a hub
                that answers: how soon it wants to be asked again is for agents that go on.

        Returns:
            Whether there is more to do right now.

        """
        site = self._site
        local, desired, now = (
            survey(site, self._hands.active, self._hands.reached),
            site.journal.desired(),
            site.clock.now(),
        )
        verdicts = plan.verdicts(desired, local, now)
        step = plan.choose(verdicts, desired, local)
        if not any(isinstance(verdict, Download) and verdict.digest == local.active for verdict in verdicts.values()):
            self._hands.let_go()  # desired changed, the window closed, or the disk filled up
        section = reported(desired, local, verdicts, self._desired_fault)
        change = None if section == self._refused else self._reporter.change(section)
        idle = None if step is not None else _idle(verdicts, now)
        last = not hold and idle is not None and self._sync_failures == 0
        if (last and change is not None) or self._sync_is_due(change, idle):
            seen, patience = site.journal.notes.seen, 0 if idle is None or not hold else min(idle, site.settings.wait)
            answered = self._sync(section, change, int(patience))
            if answered and (change or seen != site.journal.notes.seen):
                return True
        if step is not None:
            self._act(step, local)
            return True
        if hold and idle is not None:
            self._rest(idle)
        return False

    def stumble(self) -> None:
        """Something failed that has no pace of its own: wait a little before the next try, longer each time."""
        self._stumbles += 1
        self._site.clock.sleep(min(2.0**self._stumbles, 60.0))

    def _act(self, step: Step, local: Local) -> None:
        if self._hands.perform(step, local):
            self._stumbles = 0
        elif not plan.paced(step):
            self.stumble()

    def _sync_is_due(self, change: dict[str, Any] | None, idle: float | None) -> bool:
        """Whether the hub is to be asked now.

        Args:
            change: what there is to report.
            idle: seconds for which nothing else is to be done; None while there is work.

        """
        now = self._site.clock.monotonic()
        if now < self._next_sync:
            return False
        since, poll = now - self._synced, self._site.settings.poll
        if since >= poll:
            return True
        if idle is None:
            return change is not None and since >= REPORT_GAP
        return change is not None or idle >= poll

    def _sync(self, section: dict[str, Any], change: dict[str, Any] | None, patience: int) -> bool:
        """One round trip: report what changed, hear what is desired. Whether the hub answered."""
        site, asked, quiet = self._site, self._site.clock.monotonic(), change is None
        try:
            if change is not None:
                self._reporter.sending(change)
            # A second at least, also where nothing is held: it tells the hub that this device comes back by itself.
            nonce = site.trust.ask()
            counted = {} if change is None else {"series": self._reporter.series, "number": self._reporter.number}
            seen, held = site.journal.notes.seen, site.trust.held()
            reply = site.link.sync(SyncRequest(seen, change, max(patience, 1), nonce, held, **counted))  # type: ignore[arg-type]
            if change is not None:
                self._reporter.accepted(section)
            change = None  # the hub has it, whatever its answer is worth
            site.trust.hear(nonce, reply.trust, reply.desired, self._meant(reply.desired))
        except FarshoreError as error:
            if isinstance(error, Invalid) and change is not None:
                self._refused = section  # what the hub refuses to hear must not keep us from hearing
            self._sync_failures += 1
            delay = min(RETRY_FIRST * 2.0 ** min(self._sync_failures - 1, 20), RETRY_MOST) * self._chance.uniform(
                0.5, 1.0
            )
            self._next_sync = site.clock.monotonic() + delay
            log.warning("sync: %s; again in %.0f s", error.message, delay)
            return False
        self._synced = site.clock.monotonic()
        self._sync_failures = 0
        unheld = quiet and patience > 1 and self._synced - asked < patience / 2
        away = max(reply.retry, site.settings.poll if unheld else 0.0)
        self._next_sync = self._synced + (
            away if reply.desired is None else 0.0
        )  # after news there is something to say
        if reply.desired is not None:
            self._accept(reply.desired)
        return True

    def _meant(self, desired: dict[str, Any] | None) -> list[str]:
        """The models that are desired after a reply: those whose publishers matter."""
        try:
            return list((self._site.journal.desired() or {}) if desired is None else wire.desired_models(desired))
        except Invalid:
            return list(self._site.journal.desired() or {})

    def _accept(self, desired: dict[str, Any]) -> None:
        version = desired.get("$version")
        seen = version if isinstance(version, int) and version >= 0 else 0
        try:
            self._site.journal.accept(desired, seen)
            self._desired_fault = None
            models = self._site.journal.desired() or {}
            log.info(
                "desired %d: %s",
                seen,
                ", ".join(f"{name}@{want.version}" for name, want in models.items()) or "no models",
            )
        except Invalid as error:
            self._desired_fault = Fault(error.code, error.message[:1024])
            log.warning("desired %d is not understood and left aside: %s", seen, error.message)

    def _rest(self, idle: float) -> None:
        """Sleep while there is neither work nor leave to sync."""
        clock = self._site.clock
        due = max(
            self._next_sync,
            self._synced if idle >= self._site.settings.poll else self._synced + self._site.settings.poll,
        )
        clock.sleep(max(min(idle, due - clock.monotonic()), 0.05))  # never not at all, however times round


def _idle(verdicts: Mapping[str, Verdict], now: float) -> float:
    """Seconds until some model has to be looked at again; a day if none has."""
    ends = [verdict.until for verdict in verdicts.values() if isinstance(verdict, Hold) and verdict.until is not None]
    return max(min(ends, default=now + 86400.0) - now, 0.05)
