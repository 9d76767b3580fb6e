"""Judges mutated patches in a process that may use little: ``python -m tests.attacks.patch_mutants CASES MARK FIRST COUNT``.

A mutant is named by its number alone, so that one that does harm is found again. Some are damage as a link or a disk does it;
most are forgeries whose checksums are right again, so that they reach tables, models and the order of parts.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from farshore.core.errors import Corrupt, FarshoreError
from farshore.delta import decode
from farshore.delta.container import Frame, Header, Kind, pack, put, unpack, write_frame, write_header
from farshore.delta.decoder import Stream

MEMORY = 128 << 20
"""Address space beyond what the process has before it begins: the format's 64 MiB, the caller's copies, the allocator's slack."""

SECONDS = 15.0
"""Processor time of one mutant: that of the most work which the format grants patches of these sizes, on a slow machine."""


@dataclass(frozen=True)
class Case:
    """An honest patch, what it needs and what it makes; and the patch to another target of the same size."""

    bases: tuple[bytes, ...]
    patch: bytes
    target: bytes
    sibling: bytes
    other: bytes


@dataclass
class Open:
    """A patch taken apart, to be put together wrongly."""

    header: Header
    frames: list[Frame]


def opened(patch: bytes) -> Open:
    stream = Stream(patch)
    return Open(stream.header(), list(stream.frames()))


def closed(patch: Open) -> bytes:
    return write_header(patch.header) + b"".join(map(write_frame, patch.frames))


# ---- damage: bytes as they are ------------------------------------------------------------------------------------


def flipped(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwritten(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.randrange(1, 40)] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(rng.randrange(1, 40))])


def cut(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : rng.choice([len(data), at + rng.randrange(1, 30)])]


def doubled(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 200)]


DAMAGE = [flipped, overwritten, cut, doubled]


# ---- forgery: the checksums are right again -----------------------------------------------------------------------


def numbers_changed(rng: random.Random, patch: Open, _: Open) -> None:
    """A table of numbers that says something else."""
    k = rng.randrange(len(patch.frames))
    frame = patch.frames[k]
    reader, numbers = unpack(frame), []
    with suppress(Corrupt):  # another forgery may have been here before
        while reader.at < len(reader.data):
            numbers.append(reader.number())
    if not numbers:
        return
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(numbers))
        old = numbers[at]
        numbers[at] = rng.choice([
            old + 1, max(old - 1, 0), old ^ 1, old + 2, old * 2, 0, 1, 2, rng.randrange(300), rng.randrange(1 << 20),
            (1 << rng.randrange(63)) - 1, rng.choice(numbers),
        ])  # fmt: skip
    table = bytearray()
    for number in numbers:
        put(table, number % (1 << 63))
    stored = bytes(table) if rng.random() < 0.8 else pack(bytes(table))
    patch.frames[k] = replace(frame, table=stored, table_size=len(table))


def table_damaged(rng: random.Random, patch: Open, _: Open) -> None:
    k = rng.randrange(len(patch.frames))
    table = bytearray(patch.frames[k].table)
    if table:
        rng.choice(DAMAGE)(rng, table)
        size = rng.choice([patch.frames[k].table_size, len(table), rng.randrange(1 << 20)])
        patch.frames[k] = replace(patch.frames[k], table=bytes(table[:size]), table_size=size)


def payload_damaged(rng: random.Random, patch: Open, _: Open) -> None:
    k = rng.randrange(len(patch.frames))
    payload = bytearray(patch.frames[k].payload)
    if payload:
        rng.choice(DAMAGE)(rng, payload)
        patch.frames[k] = replace(patch.frames[k], payload=bytes(payload))


def spliced(rng: random.Random, patch: Open, sibling: Open) -> None:
    """A whole frame of the patch to another target: nothing but the target's digest can tell."""
    k = rng.randrange(len(patch.frames))
    patch.frames[k] = rng.choice(sibling.frames)


def half_spliced(rng: random.Random, patch: Open, sibling: Open) -> None:
    k = rng.randrange(len(patch.frames))
    other = rng.choice(sibling.frames)
    patch.frames[k] = rng.choice([
        replace(patch.frames[k], payload=other.payload), replace(patch.frames[k], table=other.table, table_size=other.table_size),
        replace(patch.frames[k], check=other.check),
    ])  # fmt: skip


