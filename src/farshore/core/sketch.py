"""What two versions find on the same inputs, in a few hundred bytes: how often each class, and how surely. Pure.

A sketch is counts and nothing else, so that those of many devices add up to the fleet's. Distances between its two halves say
whether a new version sees another world than the one before it, without a single picture:

* of classes, the total variation distance, half the sum of |p - q|: the share of findings that would have to change class. It is
  at least as large over all classes as over those that a sketch keeps apart, so what it tells is never too much;
* of confidences, the population stability index, the sum of (q - p) * ln(q / p) over ten bins (N. Siddiqi, *Credit Risk Scorecards*,
  2006; the same as Jeffreys' divergence). By custom below 0.1 little has changed, and above 0.25 much. Half a finding is added to
  each bin, so that an empty one is no infinity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from farshore.core.manifest import Count

BINS = 10
"""Even bins of confidence, from 0 to 1."""

CLASSES = 12
"""Classes that a sketch tells apart."""

REST = ""
"""The name under which all other classes are counted together."""

NOTHING = "(nothing)"
"""The class of an answer in which nothing was found."""

_HALF = 0.5

Class = Annotated[str, Meta(max_length=64)]
Bins = Annotated[tuple[Count, ...], Meta(max_length=BINS)]
Findings = Sequence[tuple[str, float]]
"""What was found in one answer: class and confidence (0 to 1) of each."""


class Sketch(Struct, frozen=True, omit_defaults=True):
    """Findings of two versions on the same inputs.

    Attributes:
        classes: name, findings of the version before, findings of the new one; at most :data:`CLASSES` and :data:`REST`.
        before, after: findings of either by confidence, in :data:`BINS` bins; empty for none.

    """

    classes: Annotated[tuple[tuple[Class, Count, Count], ...], Meta(max_length=CLASSES + 1)] = ()
    before: Bins = ()
    after: Bins = ()


class Counts:
    """Counts findings as they come, of more classes than a sketch tells.

    Args:
        most: classes that are counted apart, so that strange names cannot fill memory.

    """

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._classes: dict[str, list[int]] = {}
        self._bins = ([0] * BINS, [0] * BINS)

    def add(self, before: Findings, after: Findings) -> None:
        """Count what either version found in one input."""
        for side, findings in enumerate((before, after)):
            for name, score in findings or ((NOTHING, math.nan),):
                key = name[:64] if name[:64] in self._classes or len(self._classes) < self._most else REST
                self._classes.setdefault(key, [0, 0])[side] += 1
                if 0.0 <= score <= 1.0:
                    self._bins[side][min(int(score * BINS), BINS - 1)] += 1

    def told(self) -> Sketch | None:
        """The sketch so far: the commonest classes, the others together; None if nothing was counted."""
        if not self._classes:
            return None
        named = sorted(((name, pair[0], pair[1]) for name, pair in self._classes.items() if name != REST), key=_rank)
        kept, rest = named[:CLASSES], named[CLASSES:]
        one, other = self._classes.get(REST, (0, 0))
        others = one + sum(entry[1] for entry in rest), other + sum(entry[2] for entry in rest)
        classes = (*kept, (REST, *others)) if any(others) else tuple(kept)
        before, after = (tuple(bins) if any(bins) else () for bins in self._bins)
        return Sketch(classes, before, after)


def total_variation(classes: Mapping[str, tuple[float, float]]) -> float:
    """How far two distributions over classes lie apart, 0 to 1; 0 where either is empty.

    Args:
        classes: by name, findings before and after.

    """
    sums = [sum(pair[side] for pair in classes.values()) for side in (0, 1)]
    if not all(sums):
        return 0.0
    return 0.5 * sum(abs(one / sums[0] - other / sums[1]) for one, other in classes.values())


def stability_index(before: Sequence[float], after: Sequence[float]) -> float:
    """How far two histograms of confidence lie apart, from 0; 0 where either is empty."""
    if not sum(before) or not sum(after):
        return 0.0
    pairs = [(one + _HALF, other + _HALF) for one, other in zip(before, after, strict=True)]
    sums = [sum(pair[side] for pair in pairs) for side in (0, 1)]
    shares = [(one / sums[0], other / sums[1]) for one, other in pairs]
    return sum((new - old) * math.log(new / old) for old, new in shares)


def moved(classes: Mapping[str, tuple[float, float]]) -> tuple[str, float, float]:
    """The class whose share changed most: its name, its share before and after."""
    sums = [sum(pair[side] for pair in classes.values()) or 1.0 for side in (0, 1)]
    shares = {name: (one / sums[0], other / sums[1]) for name, (one, other) in classes.items()}
    name = max(sorted(shares), key=lambda each: abs(shares[each][1] - shares[each][0]), default=REST)
    return (name, *shares.get(name, (0.0, 0.0)))


def _rank(entry: tuple[str, int, int]) -> tuple[int, str]:
    return -(entry[1] + entry[2]), entry[0]


def names(classes: Iterable[tuple[str, int, int]]) -> dict[str, tuple[float, float]]:
    """A sketch's classes by name."""
    found: dict[str, tuple[float, float]] = {}
    for name, before, after in classes:
        one, other = found.get(name, (0.0, 0.0))
        found[name] = one + before, other + after
    return found
