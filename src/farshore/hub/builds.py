"""Builds patches: from what devices hold to what they should run, before or when they ask.

Each patch is built by a process of its own (:mod:`.builder`), a few at one time. What is asked for and not there is built;
what a crash or a restart interrupted is asked for again. See ``docs/adr/0004-when-patches-are-built.md``.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
from msgspec import json

from farshore.core.digest import Digest, Hasher
from farshore.core.errors import FarshoreError, NotFound, Unavailable
from farshore.hub import moments
from farshore.hub.builder import Base, Beside, Job, Result
from farshore.hub.database import Database
from farshore.hub.records import patches
from farshore.hub.records.patches import Patch, Place
from farshore.hub.registry import Registry
from farshore.hub.settings import Settings

log = logging.getLogger(__name__)

SMALLEST = 4096
"""Bytes of a file below which a patch saves less than it costs to ask for."""

NEAR, FAR = 4, 4
"""Most bases that are considered: earlier versions of the same model, and versions of others."""

ROUTES = 4
"""Most patches offered at one time."""

PLACES = 4096
"""Most places in versions that are looked at for the files a device holds."""

MODELS = 4
"""Most models of a version that are looked at for what a file of external data beside them holds."""

KEPT = 64
"""Most patches to one file that are remembered."""

QUEUED, QUEUED_FOR_ONE = 1000, 8
"""Most patches to be built at one time, in all and to one file."""

SETTLED = 10_000
"""Most answers that are remembered."""

DOUBT_EVERY = 60.0
"""Seconds between two looks at one patch that devices find wrong."""

FORESEEN = 4
"""Versions on most devices, from which patches are built when a deployment appears."""

WORTH, BETTER = 0.9, 0.99
"""A patch is kept below this share of the whole, and below this share of every patch that needs no other base."""

Key = tuple[Digest, tuple[Digest, ...]]
"""What is wanted, and the candidates to make it from."""


class Builds:
    """Builds patches and knows those that are there.

    Args:
        database: open.
        registry: has the files, and takes the patches.
        settings: ``builders`` 0 builds none.
        clock: tells the time.

    """

    def __init__(self, database: Database, registry: Registry, settings: Settings, clock: moments.Clock) -> None:
        self._database, self._registry, self._settings, self._clock = database, registry, settings, clock
        self._threads = ThreadPoolExecutor(max(settings.builders, 1), thread_name_prefix="builds")
        self._lock = threading.Lock()
        self._running: dict[Key, Future[None]] = {}
        self._settled: dict[Key, None] = {}
        self._doubted: dict[Digest, float] = {}
        self._children: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def routes(self, target: Digest, have: Sequence[str]) -> list[Patch]:
        """Patches to ``target`` for one who holds ``have``, smallest first."""
        with self._database.reading() as tx:
            found = _usable(patches.to(tx, target, KEPT), {*have})
        return sorted(found, key=lambda one: one.size)[:ROUTES]

    def ask(self, target: Digest, have: Sequence[str]) -> Future[None] | None:
        """See to it that there are patches to ``target`` for one who holds ``have``.

        Returns:
            What to wait for; None if nothing is being built, or there is a patch already that uses what is held.

        """
        with self._database.reading() as tx:
            found = patches.places(tx, [target, *have], PLACES)
            there = any(one.bases for one in _usable(patches.to(tx, target, KEPT), {*have}))
        near, far = candidates(target, found)
        begun = self._begin(target, near, far, {place.digest: place.size for place in found})
        return None if there else begun

    def foresee(self, version: str) -> None:
        """A version was deployed: begin patches to it from the versions that most devices of its model run or keep.

        Args:
            version: its manifest's digest.

        """
        with self._database.reading() as tx:
            wanted = patches.version_places(tx, version)
            held = patches.held(tx, wanted[0].model, FORESEEN) if wanted else []
            olds = [patches.version_places(tx, one) for one in held if one != version]
        for old in olds:
            for target in wanted:
                base = _counterpart(target, old)
                if base is not None:
                    self._begin(target.digest, [base.digest], [], {one.digest: one.size for one in (target, base)})

    def of(self, version: str) -> list[tuple[Place, Patch, dict[str, Place]]]:
        """Patches that are kept to the files of a version: the file, the patch, and where bases stand, by digest."""
        with self._database.reading() as tx:
            wanted = {place.digest: place for place in patches.version_places(tx, version)}
            found = [
                (place, one) for place in wanted.values() for one in patches.to(tx, place.digest, KEPT) if one.digest
            ]
            bases = [base for _, one in found for base in one.bases]
            stand: dict[str, Place] = {}
            for place in patches.places(tx, sorted({*bases}), PLACES):
                stand.setdefault(place.digest, place)
        return [(place, one, stand) for place, one in found]

    def lost(self, digest: Digest) -> None:
        """The store has not the bytes of this object: if it is a patch, it is offered no more and may be built again."""
        with self._database.writing() as tx:
            targets = patches.forget_object(tx, digest)
        with self._lock:
            self._settled = {key: None for key in self._settled if key[0] not in targets}

    def doubt(self, digest: Digest) -> None:
        """A device says that it got wrong bytes: if this is a patch and the store's copy has gone bad, it is built again.

        Looking costs a read of the object, so it is done once in a while, however many devices ask.
        """
        with self._database.reading() as tx:
            if not patches.is_kept(tx, digest):
                return
        now = self._clock()
        with self._lock:
            if now - self._doubted.get(digest, -DOUBT_EVERY) < DOUBT_EVERY:
                return
            self._doubted.pop(digest, None)
            self._doubted[digest] = now
            while len(self._doubted) > SETTLED:
                self._doubted.pop(next(iter(self._doubted)))
        hasher = Hasher()
        try:
            for piece in self._registry.objects.chunks(digest):
                hasher.update(piece)
        except NotFound:
            pass
        except Unavailable as error:
            log.warning("patch %s cannot be looked at for now: %s", digest, error.message)
            return
        if hasher.digest() != digest:
            log.warning("the store's copy of patch %s is damaged: it is built again when it is asked for", digest)
            self._registry.objects.remove(digest)
            self.lost(digest)

    def close(self) -> None:
        """End what is being built; it will be asked for again."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _begin(
        self, target: Digest, near: list[Digest], far: list[Digest], sizes: dict[Digest, int]
    ) -> Future[None] | None:
        key: Key = (target, (*near, *far))
        needed = sum(sizes.get(digest, 0) for digest in (target, *near, *far))
        if not self._settings.builders or sizes.get(target, 0) < SMALLEST or needed > self._settings.max_patched:
            return None
        with self._lock:
            if self._closed or key in self._settled:
                return None
            if key in self._running:
                return self._running[key]
            if len(self._running) >= QUEUED or sum(one[0] == target for one in self._running) >= QUEUED_FOR_ONE:
                return None
            future = self._running[key] = self._threads.submit(self._work, key, len(near))
        return future

    def _work(self, key: Key, near: int) -> None:
        """Build what ``key`` needs. Never raises: nobody is there to hear."""
        target, bases = key
        try:
            if not self._closed:
                self._attempt(target, bases, near)
                if bases and not self.routes(target, bases):
                    self._attempt(target, (), 0)
            self._settle(key)
        except NotFound as error:  # a version was deleted meanwhile
            log.info("no patch to %s: %s", target, error.message)
        except FarshoreError as error:
            log.warning("no patch to %s for now: %s", target, error.message)
        except Exception:
            log.exception("unexpected error while a patch to %s was built", target)
            self._settle(key)
        finally:
            with self._lock:
                self._running.pop(key, None)

    def _settle(self, key: Key) -> None:
        with self._lock:
            self._settled[key] = None
            while len(self._settled) > SETTLED:
                self._settled.pop(next(iter(self._settled)))

    def _attempt(self, target: Digest, bases: tuple[Digest, ...], near: int) -> None:
        with self._database.reading() as tx:
            known = tuple(one.bases for one in patches.to(tx, target, KEPT))
        if len(bases) <= near <= 1 and bases in known:
            return  # there is nothing to choose
        out = self._registry.new_spool()
        try:
            result = self._build(target, bases, near, known, out)
            if result.fault:
                log.warning("a patch to %s could not be built: %s", target, result.fault)
            elif result.digest:
                self._keep(target, result, out)
        finally:
            out.unlink(missing_ok=True)
            Path(f"{out}.json").unlink(missing_ok=True)

    def _build(
        self, target: Digest, bases: tuple[Digest, ...], near: int, known: tuple[tuple[Digest, ...], ...], out: Path
    ) -> Result:
        with self._database.reading() as tx:
            named = patches.beside(tx, [target, *bases], MODELS)
        with ExitStack() as stack:
            paths: dict[Digest, str] = {}
            for digest in (target, *bases, *(model for _, models in named.values() for model in models)):
                if digest not in paths:
                    local = self._registry.objects.local(digest, self._registry.spool)
                    paths[digest] = str(stack.enter_context(local))
            besides = {
                digest: Beside(location, tuple(paths[model] for model in models))
                for digest, (location, models) in named.items()
            }
            job = Job(
                target=paths[target],
                beside=besides.get(target),
                candidates=tuple(Base(one, paths[one], besides.get(one)) for one in bases),
                near=near,
                known=known,
                level=self._settings.patch_level,
                out=str(out),
                memory=self._settings.patch_memory,
                seconds=self._settings.patch_seconds,
            )
            return self._run(job)

    def _run(self, job: Job) -> Result:
        """Let a process do it; one that ends without a result has failed."""
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with self._lock:
            if self._closed:
                raise Unavailable("the hub is closing")
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "farshore.hub.builder"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
            self._children.add(child)
        try:
            assert child.stdin is not None
            with suppress(BrokenPipeError):  # what it died of is judged below
                child.stdin.write(json.encode(job) + b"\n")
                child.stdin.flush()
            try:
                status = child.wait(self._settings.patch_seconds * 2)
            except subprocess.TimeoutExpired:
                return Result(fault=f"it took more than {self._settings.patch_seconds * 2} seconds")
        finally:
            child.kill()
            child.wait()
            with suppress(OSError):
                child.stdin.close()  # type: ignore[union-attr]
            with self._lock:
                self._children.discard(child)
        if self._closed:
            raise Unavailable("the hub is closing")
        try:
            return json.decode(Path(f"{job.out}.json").read_bytes(), type=Result)
        except (OSError, msgspec.DecodeError):
            return Result(fault=f"the builder ended with status {status} and no result")

    def _keep(self, target: Digest, result: Result, out: Path) -> None:
        """Take the patch as an object if it is worth it, and note what became of it."""
        size = self._registry.blob_size(target)
        with self._database.reading() as tx:
            others = _usable(patches.to(tx, target, KEPT), {*result.bases})
        kept = worth_keeping(result.size, size, [one.size for one in others])
        digest = Digest(result.digest)
        if kept:
            self._registry.add_blob(digest, out, result.size)
        row = Patch(
            target, result.bases, digest if kept else None, result.size, self._settings.patch_level, self._clock()
        )
        with self._database.writing() as tx:
            there = {place.digest for place in patches.places(tx, [target, *result.bases], PLACES)}
            if not {target, *result.bases} <= there:
                raise NotFound("a version that it is from or to was deleted meanwhile")
            patches.add(tx, row)
            patches.prune(tx, target, KEPT)
        log.info(
            "patch to %s from %d bases: %d of %d bytes%s",
            target,
            len(result.bases),
            result.size,
            size,
            "" if kept else ", not kept",
        )


