"""Does one step. Each may be cut off anywhere and asked again.

The intention is noted before the act, the outcome after it. What an error means for the version is decided here: wrong
bytes speak against it (a strike); a link, hub or disk that fails does not; and while it is loaded or switched to, silence does too,
for that is how a model that takes the machine down looks from the next start.
"""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from farshore.agent import plan, shadowing
from farshore.agent.download import Apply, Transfer
from farshore.agent.journal import Tries
from farshore.agent.plan import (
    Activate,
    CollectGarbage,
    Confirm,
    Download,
    Drop,
    FetchManifest,
    Install,
    Park,
    Probe,
    RollBack,
    Step,
)  # fmt: skip
from farshore.agent.shadowing import Cast, EndShadow
from farshore.agent.site import Site, choose
from farshore.agent.state import Local, Note, Shadow, Trial
from farshore.core import digest as digests
from farshore.core import wire
from farshore.core.control import Serving
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Corrupt, FarshoreError, Invalid, NotFound, Unavailable
from farshore.core.wire import Fault
from farshore.store import blobs as blob_store
from farshore.store import files
from farshore.store.slots import Installed

log = logging.getLogger(__name__)


class Hands:
    """Acts on one device.

    Args:
        site: the device.
        apply: decodes patches; None to fetch everything whole.

    """

    def __init__(self, site: Site, apply: Apply | None = None) -> None:
        self._site = site
        self._apply = apply
        self._transfer: tuple[str, Transfer] | None = None
        self._reached: tuple[Digest, float] | None = None

    @property
    def active(self) -> Digest | None:
        """The file whose transfer is open."""
        return None if self._transfer is None else self._transfer[1].digest

    @property
    def reached(self) -> tuple[Digest, float] | None:
        """The file that is or was being fetched last, and how much of its route is here: 0 to 1. A cut does not take that back."""
        if self._transfer is None or not self._transfer[1].share:
            return self._reached
        return self._transfer[1].digest, self._transfer[1].share

    def perform(self, step: Step, local: Local) -> bool:
        """Do ``step`` as planned over ``local``. False when it failed; why is noted and logged."""
        try:
            self._do(step, local)
            return True
        except FarshoreError as error:
            self._failed(step, error)
            return False

    def let_go(self) -> None:
        """Close the open transfer, if any, and note what it moved."""
        if self._transfer is not None:
            self._reached = self.reached
            (model, transfer), self._transfer = self._transfer, None
            transfer.close()
            self._site.journal.write(model, fetched=self._site.journal.note(model).fetched + transfer.fetched)
            self._site.pace.settle()

    def _do(self, step: Step, local: Local) -> None:
        match step:
            case FetchManifest():
                self._fetch_manifest(step)
            case Download():
                self._download(step, local)
            case Install():
                self._install(step, local)
            case Probe():
                self._probe(step)
            case Cast():
                self._cast(step)
            case EndShadow():
                self._end_shadow(step, local)
            case Park():
                self._site.runtime.drop(step.model, step.digest)
            case Activate():
                self._activate(step, local)
            case Confirm():
                self._confirm(step, local)
            case RollBack():
                self._roll_back(step, local)
            case Drop():
                self._drop(step, local)
            case CollectGarbage():
                self._collect(step)

    def _fetch_manifest(self, step: FetchManifest) -> None:
        self._begin(step)
        payload = self._site.link.manifest(step.digest)
        self._site.manifests.keep(payload, step.model, step.digest, step.version)
        self._site.journal.write(step.model, attempt=None)
        log.info("%s@%d: its manifest is the one that its publisher signed", step.model, step.version)

    def _download(self, step: Download, local: Local) -> None:
        site = self._site
        if self.active != step.digest:
            self.let_go()
            self._begin(step, done=local.begun)
            site.pace.heed(site.journal.settings())
            transfer = Transfer(
                step.digest, step.size, blobs=site.blobs, link=site.link, pace=site.pace, clock=site.clock,
                minimum_rate=site.settings.minimum_rate, apply=self._apply, room=self._room,
                tries=Tries(site.journal, step.model),
            )  # fmt: skip
            self._transfer = step.model, transfer
        assert self._transfer is not None
        transfer = self._transfer[1]
        try:
            arrived = transfer.run(site.clock.monotonic() + site.settings.slice)
        except BaseException:
            self.let_go()
            raise
        if arrived:
            self.let_go()
            site.journal.write(step.model, attempt=None)
            log.info(
                "%s: %s is here, %d bytes fetched for %d",
                step.model,
                digests.short(step.digest),
                transfer.fetched,
                step.size,
            )

    def _room(self) -> int:
        """Bytes that may still be written, by disk and quota."""
        limits = self._site.device
        room = files.free_bytes(self._site.settings.root) - limits.keep_free
        return room if limits.quota is None else min(room, limits.quota - self._site.blobs.used())

    def _install(self, step: Install, local: Local) -> None:
        site = self._site
        self._begin(step)
        believed = site.manifests.find(step.model, step.digest, None)
        variant = None if believed is None else choose(site, believed.manifest, local.runtimes)
        if believed is None or variant is None:
            raise NotFound(f"{step.model}: its manifest is no longer here")
        site.slots.install(believed.payload, variant, site.blobs)
        site.journal.write(step.model, attempt=None)
        log.info("%s@%d: installed, variant %s", step.model, believed.manifest.version, variant.name)

    def _probe(self, step: Probe) -> None:
        self._begin(step, strike=True)
        fault = self._try_out(step.model, step.digest)
        if fault is not None:
            self._site.journal.write(step.model, attempt=None, failed=fault)
            log.warning("%s %s: not fit to serve: %s", step.model, digests.short(step.digest), fault.message)
            return
        self._site.journal.write(step.model, attempt=None, probed=True)
        log.info("%s %s: probe passed", step.model, digests.short(step.digest))

    def _try_out(self, model: str, digest: Digest) -> Fault | None:
        """Probe a version: None if it is fit, else why not.

        Raises:
            Unavailable: it came to no verdict (its worker was killed, memory was short): worth another try, not many.

        """
        result = self._site.runtime.probe(model, digest)
        if result.ok:
            return None
        if result.fault is not None and result.fault.code == Unavailable.code:
            raise Unavailable(result.fault.message)
        missed = "; ".join(f"{case.name}: {case.why}" for case in result.cases if not case.ok)
        return result.fault or Fault("invalid", (missed or "an acceptance case was missed")[:1024])

    def _cast(self, step: Cast) -> None:
        """Begun with a strike, as a probe is: that it takes the machine down must not go unnoticed here either."""
        site, shadow = self._site, self._site.journal.note(step.model).shadow
        begun = Shadow() if shadow is None else replace(shadow, begun=shadow.begun + 1)
        site.journal.write(step.model, shadow=begun)
        self._begin(step, strike=True)
        try:
            site.runtime.shadow(step.model, step.digest, step.share)
        except (Conflict, NotFound) as error:  # no room for two, or a server that knows no shadows
            log.warning("%s %s: goes without shadow: %s", step.model, digests.short(step.digest), error.message)
            begun = replace(begun, over=True)
        site.journal.write(step.model, attempt=None, shadow=begun)
        if not begun.over:
            log.info("%s %s: in the shadow of what answers", step.model, digests.short(step.digest))

    def _end_shadow(self, step: EndShadow, local: Local) -> None:
        """Note first: what the inference server goes on with after a cut here is found again."""
        site, note = self._site, self._site.journal.note(step.model)
        changes = shadowing.ended(step, note, shadowing.shown(step, local))
        if changes:
            site.journal.write(step.model, **changes)
            verdict = "its shadow is over" if step.fault is None else f"given up: {step.fault.message}"
            log.info("%s %s: %s", step.model, digests.short(step.digest), verdict)
        if step.wanted:
            site.runtime.shadow(step.model, step.digest, 0.0)
        else:
            site.runtime.drop(step.model, step.digest)

    def _activate(self, step: Activate, local: Local) -> None:
        """Note, link, switch: in this order, so that the inference server, whenever it starts, serves what was meant."""
        site = self._site
        trial = site.journal.note(step.model).trial
        if trial is None or trial.digest != step.digest or trial.fault is not None:
            before = local.status(step.model).serving
            known = before is not None and before.digest == step.back
            compared = shadowing.evidence(site.journal.note(step.model), step.digest)
            trial = Trial(step.digest, step.back, **_measures(before if known else None), **compared)
            site.journal.write(step.model, trial=trial)
        self._begin(step, strike=True)
        site.slots.activate(step.model, step.digest)
        gap = self._switch(step.model, step.digest)
        if isinstance(gap, Fault):
            raise Corrupt(f"not fit to serve: {gap.message}")
        site.journal.write(step.model, attempt=None, trial=replace(trial, switched=True, gap=gap))
        log.info("%s %s: activated, on trial for %g s", step.model, digests.short(step.digest), site.settings.trial)

    def _switch(self, model: str, digest: Digest) -> Fault | float:
        """Send requests to a version, warming it first where it does not stand warm. Seconds without an answer, or why it cannot
        serve.
        """
        try:
            return self._site.runtime.switch(model, digest)
        except (Conflict, NotFound):  # the server was restarted, or has no memory for two at once
            fault = self._try_out(model, digest)
            if fault is not None:
                return fault
            return self._site.runtime.switch(model, digest)

    def _confirm(self, step: Confirm, local: Local) -> None:
        note = self._site.journal.note(step.model)
        meant = {"attempt": None} if note.digest == step.digest else {}
        self._site.journal.write(
            step.model, trial=None, shown=_shown(note, local, step.model), **meant
        )  # an activation cut off after its link counts no more
        log.info("%s@%d: confirmed", step.model, local.model(step.model).installed[step.digest].number)

    def _roll_back(self, step: RollBack, local: Local) -> None:
        """Back to what ran before. A full disk does not keep the link from turning, nor does a silent server: when it
        starts it reads the link, and until it answers the step is asked again.
        """
        site, note = self._site, self._site.journal.note(step.model)
        log.warning("%s %s: rolling back: %s", step.model, digests.short(step.digest), step.fault.message)
        trial = note.trial if note.trial is not None and note.trial.digest == step.digest else Trial(step.digest)
        trial = replace(trial, back=step.back, switched=True, fault=step.fault)
        try:
            site.journal.write(step.model, trial=trial, shown=_shown(note, local, step.model))
            self._begin(step)
        except Unavailable as error:
            log.warning("the roll-back could not be noted: %s", error.message)
        if step.back is None:
            site.slots.clear_current(step.model)
            site.runtime.drop(step.model, step.digest)
        else:
            site.slots.activate(step.model, step.back)
            fault = self._switch(step.model, step.back)
            if isinstance(fault, Fault):
                log.warning("%s: the version before has become unfit, too: %s", step.model, fault.message)
        site.slots.remove(step.model, step.digest)
        meant = {"failed": step.fault, "probed": False} if note.digest == step.digest else {}
        site.journal.write(step.model, trial=None, attempt=None, **meant)

    def _drop(self, step: Drop, local: Local) -> None:
        """Files first: what the inference server still holds after a cut here, it says itself."""
        site, status = self._site, local.status(step.model)
        site.slots.remove_model(step.model)
        for held in (status.serving, status.candidate):
            if held is not None:
                site.runtime.drop(step.model, Digest(held.digest))
        site.journal.forget(step.model)
        log.info("%s: no longer desired, removed", step.model)

    def _collect(self, step: CollectGarbage) -> None:
        site = self._site
        self.let_go()
        for model, digest in step.versions:
            site.slots.remove(model, digest)
        for digest in step.blobs:
            site.blobs.remove(digest)
        site.manifests.retain(Digest(want.digest) for want in (site.journal.desired() or {}).values())
        log.info("removed %d versions and %d files that nothing needs", len(step.versions), len(step.blobs))

    def _begin(
        self,
        step: FetchManifest | Download | Install | Probe | Cast | Activate | RollBack,
        *,
        done: int = 0,
        strike: bool = False,
    ) -> None:
        self._site.journal.begin(step.model, plan.kind(step), self._site.clock.now(), done=done, strike=strike)

    def _failed(self, step: Step, error: FarshoreError) -> None:
        where = "" if isinstance(step, CollectGarbage) else f"{step.model}: "
        log.warning("%s%s: %s", where, plan.kind(step), error.message)
        if isinstance(step, CollectGarbage | Confirm | Drop | EndShadow | Park):
            return
        if isinstance(step, Install) and isinstance(error, Corrupt | NotFound):
            self._heal(step)
        silent = isinstance(step, Probe | Cast | Activate)  # begun with a strike, which stays unless they succeed
        try:
            fault = Fault(error.code, error.message[:1024])
            self._site.journal.end(step.model, fault, strike=isinstance(error, Corrupt | Invalid) and not silent)
        except Unavailable as disk:
            log.warning("the failure could not be noted: %s", disk.message)

    def _heal(self, step: Install) -> None:
        """Forget blobs of a version that are not what they are called, so that they are fetched again."""
        believed = self._site.manifests.find(step.model, step.digest, None)
        for digest in believed.manifest.files() if believed is not None else ():
            forget_if_wrong(self._site, digest)


