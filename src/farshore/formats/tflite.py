"""LiteRT (TFLite) files as values: subgraphs, operators, tensors, buffers (schema.fbs of LiteRT 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from farshore.formats import dtypes
from farshore.formats.bounds import MAX_RANK, Budget, Malformed
from farshore.formats.flatbuffer import Flat
from farshore.formats.protobuf import NOWHERE, Span

IDENTIFIER = b"TFL3"

# BuiltinOperator, as far as names help: weights' layout, what may not run, what the model is. Others are named by number.
OPS: dict[int, str] = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE",
    6: "DEQUANTIZE", 7: "EMBEDDING_LOOKUP", 8: "FLOOR", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 16: "LSTM",
    17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 24: "RNN",
    25: "SOFTMAX", 26: "SPACE_TO_DEPTH", 27: "SVDF", 28: "TANH", 32: "CUSTOM", 34: "PAD", 35:
    "UNIDIRECTIONAL_SEQUENCE_RNN", 36: "GATHER", 37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 39: "TRANSPOSE",
    40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE",
    47: "EXP", 48: "TOPK_V2", 49: "SPLIT", 50: "LOG_SOFTMAX", 51: "DELEGATE", 53: "CAST", 54: "PRELU", 55: "MAXIMUM",
    56: "ARG_MAX", 57: "MINIMUM", 60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV", 69: "TILE", 70: "EXPAND_DIMS",
    74: "SUM", 75: "SQRT", 76: "RSQRT", 77: "SHAPE", 78: "POW", 79: "ARG_MIN", 80: "FAKE_QUANT", 82: "REDUCE_MAX",
    83: "PACK", 88: "UNPACK", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 100: "MIRROR_PAD", 106: "ADD_N", 107: "GATHER_ND",
    114: "QUANTIZE", 117: "HARD_SWISH", 118: "IF", 119: "WHILE", 120: "NON_MAX_SUPPRESSION_V4",
    121: "NON_MAX_SUPPRESSION_V5", 123: "SELECT_V2", 124: "DENSIFY", 126: "BATCH_MATMUL", 132: "CONV_3D",
    141: "CONV_3D_TRANSPOSE", 142: "VAR_HANDLE", 143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE", 150: "GELU",
}  # fmt: skip
OPS[129] = "CALL_ONCE"


@dataclass(slots=True)
class Tensor:
    """``Tensor``.

    Attributes:
        name: its name.
        dtype: a name of :mod:`farshore.formats.dtypes`; "" for resources and variants.
        shape: dimensions as stored (1 where dynamic).
        signature: dimensions with -1 where dynamic; as ``shape`` if nothing is.
        buffer: index of its buffer; 0 is the empty one.
        scales, zero_points, minima, maxima: where its quantisation's vectors lie.
        axis: the quantised dimension.

    """

    name: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    signature: tuple[int, ...] = ()
    buffer: int = 0
    scales: Span = NOWHERE
    zero_points: Span = NOWHERE
    minima: Span = NOWHERE
    maxima: Span = NOWHERE
    axis: int = 0


@dataclass(slots=True)
class Operator:
    """``Operator``: ``op`` is the builtin's or the custom operator's name; inputs may hold -1 (left out)."""

    op: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Span


@dataclass(slots=True)
class Subgraph:
    """``SubGraph``; tensors are named by index."""

    name: str
    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[Operator]


@dataclass(slots=True)
class Model:
    """``Model``.

    Attributes:
        flat: the reader, for whoever reads on.
        buffers: where each buffer's bytes lie; empty if it has none.
        metadata: buffer index by metadata name.
        signatures: names of a signature's inputs and outputs, by subgraph 0's tensor index.
        external: groups (file names) that hold weights outside the file.

    """

    flat: Flat
    version: int = 0
    description: str = ""
    subgraphs: list[Subgraph] = field(default_factory=list)
    buffers: list[Span] = field(default_factory=list)
    metadata: dict[str, int] = field(default_factory=dict)
    signatures: dict[int, str] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)


def parse(view: memoryview) -> Model:
    """Read a LiteRT file.

    Args:
        view: the whole file, one byte per item.

    Raises:
        Malformed: it is not a LiteRT model, or exceeds the parser's limits.

    """
    if bytes(view[4:8]) != IDENTIFIER:
        raise Malformed("no TFL3 identifier")
    flat = Flat(view, Budget())
    root = flat.root()
    model = Model(flat, version=flat.u32(root, 0), description=flat.text(root, 3))
    codes = [_code(flat, table) for table in flat.tables(root, 1)]
    model.subgraphs = [_subgraph(flat, table, codes) for table in flat.tables(root, 2)]
    model.buffers = [_buffer(flat, table) for table in flat.tables(root, 4)]
    for table in flat.tables(root, 6):
        model.metadata.setdefault(flat.text(table, 0), flat.u32(table, 1))
    for table in flat.tables(root, 7):
        if flat.u32(table, 4) == 0:
            for entry in (*flat.tables(table, 0), *flat.tables(table, 1)):
                model.signatures.setdefault(flat.u32(entry, 1), flat.text(entry, 0))
    model.external = [flat.text(table, 0) for table in flat.tables(root, 8)]
    if not model.subgraphs:
        raise Malformed("no subgraph")
    return model


def _code(flat: Flat, table: int) -> tuple[str, bool]:
    """Name of an operator code, and whether it is a custom operator. Small codes stand in the old byte field."""
    number = max(flat.i8(table, 0), flat.i32(table, 3))
    custom = flat.text(table, 1)
    if number == 32 or (custom and number == 0):
        return custom or "CUSTOM", True
    return OPS.get(number, f"BUILTIN_{number}"), False


def _subgraph(flat: Flat, table: int, codes: list[tuple[str, bool]]) -> Subgraph:
    tensors = [_tensor(flat, entry) for entry in flat.tables(table, 0)]
    operators = []
    for entry in flat.tables(table, 3):
        index = flat.u32(entry, 0)
        if index >= len(codes):
            raise Malformed("an operator without a code")
        op, custom = codes[index]
        inputs, outputs = flat.integers(entry, 1), flat.integers(entry, 2)
        if any(not -1 <= at < len(tensors) for at in (*inputs, *outputs)):
            raise Malformed("an operator that names no tensor")
        operators.append(Operator(op, custom, inputs, outputs, flat.vector(entry, 5, 1)))
    inputs, outputs = flat.integers(table, 1), flat.integers(table, 2)
    if any(not 0 <= at < len(tensors) for at in (*inputs, *outputs)):
        raise Malformed("a subgraph whose input or output names no tensor")
    return Subgraph(flat.text(table, 4), tensors, inputs, outputs, operators)


def _tensor(flat: Flat, table: int) -> Tensor:
    shape = flat.integers(table, 0)
    signature = flat.integers(table, 7) or shape
    if max(len(shape), len(signature)) > MAX_RANK:
        raise Malformed("a tensor with too many dimensions")
    tensor = Tensor(flat.text(table, 3), dtypes.TFLITE.get(flat.i8(table, 1), ""), shape, signature, flat.u32(table, 2))
    quant = flat.table(table, 4)
    if quant:
        tensor.minima, tensor.maxima = flat.vector(quant, 0, 4), flat.vector(quant, 1, 4)
        tensor.scales, tensor.zero_points = flat.vector(quant, 2, 4), flat.vector(quant, 3, 8)
        tensor.axis = flat.i32(quant, 6)
    return tensor


def _buffer(flat: Flat, table: int) -> Span:
    """A buffer's bytes: inside the flatbuffer, or behind it by absolute offset (models of 2 GB and more)."""
    inline = flat.vector(table, 0, 1)
    offset, size = flat.u64(table, 1), flat.u64(table, 2)
    if inline.length or offset <= 1:  # 0 and 1 are placeholders of the writer
        return inline
    if offset > flat.size or size > flat.size - offset:
        raise Malformed("a buffer outside the file")
    return Span(offset, size)
