"""Which bytes of the target a base holds, and which of its tensors lets expect which of the target's."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from farshore.delta.frames import Span
from farshore.delta.grids import BY_NAME, GRIDS, Reals, reals_of
from farshore.formats import Role, Segment, SegmentMap

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LEAST_VALUES = 8
LEAST_BYTES = 32
SAMPLE = 4096
WINDOW = 32
"""Bytes that an anchor for copies looks at."""

STEP = 1 << 18
"""Bytes that are looked at for anchors at one time."""

BITS = 6
"""Of 2^BITS places one is an anchor, until there are too many."""

MOST_ANCHORS = 1 << 19
"""Anchors of all bases that are remembered."""


def modelled(segment: Segment) -> bool:
    """Whether a segment is a matrix of numbers worth a model of its own."""
    if segment.role is Role.REST or segment.dtype not in BY_NAME or segment.length < LEAST_BYTES:
        return False
    count = int(np.prod(segment.shape, dtype=object)) if segment.shape else 1
    plain_bytes = segment.dtype == "uint8" and len(segment.shape) == 1 and segment.quant is None
    return count >= LEAST_VALUES and not plain_bytes


@dataclass(eq=False)
class Tensor:
    """A tensor of a file, with what matching wants to know of it."""

    file: int
    data: memoryview
    segment: Segment
    digest: bytes = field(init=False)
    count: int = field(init=False)
    _sample: Reals | None = field(default=None, init=False)
    _reals: Reals | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(self.bytes).digest()
        self.count = int(np.prod(self.segment.shape, dtype=np.int64)) if self.segment.shape else 1

    @property
    def bytes(self) -> memoryview:
        """Its bytes."""
        return self.data[self.segment.offset : self.segment.offset + self.segment.length]

    def span(self) -> Span:
        """Where it is."""
        return Span(self.file, self.segment.offset, self.segment.length)

    def reals(self) -> Reals:
        """All values, relative to the zero point if there is one for all; not to be changed."""
        if self._reals is not None:
            return self._reals
        values = reals_of(GRIDS[BY_NAME[self.segment.dtype]], self.bytes, self.count)
        quant = self.segment.quant
        values = values - quant.zero_points[0] if quant and len(set(quant.zero_points)) == 1 else values
        if self.count <= SAMPLE:  # vectors are looked at by every other one
            self._reals = values
        return values

    def sample(self) -> Reals:
        """Some thousand values, evenly spread, centred, of length one (zeros if all are equal)."""
        if self._sample is None:
            values = self.reals()
            if len(values) > SAMPLE:
                values = values[np.linspace(0, len(values) - 1, SAMPLE).astype(np.int64)]
            values = values - values.mean()
            norm = float(np.sqrt((values * values).sum()))
            self._sample = values / norm if 0 < norm < 1e30 else np.zeros(len(values))
        return self._sample


def tensors_of(number: int, data: ReadableBuffer, segments: SegmentMap) -> list[Tensor]:
    """The tensors of a file that are worth a model."""
    view = memoryview(data).cast("B")
    return [Tensor(number, view, segment) for segment in segments.segments if modelled(segment)]


def same(target: Sequence[Tensor], held: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    """Tensors that a base holds byte for byte: of several, the one of that name, else the one after the last."""
    by_digest: dict[tuple[bytes, int], list[Tensor]] = defaultdict(list)
    for tensor in held:
        by_digest[tensor.digest, tensor.segment.length].append(tensor)
    found: dict[Tensor, Tensor] = {}
    last = 0
    for tensor in target:
        if candidates := by_digest.get((tensor.digest, tensor.segment.length)):
            best = min(
                candidates,
                key=lambda c: (c.segment.name != tensor.segment.name, abs(c.segment.offset - last), c.file),
            )  # fmt: skip
            found[tensor] = best
            last = best.segment.offset + best.segment.length
    return found


def kin(target: Sequence[Tensor], held: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    """For changed tensors, the one of a base that lets expect them best: as many values, alike; else by name."""
    by_count: dict[int, list[Tensor]] = defaultdict(list)
    by_name: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in held:
        by_count[tensor.count].append(tensor)
        by_name[tensor.segment.name].append(tensor)
    used: dict[Tensor, int] = defaultdict(int)
    found: dict[Tensor, Tensor] = {}
    for tensor in target:
        candidates = by_count.get(tensor.count, [])
        if candidates:
            best = max(candidates, key=lambda c: _likeness(tensor, c, used[c]))
        elif named := [c for c in by_name.get(tensor.segment.name, []) if _stackable(tensor.segment, c.segment)]:
            best = named[0]
        else:
            continue
        found[tensor] = best
        used[best] += 1
    return found


def _likeness(tensor: Tensor, other: Tensor, used: int) -> float:
    score = abs(float((tensor.sample() * other.sample()).sum())) if tensor.count >= 16 else 0.0
    named = tensor.segment.name == other.segment.name
    return (
        score + (0.15 if named else 0.0) + (0.02 if tensor.segment.dtype == other.segment.dtype else 0.0)
        + (0.01 if tensor.segment.shape == other.segment.shape else 0.0)
        + (0.005 if tensor.segment.role == other.segment.role else 0.0) - 0.03 * min(used, 3)
    )  # fmt: skip


def _stackable(one: Segment, other: Segment) -> bool:
    """Whether two tensors have rows of the same kind, only not as many."""
    return (
        one.dtype == other.dtype and len(one.shape) == len(other.shape) >= 1 and one.shape[1:] == other.shape[1:]
        and one.shape[0] > 0 and other.shape[0] > 0
    )  # fmt: skip


def row_sources(target: Reals, base: Reals) -> tuple[int, ...]:
    """For each row of the target the most alike row of the base, -1 where none is."""
    norms = [np.sqrt((m * m).sum(axis=1)) + 1e-30 for m in (target, base)]
    alike = (target @ base.T) / norms[0][:, None] / norms[1][None]
    if target.shape[1] == 1:
        return tuple(row if row < len(base) else -1 for row in range(len(target)))
    best = alike.argmax(axis=1)
    return tuple(int(b) if alike[r, b] > 0.4 else -1 for r, b in enumerate(best))


# ---- moved bytes -------------------------------------------------------------------------------------------------


def _window_hashes(data: memoryview) -> NDArray[np.uint64]:
    """A hash of the WINDOW bytes from each position on."""
    words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,)).copy()
    length = len(words) - (WINDOW - 8)
    mixed = np.zeros(length, np.uint64)
    with np.errstate(over="ignore"):
        for k in range(0, WINDOW, 8):
            mixed ^= words[k : k + length]
            mixed *= np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
    return mixed


def _anchors(data: memoryview, start: int, bits: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """About every 2^bits-th place of the STEP bytes from `start` on, chosen by what stands there, and its hash."""
    chunk = data[start : start + STEP + WINDOW - 1]
    if len(chunk) < WINDOW:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    mixed = _window_hashes(chunk)
    places = np.flatnonzero(mixed >> np.uint64(64 - bits) == 0)
    hashes = mixed[places]
    first = np.ones(len(places), bool)  # of a run of one byte or a short pattern: the others would tell no more
    first[1:] = (hashes[1:] != hashes[:-1]) | (np.diff(places) > WINDOW)
    return hashes[first], places[first] + start


class _Index:
    """The first place in the bases of each anchor; never more than MOST_ANCHORS: the more bytes, the sparser.

    Args:
        bases: to look for copies in.

    """

    def __init__(self, bases: Sequence[memoryview]) -> None:
        self.bits = BITS
        self._hashes, self._places = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._starts = np.cumsum([0, *map(len, bases)])[:-1].tolist()
        found, waiting = [(self._hashes, self._places)], 0
        for base, before in zip(bases, self._starts, strict=True):
            for start in range(0, len(base), STEP):
                hashes, places = _anchors(base, start, self.bits)
                found.append((hashes, places + before))
                waiting += len(places)
                if waiting > MOST_ANCHORS // 2:
                    self._take(found)
                    found, waiting = [(self._hashes, self._places)], 0
        self._take(found)

    def _take(self, found: Sequence[tuple[NDArray[np.uint64], NDArray[np.int64]]]) -> None:
        hashes, first = np.unique(np.concatenate([one for one, _ in found]), return_index=True)
        places = np.concatenate([one for _, one in found])[first]
        while len(hashes) > MOST_ANCHORS:  # they are sorted, so those that a sparser choice leaves come first
            self.bits += 1
            left = int(np.searchsorted(hashes, np.uint64(1 << (64 - self.bits))))
            hashes, places = hashes[:left].copy(), places[:left].copy()
        self._hashes, self._places = hashes, places

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """For each anchor its place in the bases one after another, -1 where they do not hold it."""
        if not len(self._hashes):
            return np.full(len(hashes), -1)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[at] == hashes, self._places[at], -1)

    def place(self, place: int) -> tuple[int, int]:
        """A place in the bases one after another as a base's number and the offset in it."""
        number = bisect_right(self._starts, place) - 1
        return number, place - self._starts[number]


