"""Which bytes of a LiteRT file are which tensor, and what the graph says of each: role, output channels, quantisation."""

from __future__ import annotations

from collections.abc import Iterator

from farshore.formats.flatbuffer import Flat
from farshore.formats.segments import Quant, Role, Segment, SegmentMap, cover, tensor_segment
from farshore.formats.tflite import Model, Operator, Subgraph, Tensor, parse

_PASSES = frozenset({"DEQUANTIZE", "DENSIFY", "QUANTIZE", "CAST"})
"""Operators whose output is their input in another form: what uses the output, uses the tensor."""

# Operator → (positions of weights, axis of output channels, position of bias or None).
_WEIGHTS: dict[str, tuple[tuple[int, ...], int, int | None]] = {
    "CONV_2D": ((1,), 0, 2),  # OHWI
    "DEPTHWISE_CONV_2D": ((1,), 3, 2),  # 1HWO
    "FULLY_CONNECTED": ((1,), 0, 2),
    "TRANSPOSE_CONV": ((1,), 0, 3),  # OHWI
    "CONV_3D": ((1,), 4, 2),  # DHWIO
    "BATCH_MATMUL": ((1,), -1, None),
    "SVDF": ((1, 2), 0, 3),
    "RNN": ((1, 2), 0, 3),
    "UNIDIRECTIONAL_SEQUENCE_RNN": ((1, 2), 0, 3),
    "LSTM": ((1, 2, 3, 4, 5, 6, 7, 8), 0, None),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ((1, 2, 3, 4, 5, 6, 7, 8), 0, None),
}


def segments(view: memoryview) -> SegmentMap:
    """The segment map of a LiteRT file.

    Args:
        view: the whole file.

    Raises:
        Malformed: it is not a LiteRT model, or exceeds the parser's limits.

    """
    model = parse(view)
    found: list[Segment] = []
    # Buffers that only metadata names are documents, not tensors.
    documents = set(model.metadata.values())
    seen: set[int] = set()
    for subgraph in model.subgraphs:
        uses = _uses(subgraph)
        for index, tensor in enumerate(subgraph.tensors):
            found += _parameters(tensor)
            if tensor.buffer in seen or tensor.buffer in documents or not 0 < tensor.buffer < len(model.buffers):
                continue
            seen.add(tensor.buffer)
            found += _weights(model, tensor, uses.get(index))
    return cover("tflite", len(view), found)


def _uses(subgraph: Subgraph) -> dict[int, tuple[Role, int | None]]:
    """Role and output-channel axis of each tensor that an operator reads as weight or bias."""
    origin: dict[int, int] = {}
    uses: dict[int, tuple[Role, int | None]] = {}
    for operator in subgraph.operators:
        if operator.op in _PASSES and operator.inputs and operator.outputs:
            origin[operator.outputs[0]] = origin.get(operator.inputs[0], operator.inputs[0])
            continue
        for index, role, axis in _reads(operator):
            uses.setdefault(origin.get(index, index), (role, axis))
    return uses


def _reads(operator: Operator) -> Iterator[tuple[int, Role, int | None]]:
    if operator.op not in _WEIGHTS:
        return
    positions, axis, bias = _WEIGHTS[operator.op]
    inputs = operator.inputs
    for position in positions:
        if position < len(inputs):
            yield inputs[position], Role.WEIGHT, axis
    if bias is not None and bias < len(inputs):
        yield inputs[bias], Role.BIAS, None


def _weights(model: Model, tensor: Tensor, use: tuple[Role, int | None] | None) -> Iterator[Segment]:
    span = model.buffers[tensor.buffer]
    if not span.length or tensor.dtype in {"", "string"}:
        return
    role, axis = use or (Role.TENSOR, None)
    yield tensor_segment(*span, role, tensor.name, tensor.dtype, tensor.shape, axis, quant(model.flat, tensor))


def quant(flat: Flat, tensor: Tensor) -> Quant | None:
    """How ``tensor`` is quantised, as the file says it; None if it is not.

    Raises:
        Malformed: the file's budget is spent.

    """
    if not tensor.scales.length:
        return None
    scales = flat.values(tensor.scales, "f")
    zeros = tuple(int(value) for value in flat.values(tensor.zero_points, "q")) or (0,) * len(scales)
    if len(zeros) == 1:
        zeros *= len(scales)
    return Quant(scales, zeros, tensor.axis if len(scales) > 1 else None)


def _parameters(tensor: Tensor) -> Iterator[Segment]:
    """The tensor's quantisation vectors: they lie in the skeleton, but are numbers that training moves."""
    for span, role, dtype, item, suffix in (
        (tensor.scales, Role.SCALE, "float32", 4, "scale"),
        (tensor.zero_points, Role.ZERO_POINT, "int64", 8, "zero_point"),
        (tensor.minima, Role.TENSOR, "float32", 4, "min"),
        (tensor.maxima, Role.TENSOR, "float32", 4, "max"),
    ):
        if span.length:
            yield tensor_segment(*span, role, f"{tensor.name}:{suffix}", dtype, (span.length // item,))
