"""What the server does next about one model: a pure decision over a snapshot of its versions.

Each version has a *role*, which is what the agent (or the slots at start) wants of it: ``lead`` should answer,
``fallback`` answered before it and is gone back to when the lead cannot live, ``candidate`` is to be probed, ``none`` is to go.
:func:`next_action` compares that with what is true and names one move. The pool makes it and asks again.

The order of the rules is their priority:

1. End workers that nobody needs and that hold no lease.
2. While a candidate that has to be probed does not fit beside the version that answers, make room: drain, end, load the
   candidate, probe. New requests wait meanwhile (break before make). A moment longer, if its probe went well: the switch to it is about
   to be ordered, and what answered before would be loaded in vain.
3. Bring up the version that should answer, and switch to it as soon as it is ready. If it does not fit beside what runs, make
   room first.
4. Load a candidate beside it (make before break).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from farshore.core.digest import Digest

GIVE_UP = 3
"""Crashes in a row after which a version is held to be unable to live, if there is another to go back to."""

Role = Literal["lead", "fallback", "candidate", "none"]
State = Literal["absent", "loading", "ready", "ending"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it is now.

    Attributes:
        digest: names it.
        role: what is wanted of it.
        state: of its worker; one that is ending still holds its memory.
        leads: new requests are leased to it (its worker may be down for a moment).
        leases: requests that hold it.
        crashes: times its worker died, in a row.
        broken: it cannot live, whatever is tried: files or model were refused.
        retry_at: not to be loaded before that time.
        probed: its probe is over, well or not (candidates only).
        expected: until then a switch to it is expected to be ordered, since its probe went well just now.
        memory: bytes its worker holds, or will by estimate.

    """

    digest: Digest
    role: Role
    state: State = "absent"
    leads: bool = False
    leases: int = 0
    crashes: int = 0
    broken: bool = False
    retry_at: float = 0.0
    probed: bool = False
    expected: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Start a worker and load the version in it."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Switch:
    """Lease new requests to that version; what led before only finishes what it holds."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Drain:
    """Let new requests wait: that version only finishes what it holds, so that it can make room."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class End:
    """End the version's worker; it holds no lease."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Refuse:
    """The version does not fit into memory, not even alone."""

    digest: Digest


Action = Load | Switch | Drain | End | Refuse


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory.

    Attributes:
        name: the model's.
        held: bytes that its workers hold.
        used: when it last answered.
        stays: it is asked right now, or must not be let go at all.

    """

    name: str
    held: int
    used: float
    stays: bool = False


def next_action(versions: tuple[Version, ...], memory: int, now: float) -> Action | None:
    """The next move for one model, or None while there is nothing to do but wait.

    Args:
        versions: all versions that have a role, a worker or a lease.
        memory: bytes that this model's workers may hold together.
        now: seconds on the clock of ``Version.retry_at`` and ``Version.expected``.

    """
    wanted = should_answer(versions)
    pending = next((v for v in versions if v.role == "candidate" and not v.probed and not v.broken), None)
    if pending is not None and wanted is not None and pending.memory > memory:
        return Refuse(pending.digest)  # with nothing to lose it would be tried
    tight = pending is not None and wanted is not None and wanted.memory + pending.memory > memory
    needed = {v.digest for v in versions if _needed(v, wanted)} - ({wanted.digest} if tight and wanted else set())

    for version in versions:
        if _runs(version) and version.digest not in needed and not version.leases and not version.leads:
            return End(version.digest)
    if tight:
        assert pending is not None
        return _alone(pending, versions, now)
    if wanted is not None:
        if wanted.state == "ready" and not wanted.leads:
            return Switch(wanted.digest)
        if wanted.state == "absent" and now >= wanted.retry_at:
            return _bring_up(wanted, versions, memory, now)
        if wanted.state == "loading":
            return None  # two loads at once would only slow each other down
    if pending is not None and pending.state == "absent" and now >= pending.retry_at:
        return _bring_up(pending, versions, memory, now)
    return None


def should_answer(versions: tuple[Version, ...]) -> Version | None:
    """The version that should take traffic: the lead, or the fallback when the lead cannot live and fares worse."""
    lead = next((v for v in versions if v.role == "lead"), None)
    fallback = next((v for v in versions if v.role == "fallback" and not v.broken), None)
    if lead is None:
        return None
    if fallback is None:
        return None if lead.broken else lead
    if lead.broken or (lead.crashes >= GIVE_UP and fallback.crashes < lead.crashes):
        return fallback
    return lead


def give_way(residents: tuple[Resident, ...], short: int) -> tuple[str, ...]:
    """The models that are to leave memory for another one: none more than needed, those first that were asked longest ago.

    Args:
        residents: all other models.
        short: bytes that are to become free.

    Returns:
        Their names; none if not even all of them would do.

    """
    going: list[str] = []
    for resident in sorted(residents, key=lambda each: each.used):
        if short > 0 and resident.held and not resident.stays:
            going.append(resident.name)
            short -= resident.held
    return () if short > 0 else tuple(going)


def _runs(version: Version) -> bool:
    return version.state in {"loading", "ready"}


def _needed(version: Version, wanted: Version | None) -> bool:
    """Whether a version's worker is to live on."""
    if version.role == "candidate":
        # A probed candidate stays warm for the switch; a broken one is of no use.
        return not version.broken
    if wanted is not None and version.digest == wanted.digest:
        return True
    # What answers now goes on until the wanted version has taken over.
    return version.leads and version.state == "ready" and wanted is not None


def _alone(version: Version, versions: tuple[Version, ...], now: float) -> Action | None:
    """Make room for ``version``, then load it."""
    for other in versions:
        if other.digest != version.digest and other.leads:
            return Drain(other.digest)
    if any(other.state != "absent" for other in versions if other.digest != version.digest):
        return None  # its last leases run out
    if version.state == "absent" and now >= version.retry_at:
        return Load(version.digest)
    return None


def _bring_up(version: Version, versions: tuple[Version, ...], memory: int, now: float) -> Action | None:
    """Load ``version`` beside what runs if both fit; else make room first: a warm candidate goes before what answers."""
    others = [v for v in versions if v.state != "absent" and v.digest != version.digest]
    if sum(v.memory for v in others) + version.memory <= memory:
        return Load(version.digest)
    for other in others:
        if other.role == "candidate" and _runs(other) and not other.leases:
            # What crashed while it led has requests that its successor is to answer, whatever is expected.
            return None if now < other.expected and not version.leads else End(other.digest)
    return _alone(version, versions, now)
