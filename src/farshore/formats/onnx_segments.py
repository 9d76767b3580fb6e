"""Which bytes of an ONNX file are which tensor, and what the graph says of each: role, output channels, quantisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from farshore.formats.dtypes import size_of
from farshore.formats.onnx import Graph, Model, Node, Tensor, external_place, numbers, parse
from farshore.formats.protobuf import Span
from farshore.formats.segments import Quant, Role, Segment, SegmentMap, cover, tensor_segment

_PASSES = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"})
"""Operators whose output is their first input in another form: what uses the output, uses the tensor."""

# Operator → its inputs by position: (position of weight or -1, axis of output channels, position of bias or None).
# Axes: onnx/docs/Operators.md. Gemm's axis depends on transB, MatMul's right operand has its channels last.
_WEIGHTS: dict[str, tuple[int, int, int | None]] = {
    "Conv": (1, 0, 2),
    "FusedConv": (1, 0, 2),
    "ConvInteger": (1, 0, None),
    "QLinearConv": (3, 0, 8),
    "ConvTranspose": (1, 1, 2),
    "DeformConv": (1, 0, 3),
    "Gemm": (1, 1, 2),
    "FusedGemm": (1, 1, 2),
    "MatMul": (1, -1, None),
    "MatMulInteger": (1, -1, None),
    "QLinearMatMul": (3, -1, None),
    "DynamicQuantizeMatMul": (1, -1, 4),
    "BatchNormalization": (-1, 0, 2),
    "InstanceNormalization": (-1, 0, 2),
    "LayerNormalization": (-1, 0, 2),
    "LSTM": (1, 1, 3),
    "GRU": (1, 1, 3),
    "RNN": (1, 1, 3),
}
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})  # their second weight (R) is input 2, same axis

# Operator → pairs of positions (scale or -1, zero point).
_SCALES: dict[str, tuple[tuple[int, int], ...]] = {
    "DequantizeLinear": ((1, 2),),
    "QuantizeLinear": ((1, 2),),
    "QLinearConv": ((1, 2), (4, 5), (6, 7)),
    "QLinearMatMul": ((1, 2), (4, 5), (6, 7)),
    "QLinearAdd": ((1, 2), (4, 5), (6, 7)),
    "QLinearMul": ((1, 2), (4, 5), (6, 7)),
    "QLinearSigmoid": ((1, 2), (3, 4)),
    "QLinearLeakyRelu": ((1, 2), (3, 4)),
    "QLinearGlobalAveragePool": ((1, 2), (3, 4)),
    "QLinearAveragePool": ((1, 2), (3, 4)),
    "DynamicQuantizeMatMul": ((2, 3),),
    "MatMulInteger": ((-1, 2), (-1, 3)),
    "ConvInteger": ((-1, 2), (-1, 3)),
}
_MAX_SCALES = 1 << 18


@dataclass(slots=True)
class _Use:
    """What the graph says of one named tensor; the first to speak is believed."""

    role: Role | None = None
    channel_axis: int | None = None
    quant: tuple[str, str, int | None] | None = None  # names of scale and zero point, axis


@dataclass(slots=True)
class _Scope:
    """Names of one graph: which tensors they are, and what is said of them."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[str, _Use] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)  # output of a passing operator → the tensor it came from
    values: dict[str, tuple[float, ...] | None] = field(default_factory=dict)
    outer: _Scope | None = None  # a graph inside a node sees its parent's names

    def resolve(self, name: str) -> tuple[_Scope, str]:
        """The scope that knows ``name``'s tensor, and the tensor's own name there."""
        scope: _Scope | None = self
        while scope is not None:
            name = scope.origin.get(name, name)
            if name in scope.tensors:
                return scope, name
            scope = scope.outer
        return self, name

    def use(self, name: str) -> _Use:
        scope, name = self.resolve(name)
        return scope.uses.setdefault(name, _Use())

    def tensor(self, name: str) -> Tensor | None:
        scope, name = self.resolve(name)
        return scope.tensors.get(name)


def segments(view: memoryview) -> SegmentMap:
    """The segment map of an ONNX file.

    Args:
        view: the whole file.

    Raises:
        Malformed: it is not an ONNX model, or exceeds the parser's limits.

    """
    return cover("onnx", len(view), _all_segments(view, _inside))


def external_segments(view: memoryview, location: str, size: int) -> SegmentMap:
    """The segment map of a file that holds tensors of an ONNX model beside it.

    Args:
        view: the whole model file.
        location: the other file's name, as the model's ``external_data`` gives it.
        size: its bytes.

    Raises:
        Malformed: the model is not ONNX, or exceeds the parser's limits.

    """

    def beside(tensor: Tensor) -> Span | None:
        if tensor.external is None or tensor.external.get("location") != location:
            return None
        offset, length = external_place(tensor)
        return Span(offset, length or size_of(tensor.dtype, tensor.dims) or 0)

    return cover("onnx", size, _all_segments(view, beside))


_Place = Callable[[Tensor], Span | None]
"""Where a tensor's elements lie in the file that is mapped; None if they do not."""


def _inside(tensor: Tensor) -> Span | None:
    return tensor.data if tensor.external is None else None


def _all_segments(view: memoryview, place: _Place) -> Iterator[Segment]:
    model = parse(view)
    for graph in (model.graph, *model.bodies):
        yield from _graph_segments(model, graph, None, place)


