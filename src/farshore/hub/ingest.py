"""Ingest: pushed files become the content of a version.

The files are looked into (:mod:`farshore.formats`), never run. Several model files make several variants of one version;
``farshore.toml`` beside them overrides what is recognised and names acceptance cases. What cannot be told is an error that
names the option which tells it.
"""

from __future__ import annotations

import mmap
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from farshore import formats
from farshore.core import documents
from farshore.core.digest import Digest
from farshore.core.errors import Invalid, TooLarge
from farshore.core.manifest import (
    AcceptanceCase,
    Content,
    DigestText,
    File,
    Labels,
    Name,
    Requirements,
    Short,
    Variant,
    check_name,
    check_path,
)
from farshore.formats import ModelInfo, Overrides, Recognition
from farshore.formats.overrides import FILE as TOML
from farshore.hub import refs
from farshore.hub.provenance import Provenance
from farshore.hub.records.models import Version
from farshore.hub.registry import About, Draft, Registry
from farshore.store import archive

MAX_FILES = 1024
MAX_VARIANTS = 64
MAX_TOML = 256 << 10
MAX_TEXT = 2 << 20
MAX_TEXTS = 32
MAX_EXPECTED = 1 << 20
MAX_PROPERTIES = 1 << 16
MAX_DEPTH = 32
MODELS = (".onnx", ".tflite", ".lite")
TEXTS = (".txt", ".names")
PICTURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP"}
CUSTOM_OPS = {"TFLite_Detection_PostProcess"}
CUSTOM_DOMAINS = {"ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.training"}

Text = Annotated[str, Meta(max_length=16384)]
Value = Annotated[str, Meta(max_length=1024)]
Tags = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=128)], Value], Meta(max_length=64)]


class PushedFile(Struct, frozen=True):
    """A file of a push: its plain name, and the digest of a blob that was uploaded before."""

    path: str
    digest: DigestText


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """An acceptance case as an operator writes it.

    Attributes:
        picture: name of a pushed file.
        expect: members of the answer, or the name of a pushed JSON file: the members themselves, or ``{"answers":
            {picture: detections}}`` for several pictures.
        name: for messages; the picture's name if empty.
        score: largest difference of a score that passes.
        iou: smallest overlap that passes.

    """

    picture: str
    expect: dict[str, Any] | str
    name: Short = ""
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    iou: Annotated[float, Meta(ge=0, le=1)] | None = None


