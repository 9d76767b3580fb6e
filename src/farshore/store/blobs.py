"""A device's blobs: bytes by digest in one folder, and downloads that survive any interruption.

Layout: ``<folder>/<64 hex>`` holds a whole, checked, read-only blob. ``<folder>/partial/<64 hex>.part`` holds the beginning
of one, and ``.chunks`` beside it the SHA-256 of each 64 KiB of that beginning. What a power cut leaves behind may be
shorter or scrambled; on opening, the longest prefix whose chunks still match is kept and the rest fetched again. So no
fsync is needed for safety while downloading, only now and then to bound what a power cut can cost.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Self

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Corrupt, Invalid, NotFound, Unavailable
from farshore.store import files

CHUNK = 64 * 1024
"""Bytes by which a partial blob grows: what an interruption can cost at most."""

FLUSH_EVERY = 4 * 1024 * 1024
"""Bytes after which a partial blob is made durable: what a power cut can cost at most."""

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PART = re.compile(r"([0-9a-f]{64})\.(?:part|chunks)\Z")


class Blobs:
    """The blobs in one folder.

    Args:
        folder: made when missing.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partials = folder / "partial"
        files.make_folder(self.partials)
        files.sweep(folder)
        self._tidy_partials()

    def has(self, digest: Digest) -> bool:
        return self._at(digest).is_file()

    def path(self, digest: Digest) -> Path:
        """Where the blob's file is.

        Raises:
            NotFound: no such blob here.

        """
        path = self._at(digest)
        if not path.is_file():
            raise NotFound(f"no blob {digest} here")
        return path

    def size(self, digest: Digest) -> int:
        """Length in bytes.

        Raises:
            NotFound: no such blob here.

        """
        return self.path(digest).stat().st_size

    def add(self, data: bytes) -> Digest:
        """Store ``data``; storing it again changes nothing.

        Raises:
            Unavailable: disk full or failing.

        """
        digest = digests.of(data)
        if not self.has(digest):
            files.write_atomic(self._at(digest), data, mode=0o444)
        return digest

    def digests(self) -> dict[Digest, int]:
        """Every whole blob with its size in bytes."""
        with os.scandir(self.folder) as entries:
            return {Digest(f"sha256:{e.name}"): e.stat().st_size for e in entries if _HEX.match(e.name)}

    def remove(self, digest: Digest) -> None:
        """Forget a blob and any beginning of it; missing is fine."""
        files.remove(self._at(digest))
        for path in self._partial_files(digest):
            files.remove(path)

    def used(self) -> int:
        """Bytes on disk: blobs and partials."""
        with os.scandir(self.partials) as entries:
            return sum(self.digests().values()) + sum(entry.stat().st_size for entry in entries)

    def partial_digests(self) -> list[Digest]:
        """What downloads were begun and not finished."""
        with os.scandir(self.partials) as entries:
            found = {match.group(1) for entry in entries if (match := _PART.match(entry.name))}
        return [Digest(f"sha256:{name}") for name in sorted(found)]

    def partial_sizes(self) -> dict[Digest, int]:
        """Every begun download with the bytes of it that are on disk."""
        sizes: dict[Digest, int] = {}
        for digest in self.partial_digests():
            try:
                sizes[digest] = self._partial_files(digest)[0].stat().st_size
            except FileNotFoundError:
                sizes[digest] = 0
        return sizes

    def partial(self, digest: Digest, size: int) -> Partial:
        """Begin or resume a download.

        Args:
            digest: of the whole.
            size: of the whole in bytes, as the signed manifest (or the hub's route) says.

        """
        part, chunks = self._partial_files(digest)
        return Partial(digest, size, part, chunks, self._at(digest))

    def _at(self, digest: Digest) -> Path:
        return self.folder / digests.hex_of(digest)

    def _tidy_partials(self) -> None:
        """Mend what a power cut within :meth:`Partial.finish` leaves: a blob that is still called a beginning as well (written to
        by that name it would change in all places), or a beginning that is read-only already and could not be gone on with.
        """
        with os.scandir(self.partials) as entries:
            begun = [Path(entry.path) for entry in entries if _PART.match(entry.name)]
        for path in begun:
            with suppress(OSError):  # where it cannot be mended now, whoever opens it says so
                if (self.folder / path.stem).is_file():
                    path.unlink()
                elif not path.stat(follow_symlinks=False).st_mode & stat.S_IWUSR:
                    path.chmod(0o600)

    def _partial_files(self, digest: Digest) -> tuple[Path, Path]:
        name = digests.hex_of(digest)
        return self.partials / f"{name}.part", self.partials / f"{name}.chunks"


