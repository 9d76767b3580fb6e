"""Signed manifests: believed or not, and kept.

Nothing in a manifest is looked at before a pinned key has vouched for its exact bytes, and nothing is fetched for a version
before its manifest is the one that desired names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core import trust
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, Denied, FarshoreError, Invalid
from farshore.core.manifest import Manifest
from farshore.core.trust import KeyId, PublicKey
from farshore.store import files


@dataclass(frozen=True, slots=True)
class Believed:
    """An envelope whose checks have passed, its payload, and what that says."""

    envelope: bytes
    payload: bytes
    manifest: Manifest


def believe(
    envelope: bytes, keys: Mapping[KeyId, PublicKey], model: str, digest: Digest, version: int | None
) -> Believed:
    """Check an envelope against the pinned keys and against what is desired.

    Args:
        envelope: bytes from the hub or the disk.
        keys: pinned at enrolment.
        model: the name it must state.
        digest: that its payload must have.
        version: the number it must state; None when it is not asked for by number.

    Raises:
        Corrupt: not signed by a pinned key, malformed, or not the manifest that is meant.

    """
    what = f"manifest of {model} {digests.short(digest)}"
    try:
        payload = trust.unseal(envelope, keys)
        digests.check(digest, digests.of(payload), what)
        manifest = manifests.decode(payload)
    except Denied as error:
        raise Corrupt(f"{what} is not signed by a key that this device trusts ({error.message})") from error
    except Invalid as error:
        raise Corrupt(f"{what}: {error.message}") from error
    if manifest.model != model or version not in (None, manifest.version):
        raise Corrupt(f"{what} is signed for {manifest.model}@{manifest.version}, desired is {model}@{version}")
    return Believed(envelope, payload, manifest)


class Envelopes:
    """Believed envelopes of versions that are not installed yet.

    Args:
        folder: made when missing.
        keys: pinned at enrolment.

    """

    def __init__(self, folder: Path, keys: Mapping[KeyId, PublicKey]) -> None:
        self._folder = folder
        self._keys = keys
        files.make_folder(folder)
        files.sweep(folder)

    def keep(self, envelope: bytes, model: str, digest: Digest, version: int) -> None:
        """Believe and store an envelope.

        Raises:
            Corrupt: see :func:`believe`; nothing is stored.
            Unavailable: disk full or failing.

        """
        believe(envelope, self._keys, model, digest, version)
        files.write_atomic(self._at(digest), envelope)

    def find(self, model: str, digest: Digest, version: int | None) -> Believed | None:
        """The stored envelope if it is there and still believed; it is checked again each time."""
        try:
            return believe(self._at(digest).read_bytes(), self._keys, model, digest, version)
        except (OSError, FarshoreError):
            return None

    def retain(self, wanted: Iterable[Digest]) -> None:
        """Delete all envelopes but those of ``wanted``."""
        names = {self._at(digest).name for digest in wanted}
        for path in self._folder.iterdir():
            if path.name not in names:
                files.remove(path)

    def _at(self, digest: Digest) -> Path:
        return self._folder / f"{digests.hex_of(digest)}.json"