def _measures(before: Serving | None) -> dict[str, Any]:
    """What a trial's version is measured by: how the one before it did."""
    return {} if before is None else {"latency": before.latency, "memory": before.memory}


def _shown(note: Note, local: Local, model: str) -> wire.Trial | None:
    """What the trial that ends has shown; what was known before, where the inference server says nothing of it."""
    found = None if note.trial is None else note.trial.shown(local.status(model).serving)
    return found or note.shown


def forget_if_wrong(site: Site, digest: Digest) -> None:
    """Remove a blob whose bytes have gone bad."""
    if site.blobs.has(digest):
        try:
            blob_store.verify(site.blobs.path(digest), digest)
        except Corrupt as error:
            log.warning("%s", error.message)
            site.blobs.remove(digest)


def check_slots(site: Site) -> None:
    """After a start of the machine: is what ``current`` leads to whole? If not, go back to the previous version.

    Damaged versions and their damaged blobs are deleted, so that they are fetched again if they are still desired.
    """
    for model in site.slots.models():
        for entry in site.slots.installed(model):
            try:
                site.slots.verify(entry)
            except Corrupt as error:
                log.warning("%s@%d is damaged: %s", model, entry.version, error.message)
                _give_up(site, model, entry)
        previous = site.slots.previous(model)
        if previous is not None and site.slots.current(model) is None:
            site.slots.activate(model, previous.digest)
            log.warning("%s: back to version %d", model, previous.version)


def _give_up(site: Site, model: str, entry: Installed) -> None:
    current, wrong = site.slots.current(model), site.slots.manifest(entry).files()
    if current is not None and current.digest == entry.digest:
        site.slots.clear_current(model)
    site.slots.remove(model, entry.digest)
    for digest in wrong:
        forget_if_wrong(site, digest)
