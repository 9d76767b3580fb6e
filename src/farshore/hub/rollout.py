"""Rollouts: how a new version reaches the devices of a deployment, wave by wave, and what to do next with one. Pure.

A wave says how far a rollout has opened; a gate says what must be seen of the devices in it before the next one opens.
Nobody is chosen beforehand: whether a device belongs to an open wave is asked when it syncs, so that starting, advancing
and ending cost the same for ten devices and for a million. Devices that are not heard of count as unknown, never as
success.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from farshore.core.errors import Conflict, Invalid
from farshore.hub import selector
from farshore.hub.gate import DAY, Gate, Tally, broken, lacks_comparison, part

MAX_WAVES = 32
_compiled = lru_cache(maxsize=256)(selector.parse)
MILLION = 1_000_000
OVER = "over budget: "
"""What the reason begins with when a rollout stopped within its budget."""
NOTHING: Mapping[str, Any] = MappingProxyType({})

State = Literal["running", "paused", "done", "aborted", "rolled back"]
ENDED: frozenset[str] = frozenset({"done", "aborted", "rolled back"})


class Wave(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How far a rollout opens; one of the three.

    Attributes:
        count: so many devices, those that ask first.
        percent: this share of all devices, by a hash of device and rollout: it holds those of smaller percentages.
        selector: devices that match.

    """

    count: Annotated[int, Meta(ge=1, le=1 << 31)] | None = None
    percent: Annotated[float, Meta(gt=0, le=100)] | None = None
    selector: Annotated[str, Meta(max_length=4096)] = ""

    def __post_init__(self) -> None:
        if (self.count is None) + (self.percent is None) + (not self.selector) != 2:
            raise ValueError("a wave has one of count, percent and selector")

    def __str__(self) -> str:
        return self.selector or (f"{self.percent:g}%" if self.percent is not None else str(self.count))

    @property
    def all(self) -> bool:
        """Whether it holds every device."""
        return self.percent == 100 or self.selector.strip() == "*"


