"""What does this device do next? A pure function over a snapshot; time is an argument.

:func:`next_step` may be asked at any moment, also twice, also after a crash: nothing is "resumed", the answer follows
from what is really on disk. For each model the way is: fetch manifest → download → install → probe → shadow → activate →
trial → confirm, and from a failed trial back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from farshore.agent import shadowing, trials
from farshore.agent.shadowing import Cast, EndShadow
from farshore.agent.state import Attempt, Local, ModelState, Note, Trial, Version
from farshore.core import windows
from farshore.core.digest import Digest
from farshore.core.wire import DesiredModel, Fault, State

BACKOFF_FIRST = 2.0
BACKOFF_MOST = 15 * 60.0
LOOK_EVERY = 5.0
"""Seconds between looks at the inference server while something depends on it."""

MAX_STRIKES = 3
"""Attempts that speak against a version after which it is given up."""


@dataclass(frozen=True, slots=True)
class FetchManifest:
    """Get the signed manifest of a desired version and believe it or not."""

    model: str
    version: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch one file of a version; ``digest`` and ``size`` are the file's, as the signed manifest gives them."""

    model: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Install:
    """Lay the version beside the others."""

    model: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Probe:
    """Let the inference server load it apart and answer its acceptance cases."""

    model: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Park:
    """It is tried out and waits for its switch: let the memory go that it stands warm in."""

    model: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Activate:
    """Point ``current`` at it, send it the requests, begin its trial. ``back`` is where a failed trial leads."""

    model: str
    digest: Digest
    back: Digest | None


@dataclass(frozen=True, slots=True)
class Confirm:
    """It proved itself: end the trial."""

    model: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class RollBack:
    """It failed its trial: quarantine it and return to ``back`` (or to nothing, if it was the first)."""

    model: str
    digest: Digest
    back: Digest | None
    fault: Fault


@dataclass(frozen=True, slots=True)
class Drop:
    """The model is no longer desired: stop serving it and delete it."""

    model: str


@dataclass(frozen=True, slots=True)
class CollectGarbage:
    """Delete versions (model, manifest digest), then blobs and partials, that nothing needs."""

    versions: tuple[tuple[str, Digest], ...]
    blobs: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """No step for now.

    Attributes:
        state: ``waiting`` if time cures it, ``failed`` if not, ``shadow`` and ``trial`` while watching, ``ready`` to be switched to.
        fault: why; None if nothing is wrong.
        until: seconds since 1970 when to ask again at the latest; None when only an outside change helps.
        cause: see :class:`farshore.core.wire.Target`.

    """

    state: State
    fault: Fault | None = None
    until: float | None = None
    cause: str = ""


Step = (
    FetchManifest | Download | Install | Probe | Cast | EndShadow | Park | Activate | Confirm | RollBack | Drop
    | CollectGarbage
)  # fmt: skip
Verdict = Step | Hold | None
Desired = Mapping[str, DesiredModel]

_ORDER: tuple[type[Step], ...] = (
    RollBack, Confirm, EndShadow, Drop, Activate, Park, Cast, Probe, CollectGarbage, Install, FetchManifest, Download,
)  # fmt: skip
"""What ends danger comes first, what takes long last."""


def next_step(desired: Desired | None, local: Local, now: float) -> Step | None:
    """The one thing to do now, or None.

    Args:
        desired: by model name; None while the hub has never been heard: then nothing is begun and nothing deleted.
        local: snapshot of the device.
        now: seconds since 1970.

    """
    return choose(verdicts(desired, local, now), desired, local)


def verdicts(desired: Desired | None, local: Local, now: float) -> dict[str, Verdict]:
    """What each model needs: a step, a reason to hold, or None when it is as desired."""
    if desired is None:
        held = {name: _trial(name, state, None, local, now) for name, state in local.models.items()}
        return {name: verdict for name, verdict in held.items() if verdict is not None}
    names = sorted({*desired, *local.models})
    return {name: _verdict(name, desired, local, now) for name in names}


