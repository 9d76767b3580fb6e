"""A model file by itself: a version in a folder of its own, so that it can be tried without hub and agent."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path

from farshore import formats
from farshore.core import manifest as manifests
from farshore.core.errors import Invalid, NotFound, TooLarge
from farshore.core.manifest import Content, File, Manifest, Variant
from farshore.formats import ModelInfo, Recognition
from farshore.store.blobs import Blobs
from farshore.store.slots import Installed, Slots

MAX_TEXT = 4 << 20
MAX_MODEL = 8 << 30
_MODEL = (".onnx", ".tflite")


def install(path: Path, root: Path) -> tuple[Installed, Recognition]:
    """Make a version of a bare model and let it be current under ``root``.

    What a push does at the hub, without signature and numbers: the file is recognised, its labels are found.

    Args:
        path: a model file, a folder or a ZIP with one model and the texts beside it.
        root: a folder for a server; may be a temporary one.

    Returns:
        The version, and what was recognised and why.

    Raises:
        NotFound: nothing is there.
        Invalid: no model, several, or one that cannot be recognised; ``farshore.toml`` among the files says what is not in them.
        TooLarge: a file beside it is too large.

    """
    members = _members(path)
    models = [name for name in members if name.lower().endswith(_MODEL)]
    if len(models) != 1:
        found = ", ".join(models) or "none"
        raise Invalid(f"{path}: exactly one .onnx or .tflite file is needed; found {found}")
    name = models[0]
    texts = {each: data for each, data in members.items() if each.lower().endswith((".txt", ".names"))}
    external = {each: data for each, data in members.items() if each != name and each not in texts}
    said = members.get("farshore.toml")
    info = formats.inspect(members[name], external={each: len(data) for each, data in external.items()})
    recognised = formats.recognise(info, texts, None if said is None else _overrides(path, said))
    blobs, slots = Blobs(root / "blobs"), Slots(root)
    variant = _variant(name, info, recognised, members, blobs)
    model = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:63] or "model"
    payload = manifests.encode(Manifest(model, 1, Content((variant,))))
    installed = slots.install(payload, variant, blobs)
    slots.activate(model, installed.digest)
    return installed, recognised


def _variant(name: str, info: ModelInfo, recognised: Recognition, members: dict[str, bytes], blobs: Blobs) -> Variant:
    def stored(path: str, data: bytes, role: str) -> File:
        return File(path, blobs.add(data), len(data), role)  # type: ignore[arg-type]

    files = [stored(name, members[name], "model")]
    labels = recognised.labels
    if labels is not None:
        files.append(stored(labels.path, members[labels.path] if labels.content is None else labels.content, "labels"))
    files += [stored(each, members[each], "external") for each in sorted({one.location for one in info.external})]
    return Variant("bare", info.runtime, info.precision, tuple(files), info.inputs, info.outputs, recognised.pipeline())


def _overrides(path: Path, said: bytes) -> formats.Overrides:
    try:
        return formats.overrides(tomllib.loads(said.decode()))
    except ValueError as error:  # not UTF-8, or not TOML
        raise Invalid(f"{path}: farshore.toml cannot be read: {error}") from None


def _members(path: Path) -> dict[str, bytes]:
    """Files by plain name."""
    try:
        if path.is_dir():
            return {each.name: _read(each) for each in sorted(path.iterdir()) if each.is_file() and each.name[0] != "."}
        if path.suffix.lower() == ".zip":
            return _unzipped(path)
        return {path.name: path.read_bytes()}
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror or error}") from None


def _read(path: Path) -> bytes:
    if path.stat().st_size > (MAX_TEXT if path.suffix.lower() in {".txt", ".names"} else MAX_MODEL):
        raise TooLarge(f"{path} is too large")
    return path.read_bytes()


def _unzipped(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.rpartition("/")[2]
                if not name or name.startswith("."):
                    continue
                # The sizes in a ZIP's directory are claims: read no more than they say, and they may say only so much.
                if entry.file_size > MAX_MODEL or entry.file_size > 1000 * max(1, entry.compress_size):
                    raise TooLarge(f"{path}: {name} unpacks to {entry.file_size} bytes")
                with archive.open(entry) as member:
                    found[name] = member.read(entry.file_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise Invalid(f"{path}: not a ZIP that can be read ({error})") from None
    return found
