"""What differs between two model files: what they say of themselves, and their tensors by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from farshore.core.manifest import Tensor
from farshore.formats.info import ModelInfo
from farshore.formats.segments import Role, Segment, SegmentMap

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Kind = Literal["equal", "changed", "renamed", "added", "removed"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a file says of itself and that differs; "" where one file says nothing."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class TensorChange:
    """What became of one tensor.

    Attributes:
        kind: ``renamed`` has the same type, shape and bytes under another name.
        name: in the second file; of a removed one, in the first.
        before: its dtype and shape in the first file, as ``float32 [32, 3, 3, 3]``; "" if added.
        after: likewise in the second; "" if removed.
        bytes: its length in the second file; of a removed one, in the first.
        old_name: of a renamed tensor.

    """

    kind: Kind
    name: str
    before: str
    after: str
    bytes: int
    old_name: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs.

    Attributes:
        changes: what the files say of themselves.
        tensors: every tensor that is not equal, in the order of the second file, removed ones last.
        counts: tensors by kind.
        bytes: their lengths by kind; ``rest`` is the second file's skeleton.
        rest_equal: whether all bytes that are no tensor's are the same.

    """

    changes: tuple[Change, ...]
    tensors: tuple[TensorChange, ...]
    counts: dict[str, int]
    bytes: dict[str, int]
    rest_equal: bool

    @property
    def identical(self) -> bool:
        return not self.changes and not self.tensors and self.rest_equal


def diff(
    info_a: ModelInfo, map_a: SegmentMap, data_a: ReadableBuffer,
    info_b: ModelInfo, map_b: SegmentMap, data_b: ReadableBuffer,
) -> Difference:  # fmt: skip
    """Compare two model files.

    Args:
        info_a: what the first says of itself.
        map_a: its segments.
        data_a: its bytes, the same that ``map_a`` was made of.
        info_b: likewise of the second; ``map_b`` and ``data_b`` too.

    """
    with memoryview(data_a) as raw_a, memoryview(data_b) as raw_b, raw_a.cast("B") as a, raw_b.cast("B") as b:
        old, new = _by_name(map_a), _by_name(map_b)
        tensors = _compare(old, a, new, b)
        equal_rest = _rest_digest(map_a, a) == _rest_digest(map_b, b)
    counts, lengths = Counter[str](), Counter[str]()
    for change in tensors:
        counts[change.kind] += 1
        lengths[change.kind] += change.bytes
    lengths["rest"] = sum(part.length for part in map_b.segments if part.role is Role.REST)
    return Difference(
        changes=tuple(_said(info_a, info_b)),
        tensors=tuple(change for change in tensors if change.kind != "equal"),
        counts=dict(sorted(counts.items())),
        bytes=dict(sorted(lengths.items())),
        rest_equal=equal_rest,
    )


def _by_name(segments: SegmentMap) -> dict[tuple[str, int], Segment]:
    """Tensors by name; those of one name (in different subgraphs) by order."""
    seen: Counter[str] = Counter()
    found = {}
    for part in segments.segments:
        if part.role is not Role.REST:
            found[part.name, seen[part.name]] = part
            seen[part.name] += 1
    return found


def _bytes(view: memoryview, part: Segment) -> memoryview:
    return view[part.offset : part.offset + part.length]


def _kind(part: Segment) -> str:
    return f"{part.dtype} {list(part.shape)}"


def _identity(view: memoryview, part: Segment) -> tuple[str, bytes]:
    return _kind(part), hashlib.sha256(_bytes(view, part)).digest()


def _compare(
    old: Mapping[tuple[str, int], Segment], a: memoryview, new: Mapping[tuple[str, int], Segment], b: memoryview
) -> list[TensorChange]:
    gone = {key: part for key, part in old.items() if key not in new}
    moved: dict[tuple[str, bytes], list[tuple[str, int]]] = {}
    for key, part in gone.items():
        moved.setdefault(_identity(a, part), []).append(key)
    changes = []
    for key, part in new.items():
        before = old.get(key)
        if before is not None:
            same = _kind(before) == _kind(part) and _bytes(a, before) == _bytes(b, part)
            changes.append(
                TensorChange("equal" if same else "changed", key[0], _kind(before), _kind(part), part.length)
            )
            continue
        origins = moved.get(_identity(b, part), [])
        if origins:
            origin = origins.pop(0)
            del gone[origin]
            changes.append(TensorChange("renamed", key[0], _kind(part), _kind(part), part.length, origin[0]))
        else:
            changes.append(TensorChange("added", key[0], "", _kind(part), part.length))
    changes += [TensorChange("removed", key[0], _kind(part), "", part.length) for key, part in gone.items()]
    return changes


def _rest_digest(segments: SegmentMap, view: memoryview) -> bytes:
    hasher = hashlib.sha256()
    for part in segments.segments:
        if part.role is Role.REST:
            hasher.update(_bytes(view, part))
    return hasher.digest()


def _said(a: ModelInfo, b: ModelInfo) -> Iterable[Change]:
    for what, before, after in (
        ("format", a.format, b.format),
        ("precision", a.precision, b.precision),
        ("producer", a.producer, b.producer),
        ("description", a.description, b.description),
        ("format version", str(a.version), str(b.version)),
        ("parameters", str(a.parameters), str(b.parameters)),
        ("custom operators", ", ".join(op.op for op in a.custom), ", ".join(op.op for op in b.custom)),
        ("external data", ", ".join(f.location for f in a.external), ", ".join(f.location for f in b.external)),
    ):
        if before != after:
            yield Change(what, before, after)
    yield from _tables("opset", {k or "ai.onnx": str(v) for k, v in a.opsets.items()},
                       {k or "ai.onnx": str(v) for k, v in b.opsets.items()})  # fmt: skip
    yield from _tables("input", _tensors(a.inputs), _tensors(b.inputs))
    yield from _tables("output", _tensors(a.outputs), _tensors(b.outputs))
    yield from _tables("metadata", a.metadata, b.metadata)
    yield from _tables("packed file", {f.name: _digest(f.content) for f in a.packed},
                       {f.name: _digest(f.content) for f in b.packed})  # fmt: skip
    yield from _tables("operator", {k: f"× {v}" for k, v in a.ops.items()}, {k: f"× {v}" for k, v in b.ops.items()})


def _digest(content: bytes | None) -> str:
    return "missing" if content is None else f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:12]}"


def _tensors(tensors: tuple[Tensor, ...]) -> dict[str, str]:
    return {
        tensor.name: f"{tensor.dtype} {list(tensor.shape)}"
        + ("" if tensor.scale is None else f" scale {tensor.scale:.6g} zero point {tensor.zero_point}")
        for tensor in tensors
    }


def _tables(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[Change]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(f"{what} {name}", before.get(name, ""), after.get(name, ""))
