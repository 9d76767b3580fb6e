"""Files that came with the device, in its image or on a card: what is wanted and lies there is not fetched.

They are named by their digests (64 hex digits) and believed by them; all else of an update goes its usual way.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from farshore.agent.link import Body, Link, Through
from farshore.core import digest as digests
from farshore.core.digest import Digest, Hasher
from farshore.core.errors import Conflict, NotFound, Unavailable
from farshore.core.wire import Route, TicketReply, TicketRequest

SCHEME = "seed:"
PORTION = 1 << 18
SECONDS = 3600


class SeededLink(Through):
    """See :class:`farshore.agent.link.Link`.

    Args:
        inner: the link for all that is not there.
        folder: with the files; read-only is fine.

    """

    def __init__(self, inner: Link, folder: Path) -> None:
        super().__init__(inner)
        self._folder = folder
        self._good: dict[Digest, bool] = {}

    @property
    def credential(self) -> str | None:
        return self._inner.credential

    @credential.setter
    def credential(self, value: str | None) -> None:
        self._inner.credential = value

    def tickets(self, request: TicketRequest) -> TicketReply:
        digest = Digest(request.want)
        if not self._has(digest):
            return super().tickets(request)
        return TicketReply((Route(f"{SCHEME}{digest}", digest, self._at(digest).stat().st_size),), SECONDS)

    def fetch(self, url: str, start: int) -> Body:
        if not url.startswith(SCHEME):
            return super().fetch(url, start)
        return FileBody.at(self._at(digests.parse(url.removeprefix(SCHEME))), start)

    def _has(self, digest: Digest) -> bool:
        """Whether the file is there and whole; it is read once for that, because a wrong one would bar the right way."""
        if digest not in self._good:
            hasher = Hasher()
            try:
                with self._at(digest).open("rb") as file:
                    while piece := file.read(PORTION):
                        hasher.update(piece)
                self._good[digest] = hasher.digest() == digest
            except OSError:
                self._good[digest] = False
        return self._good[digest]

    def _at(self, digest: Digest) -> Path:
        return self._folder / digests.hex_of(digest)


class FileBody:
    """See :class:`farshore.agent.link.Body`."""

    def __init__(self, file: BinaryIO, start: int, total: int) -> None:
        self.start = start
        self.total: int | None = total
        self._file = file
        if start and start >= total:
            file.close()
            raise Conflict(f"{total} bytes are there, asked for those from {start} on")
        file.seek(start)

    @classmethod
    def at(cls, path: Path, start: int) -> FileBody:
        """A file of this machine, from a byte on.

        Raises:
            NotFound: it is not there, or cannot be read.
            Conflict: ``start`` lies behind its end.

        """
        try:
            return cls(path.open("rb"), start, path.stat().st_size)
        except OSError as error:
            raise NotFound(f"{path}: {error.strerror}") from error

    def read(self, limit: int) -> bytes:
        try:
            return self._file.read(limit)
        except OSError as error:
            raise Unavailable(f"{self._file.name}: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()
