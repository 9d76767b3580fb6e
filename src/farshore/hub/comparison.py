"""What differs between two versions: what is said of them, and tensor by tensor what is in their model files."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from farshore import delta, formats
from farshore.core import documents
from farshore.core.digest import Digest
from farshore.core.manifest import Manifest, Variant
from farshore.formats import ModelInfo, SegmentMap
from farshore.hub.builds import Builds
from farshore.hub.costs import costs
from farshore.hub.records.models import Version
from farshore.hub.registry import Registry
from farshore.store.views import view

MAX_TENSORS = 2000
"""Tensors named in an answer; the counts are of all."""

MOST_DECODED = 32 << 20
"""Bytes of a model file up to which a patch to it is applied to see what each tensor costs: some seconds at the most."""


def compare(
    registry: Registry, builds: Builds, old: Version, new: Version
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Changes of metadata (``{what, before, after}``), and one entry for each variant of either version.

    Raises:
        NotFound: a version was deleted meanwhile.
        Unavailable: the object store does not answer.

    """
    before, after = registry.manifest(old), registry.manifest(new)
    found = list(_said(old, new))
    former, latter = _variants(before), _variants(after)
    return found, [
        _variant(registry, builds, name, former.get(name), latter.get(name)) for name in {**former, **latter}
    ]


def _said(old: Version, new: Version) -> Iterator[dict[str, str]]:
    for what in ("description", "tags", "properties", "lineage", "size"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            yield {"what": what, "before": _text(before), "after": _text(after)}


def _variants(manifest: Manifest) -> dict[str, Variant]:
    return {variant.name: variant for variant in manifest.content.variants}


def _variant(registry: Registry, builds: Builds, name: str, old: Variant | None, new: Variant | None) -> dict[str, Any]:
    if old is None or new is None:
        return {"name": name, "kind": "added" if old is None else "removed"}
    entry: dict[str, Any] = {"name": name, "changes": list(_pipeline(old, new))}
    if old.model.digest == new.model.digest:
        return {**entry, "kind": "equal" if not entry["changes"] else "changed"}
    with _opened(registry, old) as a, _opened(registry, new) as b:
        found = formats.diff(*a, *b)
        patch = _patch(registry, builds, old, new, b[1])
    return {
        **entry,
        **({} if patch is None else {"patch": patch}),
        "kind": "changed",
        "file": [documents.builtins(change) for change in found.changes],
        "tensors": [documents.builtins(change) for change in found.tensors[:MAX_TENSORS]],
        "counts": found.counts,
        "bytes": found.bytes,
        "rest_equal": found.rest_equal,
    }


def _pipeline(old: Variant, new: Variant) -> Iterator[dict[str, str]]:
    for what in ("runtime", "precision", "pipeline", "inputs", "outputs", "requires"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            yield {"what": what, "before": _text(before), "after": _text(after)}
    files = [{file.path: file.digest for file in variant.files if file.role != "model"} for variant in (old, new)]
    for path in sorted({*files[0], *files[1]}):
        if files[0].get(path) != files[1].get(path):
            yield {"what": f"file {path}", "before": files[0].get(path, ""), "after": files[1].get(path, "")}


def _patch(
    registry: Registry, builds: Builds, old: Variant, new: Variant, segments: SegmentMap
) -> dict[str, Any] | None:
    """The smallest patch between the model files that is there, and what each tensor takes of it."""
    rows = builds.routes(Digest(new.model.digest), [old.model.digest])
    if not rows or rows[0].digest is None:
        return None
    bases = rows[0].bases if new.model.size <= MOST_DECODED else None
    with ExitStack() as stack:
        path, *held = (
            stack.enter_context(registry.objects.local(one, registry.spool)) for one in (rows[0].digest, *(bases or ()))
        )
        about = delta.info(view(path), None if bases is None else [view(base) for base in held])
        shares = costs(about, segments)
    return {
        "size": rows[0].size,
        "whole": new.model.size,
        "based": bool(rows[0].bases),
        "exact": about.exact,
        "tensors": {name: size for name, size in shares.items() if name},
        "rest": shares.get("", 0),
    }


@contextmanager
def _opened(registry: Registry, variant: Variant) -> Iterator[tuple[ModelInfo, SegmentMap, mmap.mmap]]:
    with registry.objects.local(Digest(variant.model.digest), registry.spool) as path, path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield formats.inspect(data), formats.segment(data), data
        finally:
            data.close()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else documents.canonical(value).decode()
