"""Objects by digest, far or near: a folder, S3, Azure Blob or GCS behind a few methods.

An object is bytes named by their digest and never changes; the hub keeps models and patches here. obstore speaks to all
of these stores; only publishing into a folder is done by :mod:`farshore.store.files`, because obstore does not fsync.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, InvalidPathError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Invalid, NotFound, TooLarge, Unavailable
from farshore.store import files

CHUNK = 1 << 18
"""Bytes held in memory while an object is streamed."""


_KEY = re.compile(r"sha256/[0-9a-f]{2}/([0-9a-f]{64})\Z")


class Objects:
    """One store of objects.

    Args:
        store: obstore's store.
        folder: the folder itself when the store is one, else None.

    """

    def __init__(self, store: Any, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, url: str) -> Objects:
        """The store at ``url``.

        Args:
            url: a path or ``file:///path`` for a folder (made if missing), ``s3://bucket/prefix``,
                ``az://container/prefix``, ``gs://bucket/prefix``, ``memory:///``. Credentials, and the account of an Azure
                container, come from the environment as each cloud's own tools read them (``AWS_…``, ``AZURE_STORAGE_…``,
                ``GOOGLE_…``).

        Raises:
            Invalid: not such an address.
            Unavailable: the folder cannot be made.

        """
        scheme = urlsplit(url).scheme
        if scheme in {"", "file"}:
            folder = Path(unquote(urlsplit(url).path) if scheme else url).absolute()
            files.make_folder(folder)
            return cls(LocalStore(folder), folder)
        try:
            return cls(from_url(url))
        except (BaseError, ValueError, TypeError) as error:
            raise Invalid(f"object store {url!r}: {_first_line(error)}") from error

    @property
    def signs(self) -> bool:
        """Whether the store can write addresses that carry their own permission."""
        return isinstance(self._store, AzureStore | GCSStore | S3Store)

    def address(self, what: Digest | str, seconds: int) -> str:
        """Where anybody may read this one object for a while: a SAS or presigned address. Whether it is there is not asked.

        Args:
            what: an object's digest, or a document's name (:meth:`write`).
            seconds: life of the address.

        Raises:
            Invalid: the store has no addresses, or its credentials cannot sign.

        """
        if not self.signs:
            raise Invalid("this store cannot sign addresses: use az://, s3:// or gs://")
        try:
            key = _key(Digest(what)) if what.startswith("sha256:") else what
            return str(obstore.sign(self._store, "GET", key, timedelta(seconds=seconds)))
        except (BaseError, ValueError, OSError) as error:
            raise Invalid(f"the store signs no addresses with these credentials: {_first_line(error)}") from error

    def put(self, digest: Digest, path: Path) -> None:
        """Take the file ``path``, whose digest the caller has checked, as object ``digest``. Durable on return.

        The file is gone afterwards: moved where the store is a folder on the same file system, else copied.

        Raises:
            Unavailable: disk full, network or store failing; the object may or may not be there.

        """
        if self._folder is not None:
            self._publish(path, self._folder / _key(digest))
            return
        with _writing(digest):
            obstore.put(self._store, _key(digest), path)
        files.remove(path)

    def put_bytes(self, data: bytes) -> Digest:
        """Take a few bytes as an object; what is there already is not sent again.

        Raises:
            Unavailable: as :meth:`put`.

        """
        digest = digests.of(data)
        try:
            self.size(digest)
        except NotFound:
            self._write(_key(digest), data)
        return digest

    def write(self, name: str, data: bytes) -> None:
        """Keep a document beside the objects, under a name of its own, in place of what stood there.

        Args:
            name: ``folder/name.json``; not in ``sha256/``.
            data: all of it.

        Raises:
            Unavailable: as :meth:`put`.

        """
        self._write(name, data)

    def read(self, name: str, limit: int) -> bytes:
        """A document that :meth:`write` kept.

        Args:
            name: its name.
            limit: bytes that it may have.

        Raises:
            NotFound, Unavailable: as :meth:`size`.
            TooLarge: it is longer.

        """
        with _translated(name):
            found = obstore.get(self._store, name)
            if found.meta["size"] > limit:
                raise TooLarge(f"{name}: {found.meta['size']} bytes; at most {limit} are taken")
            return bytes(found.bytes())

    def size(self, digest: Digest) -> int:
        """Bytes of the object.

        Raises:
            NotFound: there is none.
            Unavailable: the store does not answer.

        """
        with _translated(digest):
            return int(obstore.head(self._store, _key(digest))["size"])

    def chunks(self, digest: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` (exclusive; None for all) in pieces of about ``CHUNK``.

        Raises:
            NotFound, Unavailable: as :meth:`size`.

        """
        with _translated(digest):
            for piece in obstore.get(self._store, _key(digest), options=_options(start, end)).stream(CHUNK):
                yield bytes(piece)

    async def stream(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        """As :meth:`chunks`, for an event loop.

        Args:
            digest: which object.
            start: first byte.
            end: one after the last byte; not before ``start``.

        """
        if start == end:
            return
        with _translated(digest):
            found = await obstore.get_async(self._store, _key(digest), options=_options(start, end))
            async for piece in found.stream(CHUNK):
                yield bytes(piece)

    @contextmanager
    def local(self, digest: Digest, scratch: Path) -> Iterator[Path]:
        """The object as a file to read inside the block: itself in a folder, a copy in ``scratch`` otherwise.

        Args:
            digest: which object.
            scratch: a folder for the copy, which is deleted afterwards.

        Raises:
            NotFound, Unavailable: as :meth:`size`.

        """
        if self._folder is not None:
            path = self._folder / _key(digest)
            if not path.is_file():
                raise NotFound(f"no object {digest}")
            yield path
            return
        copy = files.temporary(scratch / digests.hex_of(digest))
        try:
            with files.translated(copy), copy.open("xb") as out:
                for piece in self.chunks(digest):
                    out.write(piece)
            yield copy
        finally:
            files.discard(copy)

    def remove(self, digest: Digest) -> None:
        """Delete the object; missing is fine.

        Raises:
            Unavailable: the store does not answer.

        """
        try:
            with _translated(digest):
                obstore.delete(self._store, _key(digest))
        except NotFound:
            return

    def stored(self) -> Iterator[tuple[Digest, float]]:
        """Every object with the moment it was put (seconds since the epoch), in no order. Foreign keys are left out.

        Raises:
            Unavailable: the store does not answer.

        """
        with _translated(None):
            for batch in obstore.list(self._store, "sha256"):
                for found in batch:
                    form = _KEY.match(found["path"])
                    if form is not None:
                        yield Digest(f"sha256:{form[1]}"), found["last_modified"].timestamp()

    def _write(self, key: str, data: bytes) -> None:
        if self._folder is not None:
            files.make_folder((self._folder / key).parent)
            files.write_atomic(self._folder / key, data)
            return
        with _writing(key):
            obstore.put(self._store, key, data)

    def _publish(self, source: Path, target: Path) -> None:
        files.make_folder(target.parent)
        with files.translated(target):
            if source.stat().st_dev == target.parent.stat().st_dev:
                files.publish(source, target)
                return
            copy = files.temporary(target)
            try:
                shutil.copyfile(source, copy)
                files.publish(copy, target)
            finally:
                copy.unlink(missing_ok=True)
        files.remove(source)


def _key(digest: Digest) -> str:
    """Two levels keep folders small; the key holds nothing but hex digits."""
    name = digests.hex_of(digest)
    return f"sha256/{name[:2]}/{name}"


def _options(start: int, end: int | None) -> Any:
    if end is None:
        return {"range": {"offset": start}} if start else {}
    return {"range": (start, end)}


@contextmanager
def _translated(what: Digest | str | None) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, InvalidPathError, FileNotFoundError) as error:
        raise NotFound(f"no object {what}") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise Unavailable(f"object store refuses access: check its credentials ({_first_line(error)})") from error
    except (BaseError, OSError) as error:
        raise Unavailable(f"object store: {_first_line(error)}") from error


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """As :func:`_translated`: what cannot be found while it is put is the place for it."""
    try:
        with _translated(what):
            yield
    except NotFound as error:
        raise Unavailable("object store: it has no such container or bucket; make it first") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