def choose(verdicts: Mapping[str, Verdict], desired: Desired | None, local: Local) -> Step | None:
    """The most urgent step among ``verdicts``; when all is settled, the garbage."""
    steps = [verdict for verdict in verdicts.values() if verdict is not None and not isinstance(verdict, Hold)]
    if steps:
        return min(steps, key=lambda step: _ORDER.index(type(step)))
    waiting = any(isinstance(verdict, Hold) and verdict.state == "waiting" for verdict in verdicts.values())
    if desired is None or waiting or local.active is not None:
        return None
    return next(_collectable(desired, local, None), None)


def _verdict(model: str, desired: Desired, local: Local, now: float) -> Verdict:
    state, want = local.model(model), desired.get(model)
    if want is None:
        # A cut in the last removal leaves no files, but all the rest.
        answered = local.status(model).serving is not None
        return Drop(model) if state.current or state.installed or answered or state.note != Note() else None
    trial, watch = state.note.trial, _trial(model, state, want, local, now)
    unfinished = trial is not None and trial.fault is not None
    if watch is not None and (unfinished or not isinstance(watch, Hold)):
        return watch
    left = shadowing.stray(model, want, local)
    if left is not None:
        return left
    if state.current == want.digest:
        return watch or _deserted(model, want, local)
    ahead = _toward(model, want, desired, local, now)
    if watch is None or (trial is not None and want.digest == trial.back):
        return ahead  # going back to what ran before need not await the verdict on what runs now
    return watch if ahead is None or isinstance(ahead, Probe | Cast | EndShadow | Park | Activate | Hold) else ahead


def _trial(model: str, state: ModelState, want: DesiredModel | None, local: Local, now: float) -> Verdict:
    """What the trial of the current version asks for; None if there is none."""
    trial = state.note.trial
    if trial is None or (state.current != trial.digest and trial.fault is None):
        return None
    digest, back = Digest(trial.digest), _way_back(state, trial)
    asked = want.trial if want is not None and want.digest == trial.digest else None
    given_up = quarantined(state.note) if state.note.digest == trial.digest else None
    fault = trial.fault or given_up or trials.fault_of(model, trial, asked, local)
    if fault is not None:
        return _paced(RollBack(model, digest, back, fault), state.note.attempt, local, now)
    if local.server == "none":
        return Confirm(model, digest)
    if local.server == "away":
        return Hold("trial", until=now + LOOK_EVERY)
    if not trial.switched:
        return _paced(Activate(model, digest, back), state.note.attempt, local, now)
    serving = local.status(model).serving
    if serving is not None and serving.ready and serving.seconds >= local.device.trial:
        return Confirm(model, digest)
    rest = local.device.trial - serving.seconds if serving is not None and serving.ready else LOOK_EVERY
    return Hold("trial", until=now + min(max(rest, 0.1), LOOK_EVERY))


def _deserted(model: str, want: DesiredModel, local: Local) -> Hold | None:
    """A confirmed version in whose place the inference server has let another one answer."""
    serving = local.status(model).serving
    if serving is None or serving.digest == want.digest:
        return None
    return Hold("failed", Fault("unavailable", trials.DESERTED))


def _way_back(state: ModelState, trial: Trial) -> Digest | None:
    for back in (trial.back, state.previous):
        if back is not None and back in state.installed and back != trial.digest:
            return Digest(back)
    return None


