"""A model file as segments: named tensors and the rest, every byte once.

The map never changes a file: a patch is made and applied on these byte ranges, so that odd but valid files (unknown
fields, split messages, padding, shared tensors) come out bit for bit as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from farshore.formats.dtypes import BITS, size_of


class Role(StrEnum):
    """What a segment is for."""

    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    ZERO_POINT = "zero_point"
    TENSOR = "tensor"
    """Another constant tensor."""
    REST = "rest"
    """The skeleton: all bytes that are no tensor's."""


@dataclass(frozen=True, slots=True)
class Quant:
    """How integers of a tensor stand for reals: ``real = scale * (integer - zero_point)``.

    Attributes:
        scales: one for the tensor, or one per index of ``axis``; finite and positive.
        zero_points: as many as ``scales``.
        axis: the quantised dimension; None if there is one scale for the tensor.

    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A byte range of the file.

    Attributes:
        offset: absolute, in the file.
        length: bytes, at least 1.
        role: what it is for.
        name: the tensor's name in the file ("" for the rest; a scale or zero point that belongs to a TFLite tensor is
            named ``<tensor>:scale``, ``<tensor>:zero_point``).
        dtype: name of :data:`farshore.formats.dtypes.BITS` ("" for the rest). Always fits: ``dtype`` and ``shape`` take
            exactly ``length`` bytes. A tensor whose bytes do not match its declared shape (sparse, padded) is a vector.
        shape: dimensions, slowest first; little-endian elements, row-major.
        channel_axis: dimension of a weight's output channels, if the graph tells.
        quant: quantisation of this tensor, if the file tells and it fits the shape.

    """

    offset: int
    length: int
    role: Role
    name: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    channel_axis: int | None = None
    quant: Quant | None = None


@dataclass(frozen=True, slots=True)
class SegmentMap:
    """All segments of a file.

    Attributes:
        format: ``onnx``, ``tflite``, ``safetensors`` or ``opaque``.
        segments: sorted by offset; they cover the file exactly once (none for an empty file).

    """

    format: str
    segments: tuple[Segment, ...]


def tensor_segment(
    offset: int, length: int, role: Role, name: str, dtype: str, shape: tuple[int, ...],
    channel_axis: int | None = None, quant: Quant | None = None,
) -> Segment:  # fmt: skip
    """A segment for a tensor; a plain vector when type and shape do not give its length (sparse, padded, hostile)."""
    if size_of(dtype, shape) != length:
        bits = BITS.get(dtype, 0)
        if bits < 8 or length * 8 % bits:
            dtype, bits = "uint8", 8
        return Segment(offset, length, Role.TENSOR, name, dtype, (length * 8 // bits,))
    if channel_axis is not None and not -len(shape) <= channel_axis < len(shape):
        channel_axis = None
    if channel_axis is not None:
        channel_axis %= len(shape)
    return Segment(offset, length, role, name, dtype, shape, channel_axis, fitting(quant, shape))


def fitting(quant: Quant | None, shape: tuple[int, ...]) -> Quant | None:
    """``quant`` if it can belong to a tensor of ``shape``, else None."""
    if quant is None or len(quant.scales) != len(quant.zero_points) or not quant.scales:
        return None
    if any(not 0 < scale < float("inf") for scale in quant.scales):
        return None
    if quant.axis is None:
        return quant if len(quant.scales) == 1 else None
    axis = quant.axis
    if not -len(shape) <= axis < len(shape) or shape[axis] != len(quant.scales):
        return None
    return Quant(quant.scales, quant.zero_points, axis % len(shape))


def cover(format_name: str, size: int, tensors: Iterable[Segment]) -> SegmentMap:
    """The map of a file of ``size`` bytes: ``tensors``, and the rest between them.

    Two names for one range give one segment (the first). Where ranges overlap otherwise, which only a hand-made file
    does, the one that begins first stands and the other becomes rest.
    """
    segments: list[Segment] = []
    end = 0
    for tensor in sorted(tensors, key=lambda segment: segment.offset):
        if tensor.length <= 0 or tensor.offset < end or tensor.offset + tensor.length > size:
            continue
        if tensor.offset > end:
            segments.append(Segment(end, tensor.offset - end, Role.REST))
        segments.append(tensor)
        end = tensor.offset + tensor.length
    if end < size:
        segments.append(Segment(end, size - end, Role.REST))
    return SegmentMap(format_name, tuple(segments))