def _equal_length(one: memoryview, other: memoryview, *, backwards: bool = False) -> int:
    """How many bytes are equal from the start (or end) of both."""
    most, done, step = min(len(one), len(other)), 0, 256
    while done < most:
        size = min(step, most - done)
        x, y = (
            (v[len(v) - done - size : len(v) - done] if backwards else v[done : done + size]) for v in (one, other)
        )  # fmt: skip
        if x == y:
            done += size
            step = min(step * 2, 1 << 22)
            continue
        unequal = np.flatnonzero(np.frombuffer(x, np.uint8) != np.frombuffer(y, np.uint8))
        return done + (size - 1 - int(unequal[-1]) if backwards else int(unequal[0]))
    return done


def moved(target: memoryview, bases: Sequence[memoryview], least: int) -> Iterator[tuple[int, Span]]:
    """Long ranges of the target that a base holds somewhere, rising, disjoint: (offset, span).

    It takes at most 64 MiB, whatever the sizes: bytes are looked at STEP by STEP, and the bases' anchors are bounded.
    """
    index = _Index(bases)
    done = 0
    for begin in range(0, len(target), STEP):
        if begin + STEP <= done:
            continue
        hashes, places = _anchors(target, begin, index.bits)
        found = index.find(hashes)
        held = (found >= 0) & (places >= done)
        for place, at in zip(places[held].tolist(), found[held].tolist(), strict=True):
            if place < done:
                continue
            number, start = index.place(at)
            back = _equal_length(target[done:place], bases[number][:start], backwards=True)
            length = back + _equal_length(target[place:], bases[number][start:])
            if length >= least:
                yield place - back, Span(number, start - back, length)
                done = place - back + length
