"""What a device knows: immutable values that :mod:`plan` decides over and :mod:`journal` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from farshore.agent.limits import Shut, Spent
from farshore.core import wire
from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.digest import Digest
from farshore.core.manifest import Count, DigestText, Name, Short
from farshore.core.sketch import Sketch
from farshore.core.wire import DesiredModel, Fault, Seconds

Server = Status | Literal["none", "away"]
"""The inference server: what it says, or that the device has none, or that it does not answer."""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """A step that was begun and did not succeed yet. Written before acting, so that a crash counts too.

    Attributes:
        step: kind of step.
        at: seconds since 1970 when it was begun.
        count: attempts in a row without success or progress.
        strikes: those of them that speak against the version itself.
        done: bytes that were here when it was begun.
        fault: how it ended; None if it was cut off.

    """

    step: Short
    at: float
    count: Count = 1
    strikes: Count = 0
    done: Count = 0
    fault: Fault | None = None


class Trial(Struct, frozen=True, omit_defaults=True):
    """An activated version that must prove itself. Written before the switch.

    Attributes:
        digest: of the version on trial.
        back: version to return to; None if there was none.
        switched: the inference server was told and agreed.
        boots: times the machine has started since.
        fault: why it failed; from then on only going back remains.
        gap: seconds without an answer at the switch.
        latency, memory: of the version before it, when it was last seen.
        compared, agreed, sketch: what its shadow has shown.

    """

    digest: DigestText
    back: DigestText | None = None
    switched: bool = False
    boots: Count = 0
    fault: Fault | None = None
    gap: Seconds = 0.0
    latency: Seconds = 0.0
    memory: Count = 0
    compared: Count = 0
    agreed: Count = 0
    sketch: Sketch | None = None

    def shown(self, serving: Serving | None) -> wire.Trial | None:
        """What it has shown, by what the inference server says; None while that says nothing of this version."""
        if serving is None or serving.digest != self.digest:
            return None
        return wire.Trial(
            self.digest, serving.requests, serving.errors, self.gap, serving.latency, self.latency,
            serving.memory, self.memory, self.compared, self.agreed, self.sketch,
        )  # fmt: skip


class Shadow(Struct, frozen=True, omit_defaults=True):
    """A version's time in the shadow of what answers. Written before the inference server is told.

    Attributes:
        begun: times that it was ordered.
        boots: times the machine has started since the first.
        over: nothing of it is left to do, also where it could not be.

    """

    begun: Count = 1
    boots: Count = 0
    over: bool = False


Watched = TypeVar("Watched", Trial, Shadow)


def booted(watched: Watched | None) -> Watched | None:
    """The same after one more start of the machine."""
    return None if watched is None else replace(watched, boots=watched.boots + 1)


class Note(Struct, frozen=True, omit_defaults=True):
    """What is remembered of one model.

    Attributes:
        digest: the desired version that ``probed``, ``failed`` and ``attempt`` speak of.
        retry: the desired entry's ``retry``; a new one wipes the slate.
        probed: it passed its probe.
        failed: it is quarantined: not tried again until desired changes.
        attempt: what is being tried.
        shadow: of the version that ``probed`` speaks of; None if it was not begun.
        trial: the version that is current but not confirmed.
        applying: patches whose application was begun and has not ended, and how often.
        fetched: bytes moved over the network for this model since enrolment.
        shown: what the newest trial that ended has shown.

    """

    digest: DigestText | None = None
    retry: Count = 0
    probed: bool = False
    failed: Fault | None = None
    attempt: Attempt | None = None
    shadow: Shadow | None = None
    trial: Trial | None = None
    applying: Annotated[dict[DigestText, Count], Meta(max_length=16)] = {}
    fetched: Count = 0
    shown: wire.Trial | None = None


class Notes(Struct, frozen=True, omit_defaults=True):
    """All that is remembered over a restart.

    Attributes:
        desired: the twin's desired section as last received; None before the first sync.
        seen: its ``$version``.
        boot: which start of the machine this was written in.
        runtimes: runtimes that the inference server last named.
        spent: what was moved over the link.
        models: by name.

    """

    desired: dict[str, Any] | None = None
    seen: Count = 0
    boot: Short = ""
    runtimes: Annotated[tuple[Short, ...], Meta(max_length=16)] = ()
    spent: Spent = Spent()
    models: dict[Name, Note] = {}


@dataclass(frozen=True, slots=True)
class Version:
    """A version as far as it is known here, installed or only wanted.

    Attributes:
        number: the registry's.
        digest: of its manifest.
        variant: the one for this device; None if none fits.
        files: digest → size in bytes of what that variant needs, acceptance pictures included.

    """

    number: int
    digest: Digest
    variant: str | None
    files: Mapping[Digest, int]


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model on this device.

    Attributes:
        current: the version that ``current`` leads to.
        previous: likewise.
        installed: every version that is whole here, by manifest digest.
        wanted: the desired version, once its manifest is here and believed.
        note: what is remembered.
        barred: why trust forbids to install the desired version, or to go back to it; None if it does not.

    """

    current: Digest | None = None
    previous: Digest | None = None
    installed: Mapping[Digest, Version] = field(default_factory=dict)
    wanted: Version | None = None
    note: Note = field(default_factory=Note)
    barred: Fault | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """What does not change between two steps.

    Attributes:
        memory: bytes of RAM.
        machine: its architecture.
        quota: bytes that blobs may take; None for no limit.
        keep_free: bytes of the disk that are never filled.
        trial: seconds a version must answer before it is confirmed.

    """

    memory: int
    machine: str
    quota: int | None
    keep_free: int
    trial: float


