"""One patch, built in a process of its own: ``python -m farshore.hub.builder``, its job as a line of JSON on standard input.

It is nice to others, bounded in memory and processor time, and ends when standard input does, that is with the hub that
started it. Whatever happens in here, to the hub it is a result or none.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

from msgspec import Struct, json

from farshore import delta, formats
from farshore.core.digest import Digest, Hasher
from farshore.core.errors import FarshoreError, Unavailable
from farshore.hub import kinship
from farshore.store.views import pieces, view

NICE = 10


class Beside(Struct, frozen=True):
    """What tells the tensors of a file of external data: the name that models know it by, and the models that may know it."""

    location: str
    models: tuple[str, ...]


class Base(Struct, frozen=True):
    """A file that may serve: its digest, where it is now, and what it stands beside if it is external data."""

    digest: Digest
    path: str
    beside: Beside | None = None


class Job(Struct, frozen=True):
    """What is to be done.

    Attributes:
        target: path of what the patch makes.
        candidates: files that may serve as bases, likeliest first.
        near: how many of the first are earlier forms of the target.
        known: sets of bases for which it is known already what becomes of them.
        level: of the codec.
        out: path to write the patch to; the result is written to the same path and ``.json``.
        memory: bytes of address space.
        seconds: of processor time.
        beside: as for a base.

    """

    target: str
    candidates: tuple[Base, ...]
    near: int
    known: tuple[tuple[Digest, ...], ...]
    level: str
    out: str
    memory: int
    seconds: int
    beside: Beside | None = None


class Result(Struct, frozen=True):
    """What became of it.

    Attributes:
        bases: chosen, in the order of the patch.
        digest: of the patch; "" if it was known or failed.
        size: bytes of the patch.
        fault: why it failed; "" if it did not.

    """

    bases: tuple[Digest, ...] = ()
    digest: str = ""
    size: int = 0
    fault: str = ""


def build(job: Job) -> Result:
    """Choose bases, make the patch, apply it, and say what it is.

    Raises:
        FarshoreError: the files cannot be read or coded.

    """
    if not delta.COMPILED:
        raise Unavailable("Farshore was installed without a C compiler: reinstall it with one to build patches")
    target, views = view(Path(job.target)), [view(Path(one.path)) for one in job.candidates]
    besides = [job.beside, *(one.beside for one in job.candidates)]
    maps = [_segments(data, beside) for data, beside in zip((target, *views), besides, strict=True)]
    chosen = list(range(job.near))
    if len(views) > job.near or job.near > 1:  # there is something to choose
        kin = [kinship.kin(*pair) for pair in zip(maps, (target, *views), strict=True)]
        chosen = kinship.choose(kin[0], kin[1:], job.near)
    bases = tuple(job.candidates[i].digest for i in chosen)
    if bases in job.known:
        return Result(bases)
    held, hasher = [views[i] for i in chosen], Hasher()
    with Path(job.out).open("xb") as sink:
        for chunk in delta.encode(target, held, level=job.level, maps=[maps[0], *(maps[1 + i] for i in chosen)]):
            sink.write(chunk)
            hasher.update(chunk)
    for _ in delta.decode(pieces(view(Path(job.out))), held):
        pass  # a patch that does not lead to its target would be an error here, not on a device
    return Result(bases, hasher.digest(), hasher.size)


def _segments(data: memoryview, beside: Beside | None) -> formats.SegmentMap:
    """What a file is made of: external data is told by a model that names it, all else by itself."""
    if beside:
        for model in beside.models:
            found = formats.segment_external(view(Path(model)), beside.location, len(data))
            if any(part.dtype for part in found.segments):
                return found
    return formats.segment(data)


def main() -> None:
    """Do the job on standard input."""
    job = json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_the_hub, daemon=True).start()
    os.nice(NICE)
    for what, limit in (
        (resource.RLIMIT_AS, job.memory),
        (resource.RLIMIT_CPU, job.seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    try:
        result = build(job)
    except FarshoreError as error:
        result = Result(fault=error.message)
    except MemoryError:
        result = Result(fault="out of memory")
    Path(f"{job.out}.json").write_bytes(json.encode(result))


def _end_with_the_hub() -> None:
    os.read(sys.stdin.fileno(), 1)  # past the buffer, whose lock would be missed when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    main()
