"""Patches that mean harm, or came to harm: a clear refusal or the exact target, in bounded time and memory; never another file."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.attacks.patch_mutants import MEMORY, SECONDS, Case, judge
from tests.delta.models import file_of, moved, quantised, weights

from farshore.core.errors import FarshoreError
from farshore.delta import decode, encode, kernel

BATCH = 2500
TEXT = b"the quick brown fox jumps over the lazy dog, "


def pairs():
    """(bases, target, another target of the same size): every way in which a patch says something."""
    base, rng = weights(1), np.random.default_rng(3)
    for dtype in ("float32", "float16", "int8"):
        held = weights(1, dtype=dtype)
        yield [file_of(held, "onnx")], *(file_of(moved(held, seed), "onnx") for seed in (2, 3))
    held = [file_of(base, "safetensors"), file_of(weights(9), "safetensors")]
    mixed = [
        moved(base, seed) | {"tied": weights(9)["body.weight"], "again": moved(base, seed)["body.weight"]}
        for seed in (4, 5)
    ]
    yield held, *(file_of(tensors, "safetensors") for tensors in mixed)
    yield [file_of(base, "onnx")], quantised(base), quantised(moved(base, 6))
    yield (
        [file_of(base, "tflite")],
        *(file_of({n: a.astype(np.float16) for n, a in moved(base, s).items()}, "tflite") for s in (7, 8)),
    )
    noise = rng.bytes(900)
    yield [TEXT * 20 + noise], *(noise + TEXT * 9 + rng.bytes(30) + TEXT * 3 for _ in range(2))
    yield [], *(rng.bytes(400) + TEXT * 4 for _ in range(2))


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    """An honest patch of each kind at each level."""
    made = []
    for bases, target, other in pairs():
        assert len(target) == len(other)
        for level in ("fast", "default", "max"):
            patches = [b"".join(encode(wanted, bases, level=level)) for wanted in (target, other)]
            made.append(Case(tuple(bases), patches[0], target, patches[1], other))
    return made


def judged(folder, cases, first, count):
    """What became of mutants, judged in a process of their own; how it ended is part of the verdict."""
    (folder / "cases").write_bytes(pickle.dumps(cases))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.attacks.patch_mutants", folder / "cases", folder / "mark", str(first), str(count)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, (
        f"mutant {(folder / 'mark').read_text().strip()} ended the process ({done.returncode}): {done.stderr[-2000:]}"
    )
    return json.loads(done.stdout)


def check(told):
    assert told["slowest"][0] < SECONDS
    assert told["grown"] < MEMORY
    assert set(told["verdicts"]) <= {"exact", "corrupt", "invalid", "too_large"}


needs_limits = pytest.mark.skipif(
    kernel._kernel is None or not Path("/proc/self/status").exists(),
    reason="needs the kernel, and limits as Linux has them",
)


@needs_limits
def test_mutants_are_refused_or_exact(tmp_path, cases):
    told = judged(tmp_path, cases, 0, 1000)
    check(told)
    assert told["verdicts"]["corrupt"] and told["verdicts"]["invalid"], "forgeries reach every door"


@needs_limits
@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_mutants(tmp_path, cases, record_property):
    verdicts, slowest, grown = Counter(), (0.0, 0), 0
    for first in range(1000, 101_000, BATCH):
        told = judged(tmp_path, cases, first, BATCH)
        check(told)
        verdicts += Counter(told["verdicts"])
        slowest, grown = max(slowest, tuple(told["slowest"])), max(grown, told["grown"])
    assert verdicts.total() == 100_000
    print(
        f"\n{dict(verdicts)}; slowest {slowest[0]:.2f} s (mutant {slowest[1]}); memory grew by {grown >> 10} kB at most"
    )


def test_cut_off_anywhere_is_refused(cases):
    """A cut leaves less than the whole, also where it falls between two frames."""
    for case in sorted(cases, key=lambda case: len(case.patch))[:12]:
        for size in range(len(case.patch)):
            with pytest.raises(FarshoreError):
                b"".join(decode(case.patch[:size], case.bases))


def test_the_judge_can_tell(cases):
    """A patch is exact; one that leads elsewhere than it is said to is not."""
    for case in cases:
        assert judge(case.patch, case) == "exact"
        assert judge(case.sibling, case) == "exact"
        with pytest.raises(AssertionError, match="another file"):
            judge(case.patch, replace(case, target=case.other))
