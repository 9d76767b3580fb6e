"""safetensors files (huggingface/safetensors, ``safetensors/src/tensor.rs``), checked as strictly as the reference does.

Layout: eight bytes, the header's length N; N bytes of JSON; the tensors' bytes in offset order without a hole.
"""

from __future__ import annotations

import json
from typing import Any

from farshore.formats import dtypes
from farshore.formats.bounds import MAX_RANK, Malformed
from farshore.formats.segments import Role, Segment, SegmentMap, cover, tensor_segment

MAX_HEADER = 4_000_000
"""Bytes of header. The reference takes 100 MB; no model known needs a fortieth, and JSON grows twentyfold when parsed."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise Malformed("a name that is given twice")
    return names


def header(view: memoryview) -> tuple[dict[str, Any], int]:
    """The header's JSON object and the offset of the first tensor byte.

    Args:
        view: the whole file, one byte per item.

    Raises:
        Malformed: no safetensors header, or larger than :data:`MAX_HEADER`.

    """
    if len(view) < 10:
        raise Malformed("too short for a header")
    length = int.from_bytes(view[:8], "little")
    if not 2 <= length <= min(MAX_HEADER, len(view) - 8) or view[8] != ord("{"):
        raise Malformed("no safetensors header")
    try:
        found = json.loads(str(view[8 : 8 + length], "utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Malformed("the header is not JSON") from error
    if not isinstance(found, dict):
        raise Malformed("the header is not an object")
    return found, 8 + length


def metadata(names: dict[str, Any]) -> dict[str, str]:
    """The header's free texts.

    Raises:
        Malformed: they are not texts.

    """
    found = names.get("__metadata__") or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Malformed("metadata that is not text")
    return found


def segments(view: memoryview) -> SegmentMap:
    """The segment map of a safetensors file.

    The file has no graph, so roles come from the names that its users give: ``*.weight``, ``*.bias``.

    Raises:
        Malformed: the reference would not load it either (or see :data:`MAX_HEADER`).

    """
    names, base = header(view)
    metadata(names)
    found = [_tensor(name, entry, base) for name, entry in names.items() if name != "__metadata__"]
    end = base
    for segment in sorted(found, key=lambda segment: (segment.offset, segment.length)):
        if segment.offset != end:
            raise Malformed("tensors with a hole or an overlap between them")
        end += segment.length
    if end != len(view):
        raise Malformed("tensors that do not fill the file")
    return cover("safetensors", len(view), (segment for segment in found if segment.length))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _tensor(name: str, entry: object, base: int) -> Segment:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Malformed("a tensor without dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes.SAFETENSORS:
        raise Malformed("a tensor of unknown dtype")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(_whole, shape)):
        raise Malformed("a tensor with impossible dimensions")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_whole, offsets)) or offsets[0] > offsets[1]:
        raise Malformed("a tensor with impossible offsets")
    kind, dims = dtypes.SAFETENSORS[dtype], tuple(shape)
    count = dtypes.elements(dims)
    if count is None or count * dtypes.BITS[kind] != 8 * (offsets[1] - offsets[0]):
        raise Malformed("a tensor whose shape does not give its length")
    role = Role.TENSOR
    if name.rpartition(".")[2] == "weight" and len(dims) > 1:
        role = Role.WEIGHT
    elif name.rpartition(".")[2] == "bias":
        role = Role.BIAS
    return tensor_segment(base + offsets[0], offsets[1] - offsets[0], role, name, kind, dims)
