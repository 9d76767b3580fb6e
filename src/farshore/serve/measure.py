"""Measure how many threads answer soonest on this machine, and keep the model as the runtime optimises it (``farshore serve --tune``).

A process of its own, shut in as a worker is, measures with nothing else running and hands what it found over its standard output; this side
writes it where :mod:`farshore.serve.tuning` reads it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter

import msgspec

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, FarshoreError, Unavailable
from farshore.serve import tuning
from farshore.serve.process import ENVIRONMENT
from farshore.serve.tuning import Tuned
from farshore.store import files
from farshore.store.slots import Installed, Slots

SECONDS = 600.0
_NEAR = 1.05
"""Fewer threads are taken if they do that nearly as well: what they leave is there for others."""


def tune(root: Path) -> Iterator[tuple[Installed, Tuned | FarshoreError]]:
    """Measure every model's current version that was not measured on this machine yet; best with nothing else running.

    Args:
        root: the device's root folder.

    Yields:
        Each version and what was found, or why nothing was.

    """
    slots = Slots(root)
    for name in slots.models():
        installed = slots.current(name)
        if installed is None:
            continue
        _prune(slots, installed)
        known = tuning.read(installed, slots.variant(installed).runtime)
        if known is not None:
            yield installed, known[0]
            continue
        try:
            yield installed, _measured(root, installed)
        except FarshoreError as error:
            yield installed, error


def _measured(root: Path, installed: Installed) -> Tuned:
    command = [sys.executable, "-P", "-m", "farshore.serve.measure", str(root), installed.model, installed.digest]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, **ENVIRONMENT}, timeout=SECONDS, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{installed.model}: it could not be measured ({error})") from None
    head, _, optimised = done.stdout.partition(b"\n")
    try:
        tuned = msgspec.json.decode(head, type=Tuned)
    except msgspec.MsgspecError:
        raise Unavailable(f"{installed.model}: measuring it failed; the lines above say why") from None
    if tuned.optimised is not None and digests.of(optimised) != tuned.optimised:
        raise Corrupt(f"{installed.model}: what was measured did not arrive whole")
    record, model = tuning.paths(installed)
    files.make_folder(record.parent)
    if tuned.optimised is not None:
        files.write_atomic(model, optimised)
    files.write_atomic(record, msgspec.json.encode(tuned))
    return tuned


def _prune(slots: Slots, installed: Installed) -> None:
    """Delete what is known of versions that are gone."""
    folder = tuning.paths(installed)[0].parent
    kept = {digests.hex_of(each.digest) for each in slots.installed(installed.model)}
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name.partition(".")[0] not in kept:
            files.remove(entry)


# --- in the process that measures


def lone(run: Callable[[int], Callable[[], object]], cores: int) -> dict[int, float]:
    """Milliseconds of one request by threads; ``run(threads)`` gives what runs it once."""
    found = {}
    for threads in _steps(cores):
        once = run(threads)
        once()
        times: list[float] = []
        while len(times) < 5 or (sum(times) < 1.0 and len(times) < 200):
            start = perf_counter()
            once()
            times.append(perf_counter() - start)
        found[threads] = round(1e3 * statistics.median(times), 3)
    return found


def together(run: Callable[[], Callable[[], object]], cores: int, seconds: float = 1.0) -> dict[int, float]:
    """Requests a second by how many run at once; each of ``run()`` runs in a thread of its own."""
    found = {}
    for width in _steps(cores):
        calls = [run() for _ in range(width)]
        counts, stop = [0] * width, threading.Event()

        def loop(
            number: int, call: Callable[[], object], counts: list[int] = counts, stop: threading.Event = stop
        ) -> None:
            while not stop.is_set():
                call()
                counts[number] += 1

        threads = [threading.Thread(target=loop, args=each) for each in enumerate(calls)]
        start = perf_counter()
        for thread in threads:
            thread.start()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        found[width] = round(sum(counts) / (perf_counter() - start), 2)
    return found


def fewest(costs: Mapping[int, float]) -> int:
    """The least number whose cost is near the best."""
    best = min(costs.values())
    return min(number for number, cost in costs.items() if cost <= _NEAR * best)


def _steps(cores: int) -> list[int]:
    """1, 2, 4 … and all."""
    return sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})


def main() -> None:
    """Measure one version and print what was found: a line of JSON, then the optimised model."""
    from farshore.serve import sandbox  # noqa: PLC0415 - the side that asks needs none of this
    from farshore.serve.version import LoadedVersion  # noqa: PLC0415

    root, name, digest = Path(sys.argv[1]), sys.argv[2], Digest(sys.argv[3])
    slots = Slots(root)
    where, cores = tuning.machine(slots.variant(slots.find(name, digest)).runtime), tuning.cores()
    lacking = sandbox.enter(slots.folder, pipes=True)
    try:
        version = LoadedVersion(root, name, digest, 1, 1 << 20, tuned=False)
    except FarshoreError as error:
        sys.exit(f"{name}: {error.message}")
    model, feeds = version.model, version.blank
    if feeds is None:
        sys.exit(f"{name}: nothing is known of what it may be fed, so it cannot be measured")

    def once(threads: int) -> Callable[[], object]:
        context = model.context(threads)
        return lambda: context.run(feeds)

    milliseconds = lone(once, cores if model.steady else 1)
    shared = once(1)
    rates = together(lambda: shared if model.shared else once(1), cores)
    optimised = (
        b"" if lacking else model.optimised()
    )  # the runtime writes it by name: only where nothing else can be written
    tuned = Tuned(
        machine=where, lone=fewest(milliseconds), width=fewest({number: 1 / rate for number, rate in rates.items()}),
        milliseconds=milliseconds, rates=rates, optimised=digests.of(optimised) if optimised else None,
    )  # fmt: skip
    sys.stdout.buffer.write(msgspec.json.encode(tuned) + b"\n" + optimised)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