def _toward(model: str, want: DesiredModel, desired: Desired, local: Local, now: float) -> Verdict:
    """The next step on the way to a version that is not current."""
    state = local.model(model)
    fault = quarantined(state.note)
    if fault is not None:
        return Hold("failed", fault)
    if state.barred is not None:
        return Hold("waiting", state.barred)
    digest = Digest(want.digest)
    if digest not in state.installed:
        verdict = _obtain(model, want, desired, local, now)
    elif local.server == "away":
        verdict = _server_away(now)
    elif not state.note.probed:
        verdict = Probe(model, digest)
    else:
        shadow = shadowing.verdict(model, want, local)
        watch = Hold("shadow", until=now + LOOK_EVERY) if shadow == "watch" else shadow
        verdict = watch or _held(model, want, local, now) or Activate(model, digest, state.current)
    return _paced(verdict, state.note.attempt, local, now)


def _held(model: str, want: DesiredModel, local: Local, now: float) -> Park | Hold | None:
    """Why a version that is tried out is not switched to yet. Going back to what ran before waits for no window."""
    opens = now
    if want.digest != local.model(model).previous:
        opens = windows.next_open([windows.parse(text) for text in want.activate], now, local.offset)
    if not want.hold and opens <= now:
        return None
    warm = local.status(model).candidate
    if warm is not None and warm.digest == want.digest:
        return Park(model, Digest(want.digest))
    return Hold("ready", cause="switch") if want.hold else Hold("ready", until=opens, cause="activation")


def quarantined(note: Note) -> Fault | None:
    """Why the noted version is not tried again, if so."""
    if note.failed is not None:
        return note.failed
    attempt = note.attempt
    if attempt is None or attempt.strikes < MAX_STRIKES:
        return None
    return attempt.fault or Fault("unavailable", f"{attempt.step} was cut off {attempt.strikes} times in a row")


def _obtain(model: str, want: DesiredModel, desired: Desired, local: Local, now: float) -> Verdict:
    """Steps that bring a version's manifest and files here."""
    wanted = local.model(model).wanted
    if wanted is None:
        return FetchManifest(model, want.version, Digest(want.digest))
    if wanted.variant is None:
        if local.server == "away" and not local.runtimes:
            return _server_away(now)
        has = f"{', '.join(local.runtimes) or 'no runtime'}, {local.device.memory} bytes of memory, {local.device.machine}"
        return Hold("failed", Fault("invalid", f"no variant fits this device, which has {has}"))
    missing = {digest: size for digest, size in wanted.files.items() if digest not in local.blobs}
    if not missing:
        return Install(model, wanted.digest)
    room = _make_room(model, wanted, desired, local)
    if room is not None:
        return room
    if local.shut is not None:
        return Hold("waiting", Fault("unavailable", local.shut.text), local.shut.until, local.shut.cause)
    digest = min(missing, key=lambda entry: (entry != local.active, entry not in local.partials))
    return Download(model, digest, missing[digest])


def _make_room(model: str, wanted: Version, desired: Desired, local: Local) -> CollectGarbage | Hold | None:
    """Before the first byte: what must go so that the rest of ``wanted`` fits, or that it cannot. None when it fits."""
    need = sum(wanted.files.values()) - local.here(wanted)
    used = sum(local.blobs.values()) + sum(local.partials.values())
    short = need + local.device.keep_free - local.free
    if local.device.quota is not None:
        short = max(short, used + need - local.device.quota)
    if short <= 0:
        return None
    for garbage in _collectable(desired, local, model):
        if _weight(garbage, local) >= short:
            return garbage
    quota = "no quota" if local.device.quota is None else f"{used} of {local.device.quota} quota bytes used"
    text = f"too little disk: {need} bytes to fetch, {short} too many ({local.free} free, {local.device.keep_free} kept free, {quota})"
    return Hold("failed", Fault("unavailable", text))


