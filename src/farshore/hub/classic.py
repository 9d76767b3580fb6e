"""The classic contract of Microsoft's guide to modules that load models: a ZIP file, its address and its MD5 in desired.

``FileName``, ``DownloadUrl`` and ``ContentMD5`` (base64) stand in the module's desired section; it downloads, compares, unpacks, loads,
and reports ``LatestAIModelFileName``
(https://learn.microsoft.com/azure/architecture/guide/iot/machine-learning-inference-iot-edge). What is stored as address is only a
reference, ``farshore:<digest>``; a client that reads it gets an address that is fresh at that moment.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import FarshoreError
from farshore.core.manifest import File
from farshore.hub import refs
from farshore.hub.configuration import ADDRESS, SCHEME, is_reference
from farshore.hub.database import Database
from farshore.hub.records import bundles, models
from farshore.hub.records.bundles import Bundle
from farshore.hub.records.models import Version
from farshore.hub.registry import Registry
from farshore.store import files

FILE, MD5, RUNNING = "FileName", "ContentMD5", "LatestAIModelFileName"
ROLES = {"model", "external", "labels"}
"""What such a module unpacks; pictures for acceptance cases are of no use to it."""
CHUNK = 1 << 20

_NAME = re.compile(r"([a-z0-9][a-z0-9._-]{0,62})-([0-9]{1,9})\.zip\Z")
_EPOCH = (1980, 1, 1, 0, 0, 0)

Address = Callable[[str, Digest], str]
"""Device and digest → where that device may fetch it for a while."""


class Bundles:
    """Versions as ZIP files.

    Args:
        database: open.
        registry: has the files, and takes the ZIP.
        address: writes addresses.

    """

    def __init__(self, database: Database, registry: Registry, address: Address) -> None:
        self._database = database
        self._registry = registry
        self._address = address

    def make(self, ref: str) -> Bundle:
        """The ZIP file of a version; made when it is asked for first. The same files make the same bytes.

        Raises:
            Invalid, NotFound: no such version.
            Unavailable: disk or store failing.

        """
        with self._database.reading() as tx:
            version = refs.resolve(tx, ref)
            known = bundles.of_version(tx, version.id)
            parts = models.version_files(tx, version.id)
        if known is not None:
            return known
        path = self._registry.new_spool()
        try:
            self._write(path, parts)
            digest, md5, size = _hashed(path)
            self._registry.add_blob(digest, path, size)
        finally:
            files.discard(path)
        with self._database.writing() as tx:
            refs.resolve(tx, f"{version.model}@{version.number}")  # it may have been deleted meanwhile
            bundles.put(tx, version.id, digest, md5)
            found = bundles.of_version(tx, version.id)
        assert found is not None
        return found

    def fresh(self, device: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """A module's desired values, or a change of them, with an address that its device may use for a while.

        Args:
            device: whose module reads them.
            values: as they are stored.

        """
        said = values.get(ADDRESS)
        if not is_reference(said):
            return dict(values)
        return {**values, ADDRESS: self._address(device, digests.parse(said.removeprefix(SCHEME)))}

    def _write(self, path: Path, parts: list[File]) -> None:
        files.make_folder(path.parent, mode=0o700)
        with files.translated(path), path.open("xb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for part in sorted((one for one in parts if one.role in ROLES), key=lambda one: one.path):
                entry = zipfile.ZipInfo(part.path, _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                entry.file_size = part.size
                with archive.open(entry, "w") as inner:
                    for piece in self._registry.objects.chunks(Digest(part.digest)):
                        inner.write(piece)


def values_of(bundle: Bundle) -> dict[str, Any]:
    """What a module's desired section says of a version."""
    return {
        FILE: f"{bundle.model}-{bundle.number}.zip",
        ADDRESS: f"{SCHEME}{bundle.digest}",
        MD5: bundle.md5,
    }


def wanted(tx: Connection, desired: Mapping[str, Any]) -> Bundle | None:
    """The version that a module's desired section names in this contract."""
    said = desired.get(ADDRESS)
    return bundles.by_digest(tx, said.removeprefix(SCHEME)) if is_reference(said) else None


def running(tx: Connection, reported: Mapping[str, Any]) -> Version | None:
    """The version that a module says it runs in this contract."""
    said = reported.get(RUNNING)
    form = _NAME.match(said) if isinstance(said, str) else None
    if form is None:
        return None
    try:
        return refs.find(tx, form[1], form[2])
    except FarshoreError:
        return None


def _hashed(path: Path) -> tuple[Digest, str, int]:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as data:
        while piece := data.read(CHUNK):
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
    return Digest(f"sha256:{sha256.hexdigest()}"), base64.b64encode(md5.digest()).decode(), size
