"""Files to push: what a path stands for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import Invalid, NotFound

MAX_FILES = 1024
BUFFER = 1 << 20

Advance = Callable[[int], object]
"""Told of each so many bytes done."""


class Upload(Struct, frozen=True):
    """A file to push: its name in the version, where it is, its digest and size in bytes."""

    name: str
    path: Path
    digest: Digest
    size: int


def collect(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files that ``paths`` stand for: files themselves, and all that lie in folders, hidden ones left out.

    Args:
        paths: files and folders.

    Raises:
        NotFound: one is not there.
        Invalid: nothing is left, too much is, or two files have one name (folders are flattened).

    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(
                entry
                for entry in path.rglob("*")
                if entry.is_file() and not any(part.startswith(".") for part in entry.relative_to(path).parts)
            )
        elif path.is_file():
            found.append(path)
        else:
            raise NotFound(f"no file or folder {str(path)!r}")
        if len(found) > MAX_FILES:
            raise Invalid(f"more than {MAX_FILES} files: push the model's own folder")
    names: dict[str, Path] = {}
    for path in found:
        manifests.check_path(path.name)
        if path.name in names:
            raise Invalid(f"two files are named {path.name!r}: {names[path.name]} and {path}; rename one")
        names[path.name] = path
    if not found:
        raise Invalid("there is nothing to push: name a model file, a folder or a ZIP")
    return found


def measure(path: Path, advance: Advance) -> Upload:
    """Hash a file.

    Raises:
        Invalid: it cannot be read.

    """

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as stream:
            while chunk := stream.read(BUFFER):
                advance(len(chunk))
                yield chunk

    try:
        digest, size = digests.of_stream(chunks())
    except OSError as error:
        raise Invalid(f"{path}: cannot be read ({error.strerror})") from error
    return Upload(path.name, path, digest, size)
