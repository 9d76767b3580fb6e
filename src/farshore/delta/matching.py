"""Which bytes of the target a base holds, and which of its tensors lets expect which of the target's."""

from __future__ import annotations

import hashlib
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
        """All values, relative to the zero point if there is one for all."""
        values = reals_of(GRIDS[BY_NAME[self.segment.dtype]], self.bytes, self.count)
        quant = self.segment.quant
        return values - quant.zero_points[0] if quant and len(set(quant.zero_points)) == 1 else values

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


def _window_hashes(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A hash of the WINDOW bytes from each position on."""
    words = np.zeros(len(data) - 7, np.uint64)
    for k in range(8):
        words |= data[k : len(data) - 7 + k].astype(np.uint64) << np.uint64(8 * k)
    length = len(words) - (WINDOW - 8)
    mixed = np.zeros(length, np.uint64)
    with np.errstate(over="ignore"):
        for k in range(0, WINDOW, 8):
            mixed = (mixed ^ words[k : k + length]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
    return mixed


def _anchors(data: memoryview, step: int = 1 << 22) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """About every 64th place, chosen by what stands there, and its hash."""
    hashes, places = [], []
    for start in range(0, max(len(data) - WINDOW, 0), step):
        chunk = np.frombuffer(data[start : start + step + WINDOW - 1], np.uint8)
        if len(chunk) < WINDOW:
            break
        mixed = _window_hashes(chunk)
        chosen = np.flatnonzero(mixed >> np.uint64(58) == 0)
        hashes.append(mixed[chosen])
        places.append(chosen + start)
    if not hashes:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return np.concatenate(hashes), np.concatenate(places)


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
    """Long ranges of the target that a base holds somewhere, rising, disjoint: (offset, span)."""
    known: dict[int, tuple[int, int]] = {}
    for number, base in enumerate(bases):
        hashes, places = _anchors(base)
        for h, place in zip(hashes.tolist(), places.tolist(), strict=True):
            known.setdefault(h, (number, place))
    hashes, places = _anchors(target)
    done = 0
    for h, place in zip(hashes.tolist(), places.tolist(), strict=True):
        if place < done or h not in known:
            continue
        number, start = known[h]
        back = _equal_length(target[done:place], bases[number][:start], backwards=True)
        length = back + _equal_length(target[place:], bases[number][start:])
        if length >= least:
            yield place - back, Span(number, start - back, length)
            done = place - back + length
