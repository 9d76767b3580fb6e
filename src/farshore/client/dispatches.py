"""Publishing to a store: for devices that reach no hub of ours, what a hub would tell them and the bytes it would give.

Everything by digest, but for one dispatch a device and one list of patches a file. What is there already is not sent again, so the store may be
the hub's own. Who may fetch what is decided elsewhere (:mod:`farshore.client.answers`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from farshore.client.hub import Hub
from farshore.client.iothub import IotHub
from farshore.core import digest as digests
from farshore.core import dispatch as dispatches
from farshore.core import documents, manifest, twin, wire
from farshore.core.digest import Digest
from farshore.core.dispatch import MAX_DISPATCH, Dispatch, Piece, Published
from farshore.core.errors import Denied, Invalid, NotFound
from farshore.core.wire import Route
from farshore.store.objects import Objects
from farshore.trust import repository
from farshore.trust.metadata import pin_of

MAX_PATCHES = 8


class Source(Protocol):
    """Where all of it comes from: a hub."""

    def order(self, device: str) -> Published: ...

    def manifest(self, ref: str) -> bytes: ...

    def blob(self, digest: Digest, into: Path) -> None: ...

    def routes(self, ref: str) -> Mapping[Digest, tuple[Route, ...]]:
        """Patches to the files of a version, without addresses."""
        ...


@dataclass
class Publisher:
    """Brings devices' dispatches, and all that they name, into a store.

    Attributes:
        source: the hub.
        store: where devices will fetch.
        scratch: a folder for files on their way.
        sent: bytes that were not there already.
        root: pin of the first trust root.
        news: devices whose dispatch the last call wrote; what the others have still holds.
        left: patches that the hub did not hand out.

    """

    source: Source
    store: Objects
    scratch: Path
    sent: int = 0
    root: str = ""
    news: set[str] = field(default_factory=set)
    left: int = 0
    _done: set[str] = field(default_factory=set)

    def publish(self, devices: Iterable[str], now: float, *, together: bool = False) -> list[Dispatch]:
        """Bring devices' dispatches up to date; those that are new get one number, higher than any had.

        Args:
            devices: their ids at the hub, and at the IoT Hub.
            now: seconds since the epoch.
            together: if one is new, all are: where one number is told to all of them.

        Raises:
            NotFound: the hub knows no such device.
            Unavailable: hub or store.

        """
        names = [manifest.check_name(device) for device in devices]
        before = {device: self._last(device) for device in names}
        last = max((one.number for one in before.values() if one is not None), default=0)
        made = [self._made(device, repository.next_version(last, now)) for device in names]
        news = [one for one in made if together or not _holds(before[one.device], one, now)]
        if together and all(_holds(before[one.device], one, now) for one in made):
            news = []
        for one in news:
            self.store.write(dispatches.name_of(one.device), documents.encode(one))
        self.news = {one.device for one in news}
        return [one if one.device in self.news else before[one.device] or one for one in made]

    def _made(self, device: str, number: int) -> Dispatch:
        found = self.source.order(device)
        self.root = pin_of(bytes(found.trust.roots[0]))
        models = wire.desired_models(found.desired)
        for name, want in sorted(models.items()):
            self._version(f"{name}@{want.version}", Digest(want.digest))
        roots = tuple(self._piece(bytes(one)) for one in found.trust.roots)
        metadata = {role: self._piece(bytes(one)) for role, one in sorted(found.trust.metadata.items())}
        return Dispatch(number, device, found.desired, Raw(bytes(found.trust.order)), roots, metadata)

    def _last(self, device: str) -> Dispatch | None:
        try:
            return dispatches.decode(self.store.read(dispatches.name_of(device), MAX_DISPATCH))
        except (NotFound, Invalid):
            return None

    def _version(self, ref: str, digest: Digest) -> None:
        if ref in self._done:
            return
        payload = self.source.manifest(ref)
        digests.check(digest, digests.of(payload), f"manifest of {ref}")
        self._bytes(payload)
        files = manifest.decode(payload).files()
        for one in files:
            self._object(one)
        for target, routes in self.source.routes(ref).items():
            here = tuple(
                route for route in routes[:MAX_PATCHES] if target in files and self._patch(Digest(route.digest))
            )
            self.store.write(dispatches.patches_of(target), documents.encode(here))
        self._done.add(ref)

    def _patch(self, digest: Digest) -> bool:
        """Whether a patch is in the store: who may not read it leaves it out, and devices fetch the whole."""
        try:
            self._object(digest)
        except (Denied, NotFound):
            self.left += 1
            return False
        return True

    def _object(self, digest: Digest) -> None:
        with suppress(NotFound):
            self.store.size(digest)
            return
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            path = Path(folder) / "object"
            self.source.blob(digest, path)
            self.sent += path.stat().st_size
            self.store.put(digest, path)

    def _bytes(self, data: bytes) -> Digest:
        try:
            self.store.size(digests.of(data))
        except NotFound:
            self.sent += len(data)
        return self.store.put_bytes(data)

    def _piece(self, data: bytes) -> Piece:
        return Piece(repository.version_of(data), self._bytes(data), len(data))


@dataclass(frozen=True, slots=True)
class HubSource:
    """A hub as the source, through its operator API."""

    hub: Hub

    def order(self, device: str) -> Published:
        return self.hub.order(device)

    def manifest(self, ref: str) -> bytes:
        return self.hub.manifest(ref)

    def blob(self, digest: Digest, into: Path) -> None:
        with into.open("xb") as sink:
            self.hub.blob(digest, sink)

    def routes(self, ref: str) -> Mapping[Digest, tuple[Route, ...]]:
        found: dict[Digest, list[Route]] = {}
        for one in self.hub.patches(ref):
            if one["digest"]:
                bases = tuple(base["digest"] for base in one["bases"])
                found.setdefault(Digest(one["target"]), []).append(
                    Route("", one["digest"], one["size"], "patch", bases)
                )
        return {target: tuple(sorted(routes, key=lambda one: one.size)) for target, routes in found.items()}


def _holds(before: Dispatch | None, after: Dispatch, now: float) -> bool:
    """Whether a dispatch that is there says the same, and was signed less than a day ago."""
    if before is None or (before.desired, before.roots, before.metadata) != (
        after.desired,
        after.roots,
        after.metadata,
    ):
        return False
    try:
        issued = int(msgspec.json.decode(bytes(before.order))["signed"]["issued"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return False
    return abs(now - issued) < repository.DAY


def pass_on(iothub: IotHub, hub: Hub, device: str, module: str) -> bool:
    """Tell the hub what a device said to the IoT Hub, so that rollouts, ledger and patches know; whether there was any news.

    Raises:
        NotFound: the hub knows no such device.

    """
    try:
        said = _plain(iothub.twin(device, module)["properties"]["reported"])
    except NotFound:
        return False
    change = twin.difference(_plain(hub.twin(device)["properties"]["reported"]), said)
    if change:
        hub.report(device, change)
    return bool(change)


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if not key.startswith("$") and key != dispatches.SECTION}


def pointer(dispatch: Dispatch) -> dict[str, object]:
    """``properties.desired`` of a module's twin: the number of its dispatch, and for people what that says."""
    models = wire.desired_models(dispatch.desired)
    shown = {twin.key_of(name): {"version": one.version, "digest": one.digest} for name, one in sorted(models.items())}
    return {dispatches.SECTION: {"dispatch": dispatch.number, "models": shown}}
