"""A hub in memory whose devices sit at an IoT Hub: it publishes to Blob Storage, and somebody answers what devices ask."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from msgspec import Raw
from tests.sim.hub import SimHub

from farshore.client.answers import Answerer
from farshore.client.dispatches import Publisher, pointer
from farshore.core import twin
from farshore.core.digest import Digest
from farshore.core.dispatch import Dispatch, Published
from farshore.core.wire import News, Route
from farshore.store.objects import Objects
from farshore.trust.releases import role_of

MODULE = "farshore"


class SimSource:
    """What :class:`farshore.client.dispatches.Publisher` asks a hub for, out of the one in memory."""

    def __init__(self, hub: SimHub) -> None:
        self.hub = hub

    def order(self, device: str) -> Published:
        desired, repo = twin.wire(self.hub.twins[device].desired), self.hub.repo
        wanted = {
            "timestamp",
            "snapshot",
            "targets",
            *(role_of(twin.name_of(key)) for key in desired.get("models", {})),
        }
        metadata = {role: Raw(repo.documents[role]) for role in wanted & repo.documents.keys()}
        return Published(
            desired, News(Raw(repo.order(device, desired)), tuple(Raw(one) for one in repo.roots), metadata)
        )

    def manifest(self, ref: str) -> bytes:
        model, _, number = ref.partition("@")
        found = [
            one
            for one in self.hub.releases.values()
            if (one.manifest.model, one.manifest.version) == (model, int(number))
        ]
        return found[0].payload

    def blob(self, digest: Digest, into: Path) -> None:
        into.write_bytes(self.hub.objects.get(digest, b"not needed on devices"))

    def routes(self, ref: str) -> Mapping[Digest, tuple[Route, ...]]:
        return {digest: tuple(routes) for digest, routes in self.hub.patches.items()}


class AzureWorld:
    """While inside the ``with``, questions are answered.

    Attributes:
        hub: what is published from.
        iothub: where devices are: the one in memory, or a client of a real one.
        answerer: gives addresses.

    """

    def __init__(self, hub: SimHub, iothub: Any, container: str, scratch: Path) -> None:
        self.hub, self.iothub = hub, iothub
        self.store = Objects.open(container)
        self.publisher = Publisher(SimSource(hub), self.store, scratch)
        self.answerer = Answerer(iothub, self.store)
        self._end = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def publish(self, device: str) -> Dispatch:
        (made,) = self.publisher.publish([device], time.time())
        self.iothub.patch_twin(device, MODULE, {"properties": {"desired": pointer(made)}})
        return made

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            self.answerer.round()
