"""Gates: what must be seen of the devices in a wave, what they have said, and what of that is bad. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from farshore.core import sketch
from farshore.core.sketch import BINS, REST, Sketch

DAY = 86400.0
SHADOW = 0.1
"""Share of its requests that a device compares where a gate asks for it and nothing is said of how many."""

MOST_CLASSES = 64
"""Classes that a wave tells apart, whatever its devices say."""

MOST_FOUND = 1_000_000
"""Findings of one device that count in a class, so that no device outweighs a fleet and sums stay exact."""

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=365 * DAY)]
Times = Annotated[float, Meta(ge=1e-3, le=1e6)]
_SIDES = ("before", "after")


class Gate(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What must be seen of a wave before the next one opens.

    Attributes:
        quorum: devices that must have confirmed or failed.
        seen: share of the wave's devices that must have, of those that were given the version.
        success: share of these that must have confirmed.
        failure: share of these whose failure stops the rollout at once; while fewer than ``quorum`` are decided it is taken
            of the quorum.
        soak: seconds for which all of this must stay so: time in which devices that have not asked yet can.
        deadline: seconds after the wave's opening by which it must be so; 0 for no end.
        gap: most seconds without an answer at the switch, on average.
        latency, memory: most times what the previous version took on the same device, on average.
        errors: largest share of requests answered with an error in the trial.
        agreement: smallest share of answers that agree with the previous version's.
        class_shift: largest total variation distance between the classes that both versions found.
        score_shift: largest population stability index between the confidences of both.
        compared: answers that must have been compared before any of the three is judged.
        shadow: share of a device's requests that the version answers unseen before its trial; 0 for none, or, where answers are to
            be compared, for :data:`SHADOW`.
        shadow_answers, shadow_seconds: compared, or gone by, after which its trial begins.
        on_failure: what a gate that fails does.
        approval: wait for an operator before the next wave, however good all looks.

    """

    quorum: Annotated[int, Meta(ge=1, le=1 << 31)] = 1
    seen: Share = 0.9
    success: Share = 0.95
    failure: Share = 0.05
    soak: Seconds = 300.0
    deadline: Seconds = 0.0
    gap: Seconds | None = None
    latency: Times | None = None
    memory: Times | None = None
    errors: Share | None = None
    agreement: Share | None = None
    class_shift: Share | None = None
    score_shift: Annotated[float, Meta(ge=0, le=1e3)] | None = None
    compared: Annotated[int, Meta(ge=1, le=1 << 31)] = 20
    shadow: Share = 0.0
    shadow_answers: Annotated[int, Meta(ge=1, le=1 << 31)] = 200
    shadow_seconds: Seconds = 3600.0
    on_failure: Literal["pause", "rollback"] = "rollback"
    approval: bool = False

    @property
    def compares(self) -> bool:
        """Whether it looks at what both versions answered."""
        return any(limit is not None for limit in (self.agreement, self.class_shift, self.score_shift))

    def conditions(self) -> dict[str, Any] | None:
        """What a device itself asks of a version, in the words of ``desired``; None for nothing but to live."""
        found = {"errors": self.errors, "latency": self.latency, "agreement": self.agreement}
        asked: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
        if self.agreement is not None:
            asked["compared"] = self.compared
        share = self.shadow or (SHADOW if self.compares else 0.0)
        if share:
            asked["shadow"] = {"share": share, "answers": self.shadow_answers, "seconds": self.shadow_seconds}
        return asked or None


class Tally(Struct, frozen=True):
    """What the devices of one wave have said.

    Attributes:
        admitted: were given the version.
        confirmed: run it, past its trial.
        failed: refused it, or went back.
        ready: have it beside, tried out, and wait for the switch.
        bytes, money: moved for it, or foreseen for devices that are under way.
        requests, errors: answered in trials, and of these with an error.
        compared, agreed: answers that were compared with the previous version's, and of these the same.
        latency, memory, gap: sums over devices: of the ratio to the previous version, of the same, of seconds.
        timed, weighed, switched: devices in these sums.
        classes: findings of the previous version and of this one, by class; a class "" stands for all that are not told apart.
        scores_before, scores_after: findings of either by confidence, in even bins.

    """

    admitted: int = 0
    confirmed: int = 0
    failed: int = 0
    requests: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    latency: float = 0.0
    memory: float = 0.0
    gap: float = 0.0
    timed: int = 0
    weighed: int = 0
    switched: int = 0
    ready: int = 0
    bytes: int = 0
    money: float = 0.0
    classes: dict[str, tuple[float, float]] = {}
    scores_before: tuple[float, ...] = ()
    scores_after: tuple[float, ...] = ()

    @property
    def decided(self) -> int:
        return self.confirmed + self.failed


