"""What a publisher looks at before it signs: a draft by the hub may say nothing that the publisher's own files do not."""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import Raw, Struct

from farshore import formats
from farshore.client.upload import BUFFER, Upload
from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.errors import Denied, FarshoreError
from farshore.formats.overrides import FILE as TOML

MODELS = (".onnx", ".tflite", ".lite")
TEXTS = (".txt", ".names")


class Published(Struct, frozen=True):
    """What a hub has published.

    Attributes:
        development: the hub holds all keys itself.
        online: its own public keys, by role; the next ones while they are being changed.
        roots: first to last.
        documents: of the other roles.

    """

    development: bool
    online: dict[str, str]
    roots: list[Raw]
    documents: dict[str, Raw]


class Draft(Struct, frozen=True):
    """A version that a hub has prepared: its manifest's bytes, and the publisher's role with it, unsigned."""

    model: str
    version: int
    digest: Digest
    manifest: bytes
    role: bytes


Publisher = Callable[[Draft], bytes]
"""Signs the role of a draft that was checked."""


def check(draft: Draft, name: str, uploads: Iterable[Upload], overrides: str) -> None:
    """Pass if a draft is of the model that was pushed and every file in it is one of those that were pushed: as it is, out of a
    ZIP, or labels that a model file holds.

    Args:
        draft: by the hub.
        name: the model that was pushed.
        uploads: the files that were pushed.
        overrides: text of the ``farshore.toml`` that went with them.

    Raises:
        Denied: it is not; nothing is to be signed.

    """
    digests.check(draft.digest, digests.of(draft.manifest), f"draft of {draft.model}")
    manifest = manifests.decode(draft.manifest)
    if (manifest.model, manifest.version, name) != (draft.model, draft.version, draft.model):
        raise Denied(f"the hub drafted {manifest.model}@{manifest.version} for a push of {name}")
    parts = {file.path: file for variant in manifest.content.variants for file in variant.files}
    parts |= {case.picture.path: case.picture for case in manifest.content.acceptance}
    mine = [part for upload in uploads for part in _parts(upload)]
    known = {part.digest for part in mine}
    foreign = [file for file in parts.values() if Digest(file.digest) not in known]
    made = _labels(mine, overrides) if foreign else set()
    for file in foreign:
        if file.role != "labels" or Digest(file.digest) not in made:
            raise Denied(
                f"{draft.model}@{draft.version}: {file.path!r} in the hub's draft is none of the files pushed here: not signed"
            )


@dataclass(frozen=True, slots=True)
class _Part:
    """A file that was pushed, or a member of a ZIP that was."""

    name: str
    digest: Digest
    read: Callable[[], bytes]


def _parts(upload: Upload) -> Iterator[_Part]:
    yield _Part(upload.name, upload.digest, upload.path.read_bytes)
    if not upload.name.lower().endswith(MODELS) and zipfile.is_zipfile(upload.path):
        with zipfile.ZipFile(upload.path) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    digest, _ = digests.of_stream(iter(partial(stream.read, BUFFER), b""))
                yield _Part(Path(member.filename).name, digest, partial(_member, upload.path, member.filename))


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _labels(mine: list[_Part], overrides: str) -> set[Digest]:
    """Digests of label files that a hub makes out of these model files: the same reading of the same bytes."""
    text = overrides or next((part.read().decode() for part in mine if part.name == TOML), "")
    said = formats.overrides(tomllib.loads(text))
    texts = {part.name: part.read() for part in mine if part.name.lower().endswith(TEXTS)}
    found = set()
    for part in mine:
        if part.name.lower().endswith(MODELS):
            try:
                info = formats.inspect(part.read(), external={one.name: 0 for one in mine})
                labels = formats.recognise(info, texts, said).labels
            except FarshoreError:
                continue  # then what the hub made of it is not signed
            if labels is not None and labels.content is not None:
                found.add(digests.of(labels.content))
    return found