class Push(Struct, frozen=True, omit_defaults=True):
    """A push: files become the next version of a model.

    Attributes:
        files: model files, labels, pictures …; or one ZIP with all of them.
        description: free text.
        tags: key → value.
        properties: typed metadata: training data, metrics, parameters.
        parent: the version that it came from, as ``name@3`` or ``name@alias``.
        operation: how it came from there.
        run, dataset, commit: where it was made.
        alias: name to point at the version.
        overrides: text of a ``farshore.toml``; wins over one among the files.
        acceptance: acceptance cases, besides those in the overrides.

    """

    files: Annotated[tuple[PushedFile, ...], Meta(min_length=1, max_length=MAX_FILES)]
    description: Text = ""
    tags: Tags = {}
    properties: Annotated[dict[str, Any], Meta(max_length=1000)] = {}
    parent: Annotated[str, Meta(max_length=200)] = ""
    operation: Literal["", "trained", "fine-tuned", "quantized", "pruned", "converted", "imported"] = ""
    run: Value = ""
    dataset: Value = ""
    commit: Value = ""
    alias: Name | Literal[""] = ""
    overrides: Annotated[str, Meta(max_length=MAX_TOML)] = ""
    acceptance: Annotated[tuple[Case, ...], Meta(max_length=256)] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A blob under its plain name."""

    path: str
    digest: Digest
    size: int


def content_of(registry: Registry, asked: Push, provenance: Provenance, *, limit: int) -> tuple[Content, list[str]]:
    """What a push amounts to, and why its files were read as they were, one line each.

    Args:
        registry: holds the blobs; gets those that come out of a ZIP or are made here.
        asked: the push.
        provenance: verifies a signature bundle among the files.
        limit: most bytes of all files together.

    Raises:
        Corrupt, Denied: a signature bundle does not fit, or is missing and required.
        Invalid: a file cannot be read as what it must be, or an option is missing or wrong; the message names it.
        TooLarge: too many files or bytes.
        NotFound: a blob was not uploaded.
        Unavailable: disk or store failing.

    """
    parts = _parts(registry, asked, limit)
    pushed = {part.path: part.digest for part in parts.values()}
    signature = provenance.verify(pushed, registry.objects, registry.spool)
    if signature is not None:
        del parts[signature.bundle]  # it has done its work: devices go by the manifest
    toml = _toml(registry, asked, parts)
    overrides = formats.overrides(toml)
    cases = [documents.convert(case, Case, what=f"{TOML}: acceptance") for case in overrides.acceptance]
    cases += asked.acceptance
    reader = _Reader(registry, parts, overrides)
    acceptance = tuple(reader.case(case) for case in cases)
    content = Content(reader.variants({case.picture.path for case in acceptance}), acceptance)
    if signature is not None:
        used = {file.path for variant in content.variants for file in variant.files if file.role != "other"}
        signature.check_names(used & pushed.keys())  # labels may have been made here
        reader.notes.append(str(signature))
    return content, reader.notes


def push(
    registry: Registry, name: str, asked: Push, provenance: Provenance, *, limit: int
) -> tuple[Version | Draft, bool]:
    """Make the next version of model ``name``, unless one has this content already.

    Returns:
        the version, and whether it was there already; or a draft, where its publisher has to sign first.

    Raises:
        Invalid, TooLarge, NotFound, Unavailable, Corrupt, Denied: as :func:`content_of`; also for a bad name, alias, parent or property.

    """
    check_name(name)
    if asked.alias:
        refs.check_alias(asked.alias)
    _check_depth(asked.properties, "properties")
    if len(documents.canonical(asked.properties)) > MAX_PROPERTIES:
        raise TooLarge(f"properties: more than {MAX_PROPERTIES} bytes")
    came_from = _lineage(registry, asked)
    content, notes = content_of(registry, asked, provenance, limit=limit)
    about = About(asked.description, asked.tags, asked.properties, came_from, notes)
    return registry.add_version(name, content, about, asked.alias)


def _lineage(registry: Registry, asked: Push) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: value for name in ("operation", "run", "dataset", "commit") if (value := getattr(asked, name))
    }
    if asked.parent:
        name, _, which = asked.parent.partition("@")
        parent = registry.find(name, which)
        found["parent"] = {"model": parent.model, "version": parent.number, "digest": parent.digest}
    return found


def _parts(registry: Registry, asked: Push, limit: int) -> dict[str, Part]:
    sizes = registry.claim([Digest(file.digest) for file in asked.files])
    parts: dict[str, Part] = {}
    for file in asked.files:
        if check_path(file.path) in parts:
            raise Invalid(f"file {file.path!r} is pushed twice under one name")
        parts[file.path] = Part(file.path, Digest(file.digest), sizes[Digest(file.digest)])
    if len(parts) == 1:
        [only] = parts.values()
        if archive.is_zip(only.path, next(registry.objects.chunks(only.digest, 0, 4), b"") if only.size > 4 else b""):
            parts = _unpacked(registry, only, limit)
    total = sum(part.size for part in parts.values())
    if total > limit:
        raise TooLarge(f"{total} bytes in all files; at most {limit} are taken")
    return parts


def _unpacked(registry: Registry, packed: Part, limit: int) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    with registry.objects.local(packed.digest, registry.spool) as path:
        for member in archive.unpack(path, registry.spool, limit=limit):
            registry.add_blob(member.digest, member.path, member.size)
            parts[member.name] = Part(member.name, member.digest, member.size)
    return parts


def _toml(registry: Registry, asked: Push, parts: Mapping[str, Part]) -> dict[str, Any]:
    text: str | bytes = asked.overrides
    if not text and TOML in parts:
        text = _bytes(registry, parts[TOML], MAX_TOML)
    try:
        return tomllib.loads(text if isinstance(text, str) else text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{TOML}: {error}") from None


def _bytes(registry: Registry, part: Part, limit: int) -> bytes:
    if part.size > limit:
        raise TooLarge(f"{part.path!r} has {part.size} bytes; at most {limit} are read")
    return b"".join(registry.objects.chunks(part.digest)) if part.size else b""


class _Reader:
    """Reads one push; ``notes`` grow as it goes."""

    def __init__(self, registry: Registry, parts: dict[str, Part], overrides: Overrides) -> None:
        self._registry = registry
        self._parts = parts
        self._overrides = overrides
        self.notes: list[str] = []

    def case(self, case: Case) -> AcceptanceCase:
        part = self._part(case.picture, "acceptance picture")
        head = next(self._registry.objects.chunks(part.digest, 0, min(part.size, 8)), b"") if part.size else b""
        if not any(head.startswith(magic) for magic in PICTURES):
            raise Invalid(f"acceptance picture {part.path!r} is no {', '.join(PICTURES.values())} file")
        values = {name: value for name in ("score", "iou") if (value := getattr(case, name)) is not None}
        return AcceptanceCase(
            name=case.name or part.path,
            picture=File(part.path, part.digest, part.size, "picture"),
            expect=_check_depth(self._expected(case), f"acceptance case {part.path!r}"),
            **values,
        )

    def variants(self, pictures: set[str]) -> tuple[Variant, ...]:
        """A variant for each model file, best first as they were pushed."""
        models = [part for part in self._parts.values() if part.path.lower().endswith(MODELS)]
        if not models:
            raise Invalid(f"no model among {_few(self._parts)}: push a .onnx or .tflite file")
        if len(models) > MAX_VARIANTS:
            raise TooLarge(f"{len(models)} model files; at most {MAX_VARIANTS} make one version")
        texts = self._texts()
        read = [(part, *self._look(part, texts)) for part in models]
        taken = {part.path for part in models} | pictures
        variants: list[Variant] = []
        for part, info, found in read:
            files = [self._file(part.path, "model")]
            files += [self._file(file.location, "external") for file in info.external]
            pipeline = found.pipeline()
            if found.labels is not None:
                file = self._labels(found)
                files.append(file)
                pipeline = msgspec.structs.replace(pipeline, labels=Labels(file.path, found.labels.skip))
            taken |= {file.path for file in files}
            variants.append(
                Variant(
                    name=_variant_name(info, [variant.name for variant in variants]),
                    runtime=info.runtime,
                    precision=info.precision,
                    files=tuple(files),
                    inputs=info.inputs,
                    outputs=info.outputs,
                    pipeline=pipeline,
                    requires=self._overrides.requires or Requirements(),
                )
            )
        rest = tuple(self._file(path, "other") for path in self._parts if path not in taken)
        variants[0] = msgspec.structs.replace(variants[0], files=variants[0].files + rest)
        return tuple(variants)

    def _look(self, part: Part, texts: Mapping[str, bytes]) -> tuple[ModelInfo, Recognition]:
        sizes = {one.path: one.size for one in self._parts.values() if one.path != part.path}
        try:
            with self._registry.objects.local(part.digest, self._registry.spool) as path:
                info = _inspect(path, sizes)
            for custom in info.custom:
                _check_custom(info, custom.op)
            found = formats.recognise(info, texts, self._overrides)
            found.pipeline()
        except Invalid as error:
            raise type(error)(f"{part.path}: {error.message}") from None
        self.notes += [f"{part.path}: {one.what} = {one.value} ({one.why})" for one in found.reasons]
        self.notes += [f"{part.path}: {note}" for note in info.notes]
        self.notes += [f"{part.path}: {one.option}: {one.text}" for one in found.questions]
        return info, found

    def _labels(self, found: Recognition) -> File:
        """The label file: one that came, or one made here under a name that nothing else has."""
        labels = found.labels
        assert labels is not None
        if labels.content is None:
            return self._file(labels.path, "labels")
        digest = self._registry.add_bytes(labels.content)
        names = (labels.path, *(f"labels-{number}.txt" for number in range(1, MAX_FILES + MAX_VARIANTS)))
        path = next(name for name in names if name not in self._parts or self._parts[name].digest == digest)
        self._parts[path] = Part(path, digest, len(labels.content))
        return self._file(path, "labels")

    def _texts(self) -> dict[str, bytes]:
        chosen = [
            part
            for part in self._parts.values()
            if part.size <= MAX_TEXT and (part.path.lower().endswith(TEXTS) or part.path == self._overrides.labels.file)
        ]
        return {part.path: _bytes(self._registry, part, MAX_TEXT) for part in chosen[:MAX_TEXTS]}

    def _expected(self, case: Case) -> dict[str, Any]:
        if isinstance(case.expect, dict):
            return case.expect
        part = self._part(case.expect, "expected answers")
        data = _bytes(self._registry, part, MAX_EXPECTED)
        found: dict[str, Any] = documents.decode(data, dict[str, Any], what=part.path, limit=MAX_EXPECTED)
        answers = found.get("answers")
        if not isinstance(answers, dict):
            return found
        if case.picture not in answers:
            raise Invalid(f"{part.path}: has no answers for {case.picture!r}")
        wanted = answers[case.picture]
        return wanted if isinstance(wanted, dict) else {"detections": wanted}

    def _part(self, path: str, what: str) -> Part:
        found = self._parts.get(path)
        if found is None:
            raise Invalid(f"{what} {path[:80]!r} is not among the files: {_few(self._parts)}")
        return found

    def _file(self, path: str, role: Literal["model", "external", "labels", "other"]) -> File:
        part = self._part(path, role)
        return File(part.path, part.digest, part.size, role)


def _inspect(path: Path, sizes: Mapping[str, int]) -> ModelInfo:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise Invalid("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return formats.inspect(data, external=sizes)


def _check_depth(value: dict[str, Any], what: str) -> dict[str, Any]:
    """Return ``value`` if it may be written and read again by any parser."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise Invalid(f"{what}: nested deeper than {MAX_DEPTH} levels")


def _check_custom(info: ModelInfo, op: str) -> None:
    known = op in CUSTOM_OPS if info.format == "tflite" else op.partition(":")[0] in CUSTOM_DOMAINS
    if not known:
        raise Invalid(f"needs the custom operator {op[:80]!r}, which devices do not have: export the model without it")


def _variant_name(info: ModelInfo, taken: list[str]) -> str:
    base = f"{'onnx' if info.runtime == 'onnxruntime' else 'litert'}-{info.precision}"
    return next(name for name in (base, *(f"{base}-{n}" for n in range(2, MAX_VARIANTS + 2))) if name not in taken)


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(repr(name) for name in names[:5]) + (" …" if len(names) > 5 else "")
