"""Giving addresses of a store to the devices of an IoT Hub that ask for them: short-lived, and only of what their dispatch names.

It needs the store and the IoT Hub's service API, outward HTTPS alone, and no hub of ours. What a device may have is decided by what was published for
it, not by what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from farshore.client.iothub import IotHub
from farshore.core import digest as digests
from farshore.core import dispatch as dispatches
from farshore.core import documents, manifest, wire
from farshore.core.digest import Digest
from farshore.core.dispatch import DISPATCH, MAX_DISPATCH, METHOD, SECTION, Answer, Ask, Dispatch
from farshore.core.errors import Corrupt, Denied, FarshoreError, Invalid, NotFound
from farshore.core.manifest import MAX_MANIFEST
from farshore.core.wire import Fault, Route
from farshore.store.objects import Objects

log = logging.getLogger(__name__)

QUERY = f"SELECT * FROM devices.modules WHERE IS_DEFINED(properties.reported.{SECTION}.ask)"  # noqa: S608 - fixed words
TRIES = 3
"""Calls for one question; a device that is away asks again when it comes back."""

MAX_LIST = 64 << 10
REMEMBERED = 10_000


@dataclass
class Answerer:
    """See the module.

    Attributes:
        iothub: where devices ask.
        store: signs the addresses.
        seconds: life of an address.
        answered: questions answered so far.

    """

    iothub: IotHub
    store: Objects
    seconds: int = 600
    answered: int = 0
    _tried: dict[str, int] = field(default_factory=dict)

    def round(self) -> int:
        """Answer what is asked now.

        Returns:
            how many were answered.

        Raises:
            Unavailable, Unauthenticated, Denied: the IoT Hub does not let itself be asked.

        """
        before = self.answered
        for row in self.iothub.query(QUERY):
            self._one(row)
        while len(self._tried) > REMEMBERED:
            del self._tried[next(iter(self._tried))]
        return self.answered - before

    def _one(self, row: Any) -> None:
        try:
            device, module = str(row["deviceId"]), str(row["moduleId"])
            said = row["properties"]["reported"][SECTION]["ask"]
        except (KeyError, TypeError):
            return
        try:
            ask = documents.convert(said, Ask, what=f"what {device} asks")
            key = f"{device}/{module}/{ask.id}"
            if self._tried.get(key, 0) >= TRIES:
                return
            self._tried[key] = self._tried.get(key, 0) + 1
            answer = self.answer(device, ask)
            if self.iothub.invoke(device, module, METHOD, documents.builtins(answer)) == 200:
                self.answered += 1
            self._tried[key] = TRIES
        except FarshoreError as error:
            log.warning("%s: %s", device, error.message)

    def answer(self, device: str, ask: Ask) -> Answer:
        """Addresses of what a device asks for.

        Args:
            device: that asks, as the IoT Hub knows it.
            ask: its question.

        Raises:
            Unavailable: the store does not answer.

        """
        routes: dict[str, tuple[Route, ...]] = {}
        faults: dict[str, Fault] = {}
        try:
            mine = self._dispatch(device)
            allowed = set(self._allowed(mine, ask.want))
        except (NotFound, Invalid, Corrupt) as error:
            return Answer(ask.id, self.seconds, {}, {one: Fault(error.code, error.message[:1024]) for one in ask.want})
        for want in ask.want:
            try:
                if want == DISPATCH:
                    routes[want] = (self._document(dispatches.name_of(device)),)
                elif want in allowed:
                    routes[want] = self._routes(Digest(want))
                else:
                    self.store.size(Digest(want))
                    raise Denied(f"{want} belongs to nothing that was published for {device}")
            except (NotFound, Denied) as error:
                faults[want] = Fault(error.code, error.message[:1024])
        return Answer(ask.id, self.seconds, routes, faults)

    def _dispatch(self, device: str) -> Dispatch:
        manifest.check_name(device)
        return dispatches.decode(self.store.read(dispatches.name_of(device), MAX_DISPATCH))

    def _allowed(self, mine: Dispatch, want: Iterable[str]) -> Iterable[Digest]:
        """What a dispatch names: metadata, manifests, and the files of those; a manifest is read only when the rest does not do."""
        yield from mine.objects()
        models = wire.desired_models(mine.desired)
        named = [Digest(one.digest) for one in models.values()]
        yield from named
        if not set(want) - {DISPATCH, *mine.objects(), *named}:
            return
        for digest in named:
            size = self.store.size(digest)
            if size <= MAX_MANIFEST:
                payload = b"".join(self.store.chunks(digest))
                digests.check(digest, digests.of(payload), f"manifest {digest}")
                yield from manifest.decode(payload).files()

    def _routes(self, digest: Digest) -> tuple[Route, ...]:
        """Patches, smallest first, then the whole."""
        try:
            kept = self.store.read(dispatches.patches_of(digest), MAX_LIST)
            patches = documents.decode(kept, tuple[Route, ...], what="list of patches")
        except (NotFound, Invalid):
            patches = ()
        found = [
            Route(self.store.address(one.digest, self.seconds), one.digest, one.size, "patch", one.bases)
            for one in patches[:8]
            if one.kind == "patch"
        ]
        return (*found, Route(self.store.address(digest, self.seconds), digest, self.store.size(digest)))

    def _document(self, name: str) -> Route:
        data = self.store.read(name, MAX_DISPATCH)
        return Route(self.store.address(name, self.seconds), digests.of(data), len(data))
