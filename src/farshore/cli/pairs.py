"""Version pairs of models, measured: patches of every level beside other tools, every patch applied and compared."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from farshore import delta
from farshore.cli import rivals
from farshore.core.errors import FarshoreError, NotFound
from farshore.delta import PatchInfo

SLACK = 200
"""Bytes by which a patch may be larger than the smallest of the others and count as equal: it carries digests and checks."""

SHORT = {
    "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "uint8": "int8", "int4": "int4", "uint4": "int4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """What is held, and what is wanted."""

    name: str
    bases: tuple[Path, ...]
    target: Path


@dataclass(frozen=True, slots=True)
class Patched:
    """A patch that was applied and compared.

    Attributes:
        size: bytes.
        made, applied: MB of the target per second of one core's time.

    """

    size: int
    made: float
    applied: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A pair with its figures.

    Attributes:
        pair: name.
        kind: class of change (see :func:`kind_of`).
        a, b: bytes held and wanted.
        others: bytes by other tool.
        ours: by level.

    """

    pair: str
    kind: str
    a: int
    b: int
    others: dict[str, int]
    ours: dict[str, Patched]

    @property
    def best(self) -> tuple[int, str]:
        """The smallest of the general tools, and which."""
        return min((size, tool) for tool, size in self.others.items() if tool not in rivals.NOT_GENERAL)

    def ratio(self, level: str) -> float:
        """Our bytes over the best tool's."""
        return self.ours[level].size / max(self.best[0], 1)


def find(folder: Path, only: Sequence[str] = (), *, without_base: bool = False) -> list[Pair]:
    """The pairs in a folder: ``PAIR/a/`` holds nothing, one file or several, ``PAIR/b/`` what is wanted.

    Args:
        folder: of pairs.
        only: names; all if empty.
        without_base: as if nothing were held.

    Raises:
        NotFound: no folder, or no pairs in it.

    """
    if not folder.is_dir():
        raise NotFound(f"no folder {str(folder)!r}")
    found = []
    for place in sorted(path.parent for path in folder.glob("*/b")):
        if only and place.name not in only:
            continue
        held = [] if without_base else sorted(path for path in (place / "a").glob("*") if path.is_file())
        wanted = sorted(path for path in (place / "b").glob("*") if path.is_file())
        for target in wanted:
            name = place.name if len(wanted) == 1 else f"{place.name}/{target.name}"
            found.append(Pair(name, tuple(held), target))
    if not found:
        raise NotFound(f"no pairs in {folder}: PAIR/a/FILE and PAIR/b/FILE are needed")
    return found


def measure(pair: Pair, levels: Sequence[str], cache: Path | None = None) -> Measured:
    """Make and apply a patch of each level, and let the other tools have a try.

    Args:
        pair: files; read whole.
        levels: of the codec.
        cache: see :func:`rivals.sizes`.

    Raises:
        FarshoreError: a patch led to other bytes.

    """
    bases, target = [base.read_bytes() for base in pair.bases], pair.target.read_bytes()
    ours = {level: _patched(bases, target, level) for level in levels}
    known = ours["fast"][1] if "fast" in ours else delta.info(b"".join(delta.encode(target, bases, level="fast")))
    held = b"".join(bases)
    return Measured(
        pair.name, kind_of(known), len(held), len(target), rivals.sizes(held, target, cache),
        {level: one for level, (one, _) in ours.items()},
    )  # fmt: skip


def _patched(bases: list[bytes], target: bytes, level: str) -> tuple[Patched, PatchInfo]:
    began = time.process_time()
    data = b"".join(delta.encode(target, bases, level=level))
    between = time.process_time()
    if b"".join(delta.decode(data, bases)) != target:
        raise FarshoreError("a patch led to other bytes than it should: this is a fault of Farshore, report it")
    done = time.process_time()
    rate = [len(target) / 1e6 / max(seconds, 1e-6) for seconds in (between - began, done - between)]
    return Patched(len(data), *rate), delta.info(data)


def kind_of(patch: PatchInfo) -> str:
    """What happened between base and target, by what a patch of level fast says: from there come the classes of the means.

    Unchanged tensors are copied; the rest is expected from tensors of the base, the nearer the less they were trained.
    """
    if not patch.bases:
        return "no base"
    pieces = [part for frame in patch.frames for part in frame.parts if part.what]
    changed = sum(part.length for part in pieces)
    matrices = [part for part in pieces if " 1x" not in part.what]
    if changed < 0.1 * patch.target_size:
        trained = sum(part.length for part in matrices if part.near >= 1)
        return "head" if 2 * trained > changed else "metadata, re-export"
    weights: dict[tuple[str, str], int] = defaultdict(int)
    for part in pieces:
        weights[part.what.split()[0], part.source] += part.length
    (dtype, source), _ = max(weights.items(), key=lambda entry: entry[1])
    near = _median([(part.near, part.length) for part in pieces if part.source])
    if source and source != dtype:
        return "other precision, same weights" if near >= 8 else "other precision, fine-tuned"
    if 2 * sum(part.length for part in pieces if part.zeros) > changed:
        return "pruned"
    return f"{'fine-tuned' if near >= 1 else 'retrained'} {SHORT.get(dtype, dtype)}"


def _median(weighted: list[tuple[int, int]]) -> int:
    """The value in the middle of the weights."""
    rest = sum(weight for _, weight in weighted) / 2
    for value, weight in sorted(weighted):
        rest -= weight
        if rest <= 0:
            return value
    return 0


def means(rows: Sequence[Measured], levels: Sequence[str]) -> Iterator[tuple[str, int, dict[str, float]]]:
    """For each class and for all: how many pairs, and the geometric mean of the ratios by level."""
    kinds = sorted({row.kind for row in rows})
    for kind in [*kinds, *(["all"] if len(kinds) > 1 else [])]:
        of = [row for row in rows if kind in {row.kind, "all"}]
        yield (
            kind,
            len(of),
            {level: math.exp(sum(math.log(max(row.ratio(level), 1e-9)) for row in of) / len(of)) for level in levels},
        )


def larger(rows: Sequence[Measured], level: str) -> list[str]:
    """Pairs for which another tool is clearly smaller."""
    return [row.pair for row in rows if row.ours[level].size > row.best[0] + SLACK]
