"""Versions of models side by side on a device.

Layout (``docs/formats/slots.md``)::

    <root>/models/<model>/versions/<64 hex of the manifest's digest>/
        manifest.json   the bytes that its publisher signed for
        variant         name of the variant that was installed
        files/<path>    the variant's files, under the names the manifest gives them
        cases/<path>    pictures of the acceptance cases
    <root>/models/<model>/current  -> versions/<64 hex>     what answers
    <root>/models/<model>/previous -> versions/<64 hex>     what is gone back to

A version's folder appears whole or not at all; activation is one renamed link.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Corrupt, FarshoreError, NotFound, Unavailable
from farshore.core.manifest import File, Manifest, Variant
from farshore.store import blobs as blob_store
from farshore.store import files
from farshore.store.blobs import Blobs

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EIO, getattr(errno, "EUCLEAN", errno.EIO)}
_LINKLESS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}


class Installed(Struct, frozen=True):
    """A version that is whole on this device.

    Attributes:
        model: name.
        version: number.
        digest: of the manifest.
        variant: name of the installed variant.
        path: its folder.

    """

    model: str
    version: int
    digest: Digest
    variant: str
    path: Path

    def file(self, path: str) -> Path:
        """Where the variant's file of that manifest path is."""
        return self.path / "files" / path

    def case(self, path: str) -> Path:
        """Where the acceptance picture of that manifest path is."""
        return self.path / "cases" / path