class Partial:
    """The beginning of a blob. Close it, or use it in a ``with``; bytes short of a chunk are given up then.

    Attributes:
        digest: of the whole.
        size: of the whole in bytes.
        done: bytes that are here and need not be fetched again; buffered ones included.

    """

    def __init__(self, digest: Digest, size: int, part: Path, chunks: Path, final: Path) -> None:
        self.digest, self.size = digest, size
        self._part, self._chunks, self._final = part, chunks, final
        self._buffer = bytearray()
        self._hasher = digests.Hasher()
        self._unflushed = 0
        self._fd = self._chunk_fd = -1
        try:
            with files.translated(part):
                self._fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                self._chunk_fd = os.open(chunks, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> int:
        return self._hasher.size + len(self._buffer)

    def append(self, data: bytes) -> None:
        """Add the next bytes.

        Raises:
            Invalid: more than ``size`` bytes in all; nothing of ``data`` is kept.
            Unavailable: disk full or failing.

        """
        if self.done + len(data) > self.size:
            raise Invalid(f"{self.digest}: more than the stated {self.size} bytes arrived")
        self._buffer += data
        while len(self._buffer) >= CHUNK:
            self._write(bytes(self._buffer[:CHUNK]))
            del self._buffer[:CHUNK]
        if self._unflushed >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Make what is written durable."""
        try:
            with files.translated(self._part):
                os.fdatasync(self._fd)
                os.fdatasync(self._chunk_fd)
        except Unavailable:
            self.discard()  # after a failed fsync nobody knows what is on disk (and a second fsync would claim success)
            raise
        self._unflushed = 0

    def finish(self) -> None:
        """Check the whole and publish it as a blob.

        Raises:
            Invalid: bytes are missing.
            Corrupt: the digest is wrong; the partial is discarded, so that the next try starts clean.
            Unavailable: disk full or failing.

        """
        if self.done != self.size:
            raise Invalid(f"{self.digest}: {self.done} of {self.size} bytes are here")
        if self._buffer:
            self._write(bytes(self._buffer))
            self._buffer.clear()
        actual = self._hasher.digest()
        if actual != self.digest:
            self.discard()
            digests.check(self.digest, actual, "download")
        self.close()
        try:
            files.publish(self._part, self._final)
        except Unavailable:
            self.discard()
            raise
        files.remove(self._chunks)

    def discard(self) -> None:
        """Forget it all."""
        self.close()
        files.remove(self._part)
        files.remove(self._chunks)

    def close(self) -> None:
        for fd in (self._fd, self._chunk_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._chunk_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, chunk: bytes) -> None:
        """Bytes first, then their hash: a hash without its bytes never matches, bytes without a hash are fetched again."""
        try:
            with files.translated(self._part):
                files.write_all(self._fd, chunk)
                files.write_all(self._chunk_fd, hashlib.sha256(chunk).digest())
        except Unavailable:
            self.close()  # half a chunk may be there; opening anew cuts it off
            raise
        self._hasher.update(chunk)
        self._unflushed += len(chunk)

    def _recover(self) -> None:
        """Keep the longest prefix of whole chunks whose hashes match; cut both files there.

        What cannot be read any more is as good as wrong: written anew, a disk puts it elsewhere.
        """
        kept = 0
        while kept + CHUNK <= self.size:
            try:
                chunk, known = os.read(self._fd, CHUNK), os.read(self._chunk_fd, 32)
            except OSError:
                break
            if len(chunk) < CHUNK or hashlib.sha256(chunk).digest() != known:
                break
            self._hasher.update(chunk)
            kept += CHUNK
        os.ftruncate(self._fd, kept)
        os.lseek(self._fd, kept, os.SEEK_SET)
        os.ftruncate(self._chunk_fd, kept // CHUNK * 32)
        os.lseek(self._chunk_fd, kept // CHUNK * 32, os.SEEK_SET)


def verify(path: Path, digest: Digest) -> None:
    """Re-hash a file.

    Raises:
        Corrupt: it is not what its name says, or cannot be read.

    """
    try:
        with path.open("rb") as stream:
            actual, _ = digests.of_stream(iter(lambda: stream.read(1 << 20), b""))
    except OSError as error:
        raise Corrupt(f"{path}: cannot be read ({error.strerror})") from error
    digests.check(digest, actual, str(path))
