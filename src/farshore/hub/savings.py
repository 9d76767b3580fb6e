"""What patches and files that devices hold anyway have saved: the ledger against whole files."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import NotFound
from farshore.core.manifest import Manifest
from farshore.hub.database import Database
from farshore.hub.records import ledger, models
from farshore.hub.records.models import Version
from farshore.hub.registry import Registry

MOST = 10_000


class Saved(Struct, frozen=True, omit_defaults=True):
    """What bringing a version to devices took, against whole files.

    Attributes:
        model, version: which; version 0 where the device did not say.
        devices: that fetched anything of it.
        bytes: that they fetched.
        whole: bytes of as many times the files of its smallest variant: what it would have taken at least. The same as ``bytes`` where
            that is not known (any more), or where devices fetched more than that, or have only begun.

    """

    model: str
    version: int
    devices: int
    bytes: int
    whole: int


class Savings:
    """The ledger against whole files.

    Args:
        database: open.
        registry: has the manifests.

    """

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database, self._registry = database, registry
        self._smallest = lru_cache(4096)(self._weigh)

    def saved(self, since: str, until: str) -> list[Saved]:
        """By version, the most bytes first.

        Args:
            since: first day, ``2026-11-22``; "" for all.
            until: last day; "" for all.

        """
        with self._database.reading() as tx:
            rows = ledger.brought(tx, since, until, MOST)
            found = [(row, models.version(tx, row.model, row.version)) for row in rows]
        return [
            Saved(row.model, row.version, row.devices, row.bytes, max(row.bytes, row.devices * self._whole(version)))
            for row, version in found
        ]

    def _whole(self, version: Version | None) -> int:
        return 0 if version is None else self._smallest(version.digest)

    def _weigh(self, digest: str) -> int:
        try:
            manifest = manifests.decode(self._registry.payload(Digest(digest)))
        except NotFound:
            return 0
        return weight(manifest)


def weight(manifest: Manifest) -> int:
    """Bytes that a device needs of a version at least: the files of its smallest variant."""
    sums = [sum(file.size for file in manifest.needed(one).values()) for one in manifest.content.variants]
    return min(sums, default=0)