class Slots:
    """The models of one device.

    Args:
        root: the device's root folder.

    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "models"
        files.make_folder(self.folder)

    def sweep(self) -> None:
        """Delete what interrupted writes left, and what bad sectors made of versions that no link leads to.

        For the one process that writes here, at its start.
        """
        files.sweep(self.folder)
        for entry in self.folder.iterdir():
            if not entry.is_dir():
                continue  # a file that somebody laid here is no model, and not ours to delete
            files.sweep(entry)
            if (entry / "versions").is_dir():
                files.sweep(entry / "versions")
            self._sweep_damaged(entry)

    def _sweep_damaged(self, model: Path) -> None:
        """Delete versions that say no longer what they are: nothing else ever asks for them again."""
        linked = {link.readlink().name for name in ("current", "previous") if (link := model / name).is_symlink()}
        versions = model / "versions"
        for folder in versions.iterdir() if versions.is_dir() else ():
            if _HEX.match(folder.name) and folder.name not in linked and _damaged(folder):
                files.remove_tree(folder)

    def models(self) -> list[str]:
        """Names of models of which some version is installed."""
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(files.TEMPORARY)]
        return sorted(name for name in names if self.installed(name))

    def installed(self, model: str) -> list[Installed]:
        """Every readable version of ``model``, oldest number first."""
        versions = self._versions(model)
        names = [entry.name for entry in versions.iterdir()] if versions.is_dir() else []
        found = [entry for name in names if (entry := self._read(model, name)) is not None]
        return sorted(found, key=lambda entry: (entry.version, entry.digest))

    def current(self, model: str) -> Installed | None:
        """The version that answers, if its link leads to a readable one."""
        return self._follow(model, "current")

    def previous(self, model: str) -> Installed | None:
        """The version to go back to, if there is another than the current one."""
        previous, current = self._follow(model, "previous"), self._follow(model, "current")
        return None if previous is None or (current is not None and previous.digest == current.digest) else previous

    def find(self, model: str, digest: Digest) -> Installed:
        """The installed version with that manifest digest.

        Raises:
            NotFound: not installed (or not readable).

        """
        found = self._read(model, digests.hex_of(digest))
        if found is None:
            raise NotFound(f"{model}: version {digests.short(digest)} is not installed here")
        return found

    def manifest(self, installed: Installed) -> Manifest:
        """The version's manifest.

        Raises:
            Corrupt: it does not match its digest.

        """
        return _read_manifest(installed.path, installed.digest)

    def variant(self, installed: Installed) -> Variant:
        """The variant that was installed.

        Raises:
            Corrupt: the manifest has none of that name.

        """
        for variant in self.manifest(installed).content.variants:
            if variant.name == installed.variant:
                return variant
        raise Corrupt(f"{installed.path}: its manifest has no variant {installed.variant!r}")

    def install(self, payload: bytes, variant: Variant, blobs: Blobs) -> Installed:
        """Lay a version beside the others. Everything it needs is in ``blobs``; installing twice changes nothing.

        Args:
            payload: the manifest's bytes; already believed.
            variant: the one to install.
            blobs: where its files are.

        Raises:
            NotFound: a blob is missing.
            Unavailable: disk full or failing; nothing is visible then.

        """
        manifest, digest = manifests.decode(payload), digests.of(payload)
        versions = self._versions(manifest.model)
        final = versions / digests.hex_of(digest)
        known = self._read(manifest.model, final.name)
        if known is not None and known.variant == variant.name:
            return known
        files.make_folder(versions)
        if final.exists():
            files.remove_tree(final)
        temp = files.temporary(final)
        try:
            files.make_folder(temp / "files")
            files.make_folder(temp / "cases")
            for file in variant.files:
                if file.role != "other":
                    _place(file, temp / "files", blobs)
            for case in manifest.content.acceptance:
                _place(case.picture, temp / "cases", blobs)
            files.write_atomic(temp / "manifest.json", payload)
            files.write_atomic(temp / "variant", variant.name.encode())
            files.publish_folder(temp, final)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            with suppress(Unavailable):
                files.remove_tree(final)  # after a failed fsync its name may be there without being durable
            raise
        return self.find(manifest.model, digest)

    def activate(self, model: str, digest: Digest) -> None:
        """Make a version current and the one before it previous. Asking twice changes nothing.

        The order matters: ``previous`` is written first, so that a crash between the two leaves a valid current version.
        A link that leads there already is written again: if the last fsync failed, it may stand in memory only.

        Raises:
            NotFound: not installed.
            Unavailable: disk full or failing.

        """
        target = self.find(model, digest)
        current = self.current(model)
        if current is not None and current.digest != digest:
            files.point(self._link(model, "previous"), f"versions/{current.path.name}")
        files.point(self._link(model, "current"), f"versions/{target.path.name}")

    def clear_current(self, model: str) -> None:
        """Let no version be current (the first one failed and there is nothing to go back to)."""
        files.remove(self._link(model, "current"))

    def remove(self, model: str, digest: Digest) -> None:
        """Delete a version's folder; missing is fine.

        Raises:
            Conflict: it is the current one.

        """
        current = self.current(model)
        if current is not None and current.digest == digest:
            raise Conflict(f"{model}: version {current.version} is current and stays")
        name = digests.hex_of(digest)
        link = self._link(model, "previous")
        if link.is_symlink() and Path(link.readlink()).name == name:
            files.remove(link)
        files.remove_tree(self._versions(model) / name)

    def remove_model(self, model: str) -> None:
        """Delete a model with all its versions: the current link first, so that no server starts on half of it."""
        self.clear_current(model)
        files.remove_tree(self.folder / model)

    def verify(self, installed: Installed) -> None:
        """Re-hash everything of a version.

        Raises:
            Corrupt: something is missing or not what the manifest says.

        """
        manifest = self.manifest(installed)
        for file in self.variant(installed).files:
            if file.role != "other":
                blob_store.verify(installed.file(file.path), Digest(file.digest))
        for case in manifest.content.acceptance:
            blob_store.verify(installed.case(case.picture.path), Digest(case.picture.digest))

    def _versions(self, model: str) -> Path:
        return self.folder / manifests.check_name(model) / "versions"

    def _link(self, model: str, name: str) -> Path:
        return self.folder / manifests.check_name(model) / name

    def _follow(self, model: str, name: str) -> Installed | None:
        try:
            target = self._link(model, name).readlink()
        except OSError:
            return None
        return self._read(model, target.name)

    def _read(self, model: str, name: str) -> Installed | None:
        """A version's folder as a value; None for anything that is not one (a crash's leftovers, a foreign file)."""
        path = self._versions(model) / name
        try:
            digest = digests.parse(f"sha256:{name}")
            manifest = _read_manifest(path, digest)
            variant = (path / "variant").read_text()
        except (OSError, ValueError, FarshoreError):
            return None
        if manifest.model != model:
            return None
        return Installed(model, manifest.version, digest, variant, path)


def _damaged(folder: Path) -> bool:
    """Whether a version's manifest is gone, wrong, or on a bad sector; not so where only this process cannot read it now."""
    try:
        payload = (folder / "manifest.json").read_bytes()
    except OSError as error:
        return error.errno in _GONE
    return digests.of(payload) != f"sha256:{folder.name}"


def _read_manifest(path: Path, digest: Digest) -> Manifest:
    try:
        payload = (path / "manifest.json").read_bytes()
    except OSError as error:
        raise Corrupt(f"{path}: no manifest ({error.strerror})") from error
    digests.check(digest, digests.of(payload), f"{path}/manifest.json")
    return manifests.decode(payload)


def _place(file: File, folder: Path, blobs: Blobs) -> None:
    """Give a blob its name in a version's folder: the same bytes on disk where links exist, else a copy."""
    source, final = blobs.path(Digest(file.digest)), folder / manifests.check_path(file.path)
    with files.translated(final):
        try:
            os.link(source, final)
        except FileExistsError:
            return  # two acceptance cases may share a picture
        except OSError as error:
            if error.errno not in _LINKLESS:
                raise
            copy = files.temporary(final)
            shutil.copyfile(source, copy)
            files.publish(copy, final)