def _graph_segments(model: Model, graph: Graph, outer: _Scope | None, place: _Place) -> Iterator[Segment]:
    scope = _Scope(outer=outer)
    for tensor in graph.initializers:
        scope.tensors.setdefault(tensor.name, tensor)
    for node in graph.nodes:
        if node.op == "Constant" and node.outputs and "value" in node.attributes:
            for tensor in node.attributes["value"].tensors[:1]:
                scope.tensors.setdefault(node.outputs[0], tensor)
    inner: list[Segment] = []
    for node in graph.nodes:
        _learn(scope, node)
        for attribute in node.attributes.values():
            for child in attribute.graphs:
                inner += _graph_segments(model, child, scope, place)
    yield from inner
    for name, tensor in scope.tensors.items():
        yield from _segment(model, scope, name, tensor, place)
    for tensor in graph.sparse:
        yield from _plain(tensor, tensor.name or "sparse", place)
    for node in graph.nodes:
        for attribute in node.attributes.values():
            for tensor in attribute.tensors:
                yield from _plain(tensor, tensor.name or f"{(node.outputs or [node.name])[0]}:{attribute.name}", place)


def _learn(scope: _Scope, node: Node) -> None:
    """Note what ``node`` says of the tensors that it reads. Nodes come in topological order."""
    _learn_scales(scope, node)
    inputs = node.inputs
    if node.op in _PASSES and inputs and node.outputs:
        scope.origin[node.outputs[0]] = scope.origin.get(inputs[0], inputs[0])
        return
    if node.op == "Add":
        for name in inputs:
            tensor = scope.tensor(name)
            if tensor is not None and sum(size > 1 for size in tensor.dims) == 1:
                _note(scope.use(name), Role.BIAS, None)
    if node.op not in _WEIGHTS:
        return
    weight, axis, bias = _WEIGHTS[node.op]
    if node.op in {"Gemm", "FusedGemm"}:
        transposed = node.attributes.get("transB")
        axis = 0 if transposed is not None and transposed.integer else 1
    for position in (weight, 2) if node.op in _RECURRENT else (weight,):
        if 0 <= position < len(inputs):
            _note(scope.use(inputs[position]), Role.WEIGHT, axis)
    if bias is not None and bias < len(inputs):
        _note(scope.use(inputs[bias]), Role.BIAS, None)


def _learn_scales(scope: _Scope, node: Node) -> None:
    inputs = node.inputs
    for scale, zero in _SCALES.get(node.op, ()):
        if 0 <= scale < len(inputs):
            _note(scope.use(inputs[scale]), Role.SCALE, None)
        if zero < len(inputs):
            _note(scope.use(inputs[zero]), Role.ZERO_POINT, None)
    if node.op == "DequantizeLinear" and len(inputs) >= 2:
        given = node.attributes.get("axis")
        axis = given.integer if given is not None else 1
        _quantised(scope, inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else "", axis)
    elif node.op == "QLinearConv" and len(inputs) > 5:
        _quantised(scope, inputs[3], inputs[4], inputs[5], 0)
    elif node.op == "QLinearMatMul" and len(inputs) > 5:
        _quantised(scope, inputs[3], inputs[4], inputs[5], -1)
    elif node.op == "DynamicQuantizeMatMul" and len(inputs) > 2:
        _quantised(scope, inputs[1], inputs[2], inputs[3] if len(inputs) > 3 else "", -1)


def _note(use: _Use, role: Role, axis: int | None) -> None:
    if use.role is None:
        use.role, use.channel_axis = role, axis


def _quantised(scope: _Scope, name: str, scale: str, zero: str, axis: int) -> None:
    use = scope.use(name)
    if use.quant is None:
        use.quant = (scale, zero, axis)


def _segment(model: Model, scope: _Scope, name: str, tensor: Tensor, place: _Place) -> Iterator[Segment]:
    span = place(tensor)
    if span is None:
        return
    use = scope.uses.get(name, _Use())
    role = use.role or Role.TENSOR
    if role is Role.WEIGHT and len(tensor.dims) < 2:
        role = Role.TENSOR  # a vector that is multiplied in has no channels of its own
    axis = use.channel_axis if role is Role.WEIGHT else None
    quant = _quant(model, scope, use, tensor) if use.quant else None
    yield tensor_segment(*span, role, name, tensor.dtype, tensor.dims, axis, quant)


def _plain(tensor: Tensor, name: str, place: _Place) -> Iterator[Segment]:
    span = place(tensor)
    if span is not None:
        yield tensor_segment(*span, Role.TENSOR, name, tensor.dtype, tensor.dims)


def _quant(model: Model, scope: _Scope, use: _Use, tensor: Tensor) -> Quant | None:
    assert use.quant is not None
    scale_name, zero_name, axis = use.quant
    scale = scope.tensor(scale_name)
    scales = _values(model, scope, scale_name)
    if scale is None or not scales or len(scale.dims) > 1:  # blocked quantisation has scales of the tensor's rank
        return None
    zeros: tuple[float, ...] | None = (0.0,) * len(scales)
    if zero_name:
        zeros = _values(model, scope, zero_name)
    if zeros is None or len(zeros) != len(scales):
        return None
    # One scale in a vector of one element may still be per channel (a convolution with one output).
    per_axis = len(scales) > 1
    return Quant(scales, tuple(int(zero) for zero in zeros), axis if per_axis and tensor.dims else None)


def _values(model: Model, scope: _Scope, name: str) -> tuple[float, ...] | None:
    scope, name = scope.resolve(name)
    if name not in scope.values:
        tensor = scope.tensors.get(name)
        scope.values[name] = None if tensor is None else numbers(model, tensor, _MAX_SCALES)
    return scope.values[name]