def _collectable(desired: Desired, local: Local, model: str | None) -> Iterator[CollectGarbage]:
    """What may be deleted, from what nobody misses to what is given up only for ``model``'s sake: first versions and files
    that nothing needs, then files of quarantined versions, then previous versions. Never what runs or is on trial.
    """
    desired_digests = {name: Digest(want.digest) for name, want in desired.items()}
    needed = {(name, digest) for name, state in local.models.items() for digest in _roles(state)}
    kept = needed | set(desired_digests.items())
    yield from _garbage(kept, local)
    if model is None:
        return
    failed = {(name, digest) for name, digest in desired_digests.items() if quarantined(local.model(name).note)}
    kept -= failed - needed
    yield from _garbage(kept, local)
    for name in sorted(local.models, key=lambda entry: entry != model):
        state = local.models[name]
        if state.note.trial is None and state.previous not in {None, state.current, desired_digests.get(name)}:
            kept -= {(name, state.previous)}
            yield from _garbage(kept, local)


def _roles(state: ModelState) -> Sequence[Digest]:
    trial = state.note.trial
    held = [state.current, state.previous]
    held += [] if trial is None or trial.fault is not None else [Digest(trial.digest)]
    held += [] if trial is None or trial.back is None else [Digest(trial.back)]
    return [digest for digest in held if digest is not None]


def _garbage(kept: set[tuple[str, Digest]], local: Local) -> Iterator[CollectGarbage]:
    """Everything that the ``kept`` versions do not need, if there is anything."""
    files: set[Digest] = set()
    for name, state in local.models.items():
        every = [*state.installed.values(), *([] if state.wanted is None else [state.wanted])]
        files.update(file for version in every if (name, version.digest) in kept for file in version.files)
    versions = [
        (name, digest)
        for name, state in local.models.items()
        for digest in state.installed
        if (name, digest) not in kept
    ]
    blobs = [digest for digest in (*local.blobs, *local.partials) if digest not in files and digest != local.active]
    if versions or blobs:
        yield CollectGarbage(tuple(sorted(versions)), tuple(sorted(set(blobs))))


def _weight(garbage: CollectGarbage, local: Local) -> int:
    return sum(local.blobs.get(digest, 0) + local.partials.get(digest, 0) for digest in garbage.blobs)


def _paced(verdict: Verdict, attempt: Attempt | None, local: Local, now: float) -> Verdict:
    """``verdict``, or the wait after a failed attempt at it.

    A clock that jumped must not make a device wait for decades: no wait is longer than :data:`BACKOFF_MOST`.
    """
    if verdict is None or isinstance(verdict, Hold) or attempt is None or attempt.step != kind(verdict):
        return verdict
    if isinstance(verdict, Download) and (verdict.digest == local.active or _progressed(attempt, local)):
        return verdict
    until = attempt.at + min(BACKOFF_FIRST * 2 ** min(attempt.count - 1, 20), BACKOFF_MOST)
    if attempt.at > now or until <= now:
        return verdict
    return Hold(
        "trial" if isinstance(verdict, RollBack) else "waiting",
        attempt.fault or Fault("unavailable", f"{attempt.step} was cut off"),
        until,
    )


def _progressed(attempt: Attempt, local: Local) -> bool:
    return attempt.fault is None and local.begun > attempt.done


def paced(step: Step) -> bool:
    """Whether a failed ``step`` waits by itself before it comes again, by the note of its attempt."""
    return not isinstance(step, Confirm | Park | Drop | CollectGarbage)


def _server_away(now: float) -> Hold:
    fault = Fault("unavailable", "the inference server does not answer: is `farshore serve` running?")
    return Hold("waiting", fault, now + LOOK_EVERY)


def kind(step: Step) -> str:
    """Short name of a kind of step, for notes and messages: ``fetch-manifest``, ``download`` …"""
    return _KINDS[type(step)]


_KINDS: dict[type[Step], str] = {
    FetchManifest: "fetch-manifest",
    Download: "download",
    Install: "install",
    Probe: "probe",
    Cast: "shadow",
    EndShadow: "end-shadow",
    Park: "park",
    Activate: "activate",
    Confirm: "confirm",
    RollBack: "roll-back",
    Drop: "drop",
    CollectGarbage: "collect-garbage",
}