def shuffled(rng: random.Random, patch: Open, _: Open) -> None:
    frames = patch.frames
    k = rng.randrange(len(frames))
    rng.choice([
        lambda: frames.append(frames[k]), lambda: frames.insert(0, frames[k]), lambda: frames.pop(k), lambda: rng.shuffle(frames),
        lambda: frames.extend(frames * rng.randrange(1, 40)),
    ])()  # fmt: skip


def renamed(rng: random.Random, patch: Open, _: Open) -> None:
    """Another kind of frame than its table is for, kept or not."""
    k = rng.randrange(len(patch.frames))
    patch.frames[k] = replace(patch.frames[k], kind=rng.choice(list(Kind)), keep=rng.random() < 0.5)


def head_forged(rng: random.Random, patch: Open, sibling: Open) -> None:
    header = patch.header
    target, bases = header.target, header.bases
    sizes = [0, 1, target.size - 1, target.size + 1, target.size * 1000, (1 << 40) + 1, (1 << 63) - 1]
    patch.header = rng.choice([
        replace(header, target=replace(target, size=max(rng.choice(sizes), 0))),
        replace(header, target=replace(target, digest=rng.randbytes(32))),
        replace(header, target=sibling.header.target),
        replace(header, bases=bases[::-1]), replace(header, bases=bases[1:]), replace(header, bases=bases * 2),
        replace(header, bases=(*bases, target)),
        replace(header, bases=tuple(replace(base, size=rng.choice(sizes[:2])) for base in bases)),
        replace(header, memory=rng.choice([0, 1, 65, 1 << 20, 1 << 40])), replace(header, level=rng.randrange(256)),
    ])  # fmt: skip


FORGERY: list[Callable[[random.Random, Open, Open], None]] = [
    numbers_changed, numbers_changed, numbers_changed, numbers_changed, table_damaged, payload_damaged, payload_damaged,
    spliced, half_spliced, shuffled, renamed, head_forged,
]  # fmt: skip


def mutant(number: int, cases: list[Case]) -> tuple[bytes, Case]:
    """The mutant of this number, and what it was before."""
    rng = random.Random(number)
    case = rng.choice(cases)
    if rng.random() < 0.2:
        data = bytearray(case.patch)
        for _ in range(rng.choice([1, 1, 2, 5])):
            if data:
                rng.choice(DAMAGE)(rng, data)
        return bytes(data), case
    patch, sibling = opened(case.patch), opened(case.sibling)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if patch.frames:
            rng.choice(FORGERY)(rng, patch, sibling)
    return closed(patch), case


def judge(data: bytes, case: Case) -> str:
    """``exact``, or the code of the refusal.

    Raises:
        AssertionError: it led to another file.

    """
    try:
        made = b"".join(decode(data, case.bases, max_size=1 << 22, max_memory=64))
    except FarshoreError as error:
        return error.code
    assert made == (case.target if said(data) == said(case.patch) else case.other), "another file"
    return "exact"


def said(patch: bytes) -> bytes:
    """The digest of what a patch says it makes."""
    return Stream(patch).header().target.digest


def _status(name: str) -> int:
    told = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in told if line.startswith(name)).split()[1]) << 10


def main() -> None:
    """Judge COUNT mutants from FIRST on; MARK tells the one at work, whatever becomes of the process."""
    cases: list[Case] = pickle.loads(Path(sys.argv[1]).read_bytes())
    first, count = int(sys.argv[3]), int(sys.argv[4])
    for case in cases:  # what is loaded on first use is no mutant's memory
        assert b"".join(decode(case.patch, case.bases)) == case.target
    most = _status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    before = _status("VmHWM")
    verdicts: Counter[str] = Counter()
    slowest = (0.0, 0)
    mark = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
    for number in range(first, first + count):
        data, case = mutant(number, cases)
        os.pwrite(mark, f"{number:20d}".encode(), 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # its signal ends the process, also inside the kernel
        began = time.process_time()
        verdicts[judge(data, case)] += 1
        slowest = max(slowest, (time.process_time() - began, number))
    print(json.dumps({"verdicts": verdicts, "slowest": slowest, "grown": _status("VmHWM") - before}))


if __name__ == "__main__":
    main()