def broken(gate: Gate, tally: Tally, last: str = "") -> str | None:
    """What in a wave is so bad that nobody has to wait for more, in one sentence with its figures; ``last`` says why the newest
    device failed.
    """
    checks = (
        (gate.errors, tally.errors, tally.requests, gate.compared, "of requests in trials failed", 1),
        (gate.gap, tally.gap, tally.switched, gate.quorum, "seconds without an answer at the switch", 1),
        (gate.latency, tally.latency, tally.timed, gate.quorum, "times the previous version's latency", 1),
        (gate.memory, tally.memory, tally.weighed, gate.quorum, "times the previous version's memory", 1),
        (gate.agreement, tally.agreed, tally.compared, gate.compared, "of answers agree with the previous version's", -1),
    )  # fmt: skip
    for limit, total, count, least, words, sign in checks:
        if limit is None or count < least:
            continue
        found = total / count
        if sign * found > sign * limit:
            many = f"{count} answers" if words.startswith("of ") else f"{count} devices"
            return f"{found:.3g} {words} ({many}); {'at most' if sign > 0 else 'at least'} {limit:.3g} is asked"
    shifted = _shifted(gate, tally)
    if shifted is not None:
        return shifted
    of = max(tally.decided + tally.ready, gate.quorum)
    if tally.failed and tally.failed > part(gate.failure, of):
        return (
            f"{tally.failed} of {tally.decided + tally.ready} devices failed; at most {gate.failure * 100:.3g} % of them may"
            + (f" ({last})" if last else "")
        )
    return None


def _shifted(gate: Gate, tally: Tally) -> str | None:
    """What both versions found lies too far apart, in words; None if it does not, or too little is known."""
    if tally.compared < gate.compared:
        return None
    apart = round(sketch.total_variation(tally.classes), 9)  # floats make 0.20000000000000001 of a fifth
    if gate.class_shift is not None and apart > gate.class_shift:
        name, before, after = sketch.moved(tally.classes)
        most = f"{name or 'other classes'} {before * 100:.3g} % before, {after * 100:.3g} % now"
        return (
            f"{apart:.3g} of findings are of other classes than the previous version's ({most}); "
            f"at most {gate.class_shift:.3g} is asked"
        )
    index = sketch.stability_index(tally.scores_before, tally.scores_after)
    if gate.score_shift is not None and index > gate.score_shift:
        means = " before, ".join(f"{_mean(bins):.2f}" for bins in (tally.scores_before, tally.scores_after))
        return (
            f"confidences have a stability index of {index:.3g} against the previous version's (on average {means} now); "
            f"at most {gate.score_shift:.3g} is asked"
        )
    return None


def _mean(bins: tuple[float, ...]) -> float:
    """The mean of a histogram over 0 to 1, from the middles of its bins."""
    return sum((number + 0.5) / len(bins) * count for number, count in enumerate(bins)) / (sum(bins) or 1.0)


def lacks_comparison(gate: Gate, tally: Tally) -> str | None:
    """How many answers must still be compared, in words; None if enough were."""
    if gate.compares and tally.compared < gate.compared:
        return f"{tally.compared} answers were compared with the previous version's; {gate.compared} must be"
    return None


def part(share: float, count: int) -> float:
    """``share`` of ``count`` as people mean it: 55 % of 100 is 55, not the 55.00000000000001 that floats make of it."""
    return round(share * count, 6)


def counts_of(said: Sketch | None, known: Iterable[str]) -> dict[str, float]:
    """A device's sketch as counts by name, fit to be added to those of others.

    Args:
        said: the sketch; None for none.
        known: classes that the wave tells apart already; beyond :data:`MOST_CLASSES` there are no new ones.

    """
    if said is None:
        return {}
    told = {*known}
    found: dict[str, float] = {}
    for name, *pair in said.classes:
        kept = name if name in told or len(told) < MOST_CLASSES else REST
        told.add(kept)
        for side, count in zip(_SIDES, pair, strict=True):
            key = f"class {side} {kept}"
            found[key] = found.get(key, 0.0) + min(count, MOST_FOUND)
    for side, bins in zip(_SIDES, (said.before, said.after), strict=True):
        for number, count in enumerate(bins):
            found[f"score {side} {number}"] = float(min(count, MOST_FOUND))
    return {key: value for key, value in found.items() if value}


def sketched(counts: Mapping[str, float]) -> dict[str, Any]:
    """A tally's members that such counts amount to; other names are passed over."""
    classes: dict[str, tuple[float, float]] = {}
    bins = {side: [0.0] * BINS for side in _SIDES}
    for key, value in counts.items():
        kind, _, rest = key.partition(" ")
        side, _, name = rest.partition(" ")
        if kind == "class":
            before, after = classes.get(name, (0.0, 0.0))
            classes[name] = (before + value, after) if side == "before" else (before, after + value)
        elif kind == "score":
            bins[side][int(name)] += value
    if not classes:
        return {}
    return {"classes": classes, "scores_before": tuple(bins["before"]), "scores_after": tuple(bins["after"])}