class Budget(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a rollout may move and cost. Counted is what its devices moved and, of those under way, what is foreseen for them.

    Attributes:
        bytes: most of them; None for any number.
        money: most of it, in the currency of the links; None for any sum.

    """

    bytes: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    money: Annotated[float, Meta(ge=0, le=1e12)] | None = None

    def lacks(self, taken: tuple[float, float], more: tuple[float, float]) -> str | None:
        """What is missing for ``more`` bytes and money where so much is ``taken``; None if it fits."""
        for limit, had, needed, unit in (
            (self.bytes, taken[0] / MILLION, more[0] / MILLION, "MB"),
            (self.money, taken[1], more[1], "of money"),
        ):
            most = limit / MILLION if limit is not None and unit == "MB" else limit
            if most is not None and had + needed > most + 1e-9:
                return f"{needed:.6g} {unit} more, and {had:.6g} of {most:.6g} are taken"
        return None


class Foreseen(Struct, frozen=True):
    """What a version will take on a device: bytes and money; ``open`` while patches that it would use are being built."""

    bytes: int
    money: float
    open: bool = False


class Terms(Struct, frozen=True, omit_defaults=True):
    """What a rollout goes by, beside waves and gate.

    Attributes:
        switch: blue/green: waves have the version installed and tried out beside the one before; one order switches all to it.
        budget: what it may move and cost; None for anything.
        overruled: waves (from 0) with which an operator went on though their gates were broken.

    """

    switch: bool = False
    budget: Budget | None = None
    overruled: Annotated[tuple[int, ...], Meta(max_length=MAX_WAVES)] = ()


class Rollout(Struct, frozen=True):
    """A rollout as it stands.

    Attributes:
        id: its name; part of the hash that spreads devices over waves.
        waves: in order; the last one holds every device.
        gate: closes each wave.
        state: see :data:`State`.
        wave: index of the newest open wave.
        opened: when that wave opened, seconds since 1970.
        good_since: since when its gate has found all as it must be; None while it is not.
        reason: one sentence on why it is in this state; empty while it runs.
        terms: see there.
        held: blue/green, before the switch: devices have the version beside and do not run it.

    """

    id: str
    waves: tuple[Wave, ...]
    gate: Gate
    state: State
    wave: int
    opened: float
    good_since: float | None = None
    reason: str = ""
    terms: Terms = Terms()
    held: bool = False


class Event(Struct, frozen=True):
    """Something that happened to a rollout, for the feed: ``kind`` of it, and one sentence."""

    kind: str
    text: str


def parse_waves(text: str) -> tuple[Wave, ...]:
    """Waves as people write them: ``1,5%,tags.ring = 'early',100%``.

    Raises:
        Invalid: not waves; the message says which.

    """
    return check_waves([_wave(part.strip()) for part in _split(text)])


def check_waves(waves: Sequence[Wave]) -> tuple[Wave, ...]:
    """Return ``waves`` if they lead anywhere.

    Raises:
        Invalid: none, too many, shrinking, with a selector that cannot be read, or the last leaves devices out.

    """
    if not 1 <= len(waves) <= MAX_WAVES:
        raise Invalid(f"{len(waves)} waves: use 1 to {MAX_WAVES}")
    percents = [wave.percent for wave in waves if wave.percent is not None]
    if any(later <= sooner for sooner, later in pairwise(percents)):
        raise Invalid(f"waves {', '.join(map(str, waves))}: each percentage must be above the one before")
    if any(wave.all for wave in waves[:-1]):
        raise Invalid(f"waves {', '.join(map(str, waves))}: nothing is left after a wave of all devices")
    if not waves[-1].all:
        raise Invalid(
            f"waves {', '.join(map(str, waves))}: the last one must be 100%, so that no device is left behind"
        )
    for wave in waves:
        if wave.selector:
            selector.parse(wave.selector)
    return tuple(waves)


def bucket(rollout: str, device: str) -> float:
    """Where a device stands in a rollout, from 0 up to but not 100: stable, even, and different in every rollout."""
    digest = hashlib.sha256(f"{rollout}\n{device}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48) * 100.0


def wave_of(
    rollout: Rollout,
    device: str,
    tags: Mapping[str, Any],
    admitted: Callable[[str], Sequence[int]],
    reported: Mapping[str, Any] = NOTHING,
) -> int | None:
    """The wave that takes a device in now; None if none is open for it.

    Args:
        rollout: as it stands.
        device: its id.
        tags: its tags.
        admitted: devices that the rollout with this id has taken in so far, by wave; asked only for waves that count.
        reported: its reported section.

    """
    if rollout.state != "running":
        return None
    for index, wave in enumerate(rollout.waves[: rollout.wave + 1]):
        if wave.selector:
            inside = _compiled(wave.selector).matches(device, tags, reported)
        elif wave.percent is not None:
            inside = bucket(rollout.id, device) < wave.percent
        else:
            assert wave.count is not None
            inside = admitted(rollout.id)[index] < wave.count
        if inside:
            return index
    return None


def advance(rollout: Rollout, tallies: Sequence[Tally], now: float, last: str = "") -> tuple[Rollout, list[Event]]:
    """What becomes of a rollout, given what devices have said.

    Args:
        rollout: as it stands.
        tallies: one for each wave.
        now: seconds since 1970.
        last: why the newest device that failed did, for the reason.

    Returns:
        the rollout as it stands then (the same if nothing happened), and what happened.

    """
    if rollout.state in ENDED:
        return rollout, []
    fault = bad(rollout, tallies, last)
    if fault is not None and (rollout.state == "running" or rollout.gate.on_failure == "rollback"):
        return _failed(rollout, fault)
    if rollout.state == "paused":
        return rollout, []
    missing = lacking(rollout, tallies[rollout.wave])
    if missing is None:
        since = rollout.good_since if rollout.good_since is not None else now
        if now - since >= rollout.gate.soak and not open_ended(rollout):
            return _passed(rollout, tallies[rollout.wave], now)
        return msgspec.structs.replace(rollout, good_since=since), []
    due = rollout.gate.deadline
    if due and now - rollout.opened >= due:
        return _failed(rollout, f"wave {rollout.wave + 1}: after {span(due)} {missing}")
    return msgspec.structs.replace(rollout, good_since=None), []


def bad(rollout: Rollout, tallies: Sequence[Tally], last: str = "") -> str | None:
    """What is wrong in one of the open waves, in one sentence, but for those whose gates an operator overruled; None if nothing is."""
    for index in _broken_waves(rollout, tallies):
        return f"wave {index + 1}: {broken(rollout.gate, tallies[index], last)}"
    return None


def _broken_waves(rollout: Rollout, tallies: Sequence[Tally]) -> list[int]:
    judged = set(range(min(rollout.wave + 1, len(tallies)))) - {*rollout.terms.overruled}
    return [index for index in sorted(judged) if broken(rollout.gate, tallies[index]) is not None]


def lacking(rollout: Rollout, tally: Tally) -> str | None:
    """What the gate of the newest wave still waits for, in words; None if all is as it must be."""
    gate, wave = rollout.gate, rollout.waves[rollout.wave]
    ready = tally.ready if rollout.held else 0
    decided, confirmed = tally.decided + ready, tally.confirmed + ready
    quorum = gate.quorum if wave.count is None else min(gate.quorum, wave.count)
    expected = tally.admitted if wave.count is None else max(tally.admitted, wave.count)
    need = max(quorum, math.ceil(part(gate.seen, expected)))
    good = "are ready" if rollout.held else "confirmed"
    if decided < need:
        return f"{decided} of {expected} devices {good if rollout.held else 'have confirmed'} or failed; {need} must"
    if confirmed < part(gate.success, decided):
        return f"{confirmed} of {decided} devices {good}; {gate.success:.3g} of them must"
    return lacks_comparison(gate, tally)


def open_ended(rollout: Rollout) -> bool:
    """Whether its last wave is open and only an operator's word leads on: to the switch, or to the end of what its budget counts."""
    last = rollout.wave + 1 == len(rollout.waves)
    return last and (rollout.held or rollout.terms.budget is not None)


def waiting(rollout: Rollout, tally: Tally) -> str | None:
    """What a rollout that runs waits for beside time, in words; ``tally`` is its newest wave's."""
    missing = lacking(rollout, tally)
    if missing is not None or not open_ended(rollout):
        return missing
    if rollout.held:
        return (
            f"{tally.ready} of {tally.admitted} devices are ready; farshore rollout advance {rollout.id} switches all"
        )
    return f"its budget counts late devices, too; farshore rollout advance {rollout.id} ends it"


def pause(rollout: Rollout, why: str) -> Rollout:
    """Take nobody in any more; who has the version keeps it.

    Raises:
        Conflict: it does not run.

    """
    _check_live(rollout, "running")
    return msgspec.structs.replace(rollout, state="paused", reason=why, good_since=None)


def resume(rollout: Rollout, tallies: Sequence[Tally], now: float) -> Rollout:
    """Go on with the newest wave, whose deadline begins anew.

    Raises:
        Conflict: it is not paused, or its gate would pause it again at once.

    """
    _check_live(rollout, "paused")
    fault = bad(rollout, tallies)
    if fault is not None:
        raise Conflict(
            f"the gate of rollout {rollout.id} is still broken, {fault}: farshore rollout advance {rollout.id} goes on in spite of it, "
            f"farshore rollout rollback {rollout.id} takes everybody back"
        )
    return msgspec.structs.replace(rollout, state="running", reason="", opened=now, good_since=None)


def open_next(rollout: Rollout, now: float, tallies: Sequence[Tally] = ()) -> Rollout:
    """Open the next wave, whatever the gate says; after the last one of blue/green switch, else it is done: nobody may be left for
    that to see. Waves whose gates are broken now are not judged any more: an operator has seen that and goes on.

    Raises:
        Conflict: it has ended.

    """
    _check_live(rollout, "running", "paused")
    overruled = {*rollout.terms.overruled, *_broken_waves(rollout, tallies)}
    terms = msgspec.structs.replace(rollout.terms, overruled=tuple(sorted(overruled)))
    rollout = msgspec.structs.replace(rollout, terms=terms)
    if rollout.wave + 1 >= len(rollout.waves):
        if rollout.held:
            return msgspec.structs.replace(rollout, state="running", held=False, opened=now, good_since=None, reason="")
        return msgspec.structs.replace(rollout, state="done", good_since=None, reason="")
    return msgspec.structs.replace(
        rollout, state="running", wave=rollout.wave + 1, opened=now, good_since=None, reason=""
    )


def end(rollout: Rollout, state: Literal["aborted", "rolled back"], why: str) -> Rollout:
    """End it: ``aborted``, and who has the version keeps it; or ``rolled back``, and nobody does.

    Raises:
        Conflict: it has ended that way before.

    """
    if rollout.state == state or (rollout.state in ENDED and state == "aborted"):
        raise Conflict(f"rollout {rollout.id} is {rollout.state} already")
    return msgspec.structs.replace(rollout, state=state, reason=why, good_since=None)


def span(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    for unit, length in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _passed(rollout: Rollout, tally: Tally, now: float) -> tuple[Rollout, list[Event]]:
    said = f"wave {rollout.wave + 1} passed: {tally.confirmed} of {tally.decided} devices confirmed"
    if rollout.wave + 1 == len(rollout.waves):
        return msgspec.structs.replace(rollout, state="done", reason="", good_since=None), [Event("done", said)]
    if rollout.gate.approval:
        reason = f"{said}; the next wave waits for approval"
        return pause(rollout, reason), [Event("paused", reason)]
    return open_next(rollout, now), [Event("advanced", f"{said}; wave {rollout.wave + 2} is open")]


def _failed(rollout: Rollout, reason: str) -> tuple[Rollout, list[Event]]:
    if rollout.gate.on_failure == "pause":
        return pause(rollout, reason), [Event("paused", reason)]
    return end(rollout, "rolled back", reason), [Event("rolled back", reason)]


def _check_live(rollout: Rollout, *states: str) -> None:
    if rollout.state not in states:
        raise Conflict(f"rollout {rollout.id} is {rollout.state}, not {' or '.join(states)}")


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside quotes and brackets."""
    return [part for part in re.findall(r"(?:'(?:[^']|'')*'|\[[^\]]*\]|[^,'\[]|['\[])+", text) if part.strip()]


def _wave(text: str) -> Wave:
    number = re.fullmatch(r"(\d{1,10}(?:\.\d+)?)\s*(%?)", text)
    try:
        if number is None:
            return Wave(selector=text)
        wave = Wave(percent=float(number[1])) if number[2] else Wave(count=int(number[1]))
        return msgspec.convert(msgspec.to_builtins(wave), Wave)
    except (ValueError, msgspec.ValidationError):
        raise Invalid(f"wave {text[:40]!r}: use a count (5), a percentage (10%) or a selector") from None