@dataclass(frozen=True, slots=True)
class Local:
    """A snapshot of the device.

    Attributes:
        device: see there.
        models: by name.
        blobs: whole blobs, digest → bytes.
        partials: begun downloads, digest → bytes here.
        free: bytes free on the disk.
        server: see :data:`Server`.
        runtimes: that can run a model here.
        shut: why no byte may be moved now; None if bytes may be.
        offset: seconds by which local time is ahead of UTC.
        active: the file whose transfer is open right now.
        reached: the file that was fetched last, and how much of its route is here, 0 to 1.
        stale: why nothing new may be installed, whatever it is: signed metadata have expired, or the hub's were refused.

    """

    device: Device
    models: Mapping[str, ModelState] = field(default_factory=dict)
    blobs: Mapping[Digest, int] = field(default_factory=dict)
    partials: Mapping[Digest, int] = field(default_factory=dict)
    free: int = 1 << 62
    server: Server = "none"
    runtimes: tuple[str, ...] = ()
    shut: Shut | None = None
    offset: int = 0
    active: Digest | None = None
    reached: tuple[Digest, float] | None = None
    stale: Fault | None = None

    def model(self, name: str) -> ModelState:
        return self.models.get(name) or ModelState()

    def status(self, name: str) -> ModelStatus:
        """What the inference server says of a model; empty if it says nothing."""
        known = self.server.models.get(name) if isinstance(self.server, Status) else None
        return known or ModelStatus()

    @property
    def begun(self) -> int:
        """Bytes of begun downloads, of files and of patches to them: while it grows, something comes of trying."""
        return sum(self.partials.values())

    def here(self, version: Version) -> int:
        """Bytes of a version's files that need not be fetched."""
        return sum(
            size if digest in self.blobs else self.partials.get(digest, 0) for digest, size in version.files.items()
        )

    def done(self, version: Version) -> int:
        """As :meth:`here`, with the bytes that a patch stands for which is being fetched: for people, not for plans."""
        digest, share = self.reached or (None, 0.0)
        if digest is None or digest in self.blobs or digest not in version.files:
            return self.here(version)
        return self.here(version) + max(int(version.files[digest] * share) - self.partials.get(digest, 0), 0)


def aim(notes: Notes, models: Mapping[str, DesiredModel]) -> Notes:
    """``notes`` after desired became ``models``: what was remembered of a version that is no longer meant is forgotten.

    So a quarantined version is tried again when desired has changed away and back, or when its ``retry`` changed.
    """
    result = dict(notes.models)
    for name, want in models.items():
        note = result.get(name, Note())
        if (note.digest, note.retry) != (want.digest, want.retry):
            anew = note.shown is not None and note.shown.digest == want.digest  # its old trial says nothing of the next
            shown = None if anew else note.shown
            note = Note(digest=want.digest, retry=want.retry, trial=note.trial, fetched=note.fetched, shown=shown)
        result[name] = note
    for name, note in notes.models.items():
        if name not in models:
            result[name] = Note(trial=note.trial, fetched=note.fetched, shown=note.shown)
    return replace(notes, models=result)
