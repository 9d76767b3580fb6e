"""ZIP archives, as people hand models over, opened without trusting them.

Members are written to nameless spool files and become blobs; their names are only ever words in a manifest. Everything is
bounded before it is read: number of members, directory, unpacked bytes, ratio; members that overlap, are links, are
encrypted or carry an odd name are refused (https://www.bamsoftware.com/hacks/zipbomb/).
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from farshore.core import digest as digests
from farshore.core.digest import Digest
from farshore.core.errors import Invalid, TooLarge
from farshore.core.manifest import check_path
from farshore.store import files

MAX_MEMBERS = 1024
MAX_READ = 4 << 20
"""Bytes of the largest single read: what the ZIP's directory may hold, since it is read in one piece."""
MAX_RATIO = 200
FREE_RATIO = 16 << 20
"""Unpacked bytes below which no ratio is too high: label files of blanks are no attack."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """An unpacked file.

    Attributes:
        name: plain, checked.
        path: where its bytes are, under a name of ours.
        digest: of the bytes.
        size: their number.

    """

    name: str
    path: Path
    digest: Digest
    size: int


def is_zip(name: str, head: bytes) -> bool:
    """Whether a file called ``name`` that begins with ``head`` is a ZIP."""
    return name.lower().endswith(".zip") and head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}


def unpack(archive: Path, spool: Path, *, limit: int) -> Iterator[Member]:
    """The archive's files, in its order, each in ``spool`` for the caller to take.

    Folders are flattened: a hand-over ZIP holds one folder or none. Hidden files and ``__MACOSX`` are left out.

    Args:
        archive: the ZIP.
        spool: folder for the unpacked bytes.
        limit: most bytes unpacked.

    Raises:
        Invalid: not a ZIP, broken, or with members as above.
        TooLarge: more members or bytes than allowed.
        Unavailable: the disk is full.

    """
    size = archive.stat().st_size
    with archive.open("rb") as file, _translated(), zipfile.ZipFile(_Bounded(file, size)) as opened:
        members = _checked(opened, size, limit)
        for name, info in members.items():
            path = files.temporary(spool / "member")
            try:
                yield _unpacked(opened, name, info, path)
            finally:
                files.discard(path)


class _Bounded:
    """A file that refuses to read much at once: the ZIP reader would take a directory of any size into memory."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._file.tell() if size is None or size < 0 else size
        if wanted > MAX_READ:
            raise TooLarge(f"ZIP: its directory is larger than {MAX_READ} bytes")
        return self._file.read(size)


def _checked(opened: zipfile.ZipFile, size: int, limit: int) -> dict[str, zipfile.ZipInfo]:
    every = opened.infolist()
    if len(every) > MAX_MEMBERS:
        raise TooLarge(f"ZIP: {len(every)} members; at most {MAX_MEMBERS} are taken")
    total = sum(info.file_size for info in every)
    if total > limit:
        raise TooLarge(f"ZIP: unpacks to {total} bytes; at most {limit} are taken")
    if total > FREE_RATIO and total > MAX_RATIO * size:
        raise TooLarge(f"ZIP: unpacks to {total // max(size, 1)} times its size; at most {MAX_RATIO} times is taken")
    _refuse_overlap(every, opened.start_dir)
    chosen: dict[str, zipfile.ZipInfo] = {}
    for info in every:
        name = _plain_name(info)
        if name is None:
            continue
        if name in chosen:
            raise Invalid(f"ZIP: {name!r} is there twice, in different folders: keep one")
        chosen[name] = info
    if not chosen:
        raise Invalid("ZIP: no files in it")
    return chosen


def _refuse_overlap(every: list[zipfile.ZipInfo], directory: int) -> None:
    end = 0
    for info in sorted(every, key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise Invalid(f"ZIP: {info.filename[:80]!r} overlaps another member")
        end = info.header_offset + 30 + len(info.orig_filename.encode("utf-8", "surrogatepass")) + info.compress_size
    if end > directory:
        raise Invalid("ZIP: a member overlaps the directory")


def _plain_name(info: zipfile.ZipInfo) -> str | None:
    """The member's name without its folders; None if it is to be left out."""
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or any(part in {"", ".", ".."} or part[1:2] == ":" for part in parts):
        raise Invalid(f"ZIP: bad member name {name[:80]!r}")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise Invalid(f"ZIP: {name[:80]!r} is not a plain file")
    if name.endswith("/") or kind == stat.S_IFDIR:
        return None
    if "__MACOSX" in parts or parts[-1].startswith("."):
        return None
    if info.flag_bits & 0x1:
        raise Invalid(f"ZIP: {name[:80]!r} is encrypted")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Invalid(f"ZIP: {name[:80]!r} is compressed in a way that is not taken: use deflate")
    return check_path(parts[-1])


def _unpacked(opened: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, path: Path) -> Member:
    hasher = digests.Hasher()
    with opened.open(info) as source, files.translated(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while piece := source.read(CHUNK):
                hasher.update(piece)
                if hasher.size > info.file_size:
                    raise Invalid(f"ZIP: {name!r} is longer than it says")
                files.write_all(fd, piece)
        finally:
            os.close(fd)
    if hasher.size != info.file_size:
        raise Invalid(f"ZIP: {name!r} is cut short")
    return Member(name, path, hasher.digest(), hasher.size)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Invalid(f"ZIP: broken ({str(error)[:200]}): pack it again") from error