def worth_keeping(size: int, whole: int, others: Sequence[int]) -> bool:
    """Whether a patch of ``size`` bytes is clearly smaller than the whole and than ``others``, which need no other base."""
    return size < WORTH * whole and all(size < BETTER * other for other in others)


def candidates(target: Digest, places: Sequence[Place]) -> tuple[list[Digest], list[Digest]]:
    """Files to make ``target`` from: earlier and later versions of it, and files of other models; likeliest first each.

    Args:
        target: what is to be made.
        places: where it stands and where the files that are held stand, newest first.

    """
    wanted = [place for place in places if place.digest == target]
    models, paths = {place.model for place in wanted}, {place.path for place in wanted}
    kinds = {_kind(place) for place in wanted}
    held = [place for place in places if place.digest != target and _kind(place) in kinds]
    mine = sorted((place for place in held if place.model in models), key=lambda place: place.path not in paths)
    near = list(dict.fromkeys(place.digest for place in mine))
    far = [digest for digest in dict.fromkeys(place.digest for place in held) if digest not in near]
    return near[:NEAR], far[:FAR]


def _kind(place: Place) -> bool:
    """Files with weights are made from files with weights, texts from texts."""
    return place.role in {"model", "external"}


def _counterpart(target: Place, old: Sequence[Place]) -> Place | None:
    """The file of an older version that ``target`` came from: of its name, or of its form."""
    alike = [one for one in old if _kind(one) == _kind(target) and Path(one.path).suffix == Path(target.path).suffix]
    best = next((one for one in alike if one.path == target.path), alike[0] if len(alike) == 1 else None)
    return None if best is None or best.digest == target.digest else best


def _usable(found: Sequence[Patch], have: set[str]) -> list[Patch]:
    return [one for one in found if one.digest is not None and have.issuperset(one.bases)]
