"""Manifests of versions that are not installed yet.

A manifest is believed when its bytes have the digest that desired names, and desired is believed because the hub's order and
the publisher's role say so (:mod:`farshore.agent.trust`). Nothing is fetched for a version before its manifest is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, FarshoreError, Invalid
from farshore.core.manifest import Manifest
from farshore.store import files


@dataclass(frozen=True, slots=True)
class Believed:
    """A manifest that is the one meant: its bytes, and what they say."""

    payload: bytes
    manifest: Manifest


def believe(payload: bytes, model: str, digest: Digest, version: int | None) -> Believed:
    """Check a manifest against what is desired.

    Args:
        payload: bytes from the hub or the disk.
        model: the name it must state.
        digest: that it must have.
        version: the number it must state; None when it is not asked for by number.

    Raises:
        Corrupt: it is not the manifest that is meant, or malformed.

    """
    what = f"manifest of {model} {digests.short(digest)}"
    digests.check(digest, digests.of(payload), what)
    try:
        manifest = manifests.decode(payload)
    except Invalid as error:
        raise Corrupt(f"{what}: {error.message}") from error
    if manifest.model != model or version not in (None, manifest.version):
        raise Corrupt(f"{what} is of {manifest.model}@{manifest.version}, desired is {model}@{version}")
    return Believed(payload, manifest)


class Manifests:
    """Believed manifests, one file each.

    Args:
        folder: made when missing.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files.make_folder(folder)
        files.sweep(folder)

    def keep(self, payload: bytes, model: str, digest: Digest, version: int) -> None:
        """Believe and store a manifest.

        Raises:
            Corrupt: see :func:`believe`; nothing is stored.
            Unavailable: disk full or failing.

        """
        believe(payload, model, digest, version)
        files.write_atomic(self._at(digest), payload)

    def find(self, model: str, digest: Digest, version: int | None) -> Believed | None:
        """The stored manifest if it is there and still the one meant; it is checked again each time."""
        try:
            return believe(self._at(digest).read_bytes(), model, digest, version)
        except (OSError, FarshoreError):
            return None

    def retain(self, wanted: Iterable[Digest]) -> None:
        """Delete all manifests but those of ``wanted``."""
        names = {self._at(digest).name for digest in wanted}
        for path in self._folder.iterdir():
            if path.name not in names:
                files.remove(path)

    def _at(self, digest: Digest) -> Path:
        return self._folder / f"{digests.hex_of(digest)}.json"
