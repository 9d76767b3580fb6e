"""ONNX files as values: graph, nodes, tensors with the byte ranges of their elements (onnx.proto, onnx 1.23).

Nothing is copied but names and small attributes. Messages that were split in writing are merged as protobuf demands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from farshore.formats import dtypes, protobuf
from farshore.formats.bounds import MAX_DEPTH, MAX_RANK, OBJECT, Budget, Malformed
from farshore.formats.protobuf import FIXED32, FIXED64, VARINT, Field, Span, fields, integers, message, text

MAX_TEXT = 1 << 20
"""Bytes of one metadata value that are kept."""

MAX_RUNS = 4096
"""Fields that one tensor's integers may be spread over to be read; writers use one."""

MAX_EXTERNAL = 16
"""Entries of a tensor's ``external_data``; five are defined."""

Dim = int | str | None


@dataclass(slots=True)
class Tensor:
    """``TensorProto``.

    Attributes:
        name: its name ("" for a Constant node's).
        dtype: a name of :mod:`farshore.formats.dtypes`; "" if unknown.
        dims: dimensions, none negative.
        data: where its elements lie in one run in the file's own byte order; None if they do not.
        varints: fields of integers written as varints (``int32_data``, ``int64_data``), one span per field.
        scattered: elements written one field each (unpacked floats); legal, seldom, not one run.
        external: ``external_data`` entries if the elements are in another file.

    """

    name: str = ""
    dtype: str = ""
    dims: tuple[int, ...] = ()
    data: Span | None = None
    varints: list[Field] = field(default_factory=list)
    scattered: bool = False
    external: dict[str, str] | None = None


@dataclass(slots=True)
class Attribute:
    """``AttributeProto``; small values only."""

    name: str = ""
    integer: int = 0
    number: float = 0.0
    string: bytes = b""
    integers: list[int] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)


@dataclass(slots=True)
class Node:
    """``NodeProto``. ``inputs`` keeps empty names: they are left-out optional inputs."""

    op: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass(slots=True)
class Value:
    """``ValueInfoProto`` of a tensor: ``shape`` is None if the rank is unknown; a dimension is a number, a name or None."""

    name: str = ""
    dtype: str = ""
    shape: tuple[Dim, ...] | None = None


@dataclass(slots=True)
class Graph:
    """``GraphProto``, and the body of a ``FunctionProto``."""

    name: str = ""
    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    sparse: list[Tensor] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Model:
    """``ModelProto``.

    Attributes:
        view: the file.
        budget: what is left for whoever reads on.
        bodies: functions' and training graphs.
        opsets: version by domain ("" is ``ai.onnx``).
        metadata: ``metadata_props``.

    """

    view: memoryview
    budget: Budget
    ir_version: int = 0
    producer: str = ""
    domain: str = ""
    description: str = ""
    graph: Graph = field(default_factory=Graph)
    bodies: list[Graph] = field(default_factory=list)
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def graphs(self) -> Iterator[Graph]:
        """Every graph: the main one, functions, and those nested in nodes; parents before children."""
        waiting = [self.graph, *self.bodies]
        while waiting:
            graph = waiting.pop(0)
            yield graph
            waiting += [
                inner for node in graph.nodes for attribute in node.attributes.values() for inner in attribute.graphs
            ]


def parse(view: memoryview) -> Model:
    """Read an ONNX file.

    Args:
        view: the whole file, one byte per item.

    Raises:
        Malformed: it is not an ONNX model (a model has an IR version and a graph), or exceeds the parser's limits.

    """
    model = Model(view, Budget())
    producer_version = ""
    graphs = 0
    for entry in fields(view, Span(0, len(view)), model.budget):
        match entry.number:
            case 1 if entry.wire == VARINT:
                model.ir_version = entry.value
            case 2:
                model.producer = text(view, entry)
            case 3:
                producer_version = text(view, entry)
            case 4:
                model.domain = text(view, entry)
            case 6:
                model.description = text(view, entry, MAX_TEXT)
            case 7:
                graphs += 1
                _graph(model, message(entry), model.graph, 0)
            case 8:
                _opset(model, message(entry))
            case 14:
                key, value = _pair(model, message(entry))
                model.metadata[key] = value
            case 20:
                model.bodies += _training(model, message(entry))
            case 25:
                model.bodies.append(_function(model, message(entry)))
    if not graphs or not 0 < model.ir_version < 1 << 20:
        raise Malformed("no ONNX graph")
    model.producer = f"{model.producer} {producer_version}".strip()
    return model


def _opset(model: Model, span: Span) -> None:
    domain, version = "", 0
    for entry in fields(model.view, span, model.budget):
        if entry.number == 1:
            domain = text(model.view, entry)
        elif entry.number == 2 and entry.wire == VARINT:
            version = protobuf.signed(entry.value)
    model.opsets["" if domain == "ai.onnx" else domain] = version


def _pair(model: Model, span: Span) -> tuple[str, str]:
    """``StringStringEntryProto``."""
    model.budget.spend(OBJECT)
    key = value = ""
    for entry in fields(model.view, span, model.budget):
        if entry.number == 1:
            key = text(model.view, entry)
        elif entry.number == 2:
            value = text(model.view, entry, MAX_TEXT)
    return key, value


def _training(model: Model, span: Span) -> list[Graph]:
    """``TrainingInfoProto``: initialization and algorithm."""
    return [
        _graph(model, message(entry), Graph(), 1)
        for entry in fields(model.view, span, model.budget)
        if entry.number in {1, 2}
    ]


def _function(model: Model, span: Span) -> Graph:
    body = Graph()
    for entry in fields(model.view, span, model.budget):
        if entry.number == 1:
            body.name = text(model.view, entry)
        elif entry.number == 7:
            body.nodes.append(_node(model, message(entry), 1))
        elif entry.number == 11:
            # Defaults of the function's attributes may hold tensors: keep them where a walk over nodes finds them.
            attribute = _attribute(model, message(entry), 1)
            body.nodes.append(Node(op="Constant", attributes={attribute.name: attribute}))
    return body


def _graph(model: Model, span: Span, graph: Graph, depth: int) -> Graph:
    if depth > MAX_DEPTH:
        raise Malformed("graphs nested too deep")
    model.budget.spend(OBJECT)
    for entry in fields(model.view, span, model.budget):
        match entry.number:
            case 1:
                graph.nodes.append(_node(model, message(entry), depth))
            case 2:
                graph.name = text(model.view, entry)
            case 5:
                graph.initializers.append(_tensor(model, message(entry)))
            case 11:
                graph.inputs.append(_value(model, message(entry)))
            case 12:
                graph.outputs.append(_value(model, message(entry)))
            case 15:
                graph.sparse += _sparse(model, message(entry))
    return graph


def _node(model: Model, span: Span, depth: int) -> Node:
    model.budget.spend(OBJECT)
    node = Node()
    for entry in fields(model.view, span, model.budget):
        match entry.number:
            case 1:
                model.budget.spend(3)
                node.inputs.append(text(model.view, entry))
            case 2:
                model.budget.spend(3)
                node.outputs.append(text(model.view, entry))
            case 3:
                node.name = text(model.view, entry)
            case 4:
                node.op = text(model.view, entry)
            case 5:
                attribute = _attribute(model, message(entry), depth)
                node.attributes[attribute.name] = attribute
            case 7:
                node.domain = text(model.view, entry)
    return node


def _attribute(model: Model, span: Span, depth: int) -> Attribute:
    model.budget.spend(OBJECT)
    attribute = Attribute()
    for entry in fields(model.view, span, model.budget):
        match entry.number:
            case 1:
                attribute.name = text(model.view, entry)
            case 2:
                attribute.number = protobuf.float32(model.view, entry)
            case 3 if entry.wire == VARINT:
                attribute.integer = protobuf.signed(entry.value)
            case 4:
                attribute.string = protobuf.content(model.view, entry, 256)
            case 5 | 10:
                attribute.tensors.append(_tensor(model, message(entry)))
            case 6 | 11:
                attribute.graphs.append(_graph(model, message(entry), Graph(), depth + 1))
            case 8:
                attribute.integers += integers(model.view, entry, model.budget)
            case 22 | 23:
                attribute.tensors += _sparse(model, message(entry))
    return attribute


def _sparse(model: Model, span: Span) -> list[Tensor]:
    """``SparseTensorProto``: its values and its indices."""
    return [
        _tensor(model, message(entry)) for entry in fields(model.view, span, model.budget) if entry.number in {1, 2}
    ]


_PACKED = {4: "float32", 10: "float64"}  # float_data, double_data: packed, little-endian


def _tensor(model: Model, span: Span) -> Tensor:
    model.budget.spend(OBJECT)
    tensor = Tensor()
    packed: dict[int, Span] = {}
    dims: list[int] = []
    external: dict[str, str] = {}
    remote = False
    for entry in fields(model.view, span, model.budget):
        match entry.number:
            case 1:
                dims += integers(model.view, entry, model.budget)
                if len(dims) > MAX_RANK or min(dims, default=0) < 0:
                    raise Malformed("a tensor with impossible dimensions")
            case 2 if entry.wire == VARINT:
                tensor.dtype = dtypes.ONNX.get(entry.value, "")
            case 4 | 10 if entry.wire in {FIXED32, FIXED64} or entry.number in packed:
                tensor.scattered = True
            case 4 | 10 | 9:
                packed[entry.number] = message(entry)
            case 5 | 7 | 11:
                tensor.varints.append(entry)
                tensor.scattered = len(tensor.varints) > MAX_RUNS
                if tensor.scattered:
                    tensor.varints.pop()
            case 8:
                tensor.name = text(model.view, entry)
            case 13:
                key, value = _pair(model, message(entry))
                external[key] = value
                if len(external) > MAX_EXTERNAL:
                    raise Malformed("a tensor with too many places")
            case 14 if entry.wire == VARINT:
                remote = entry.value == 1
    tensor.dims = tuple(dims)
    tensor.data = _elements(tensor, packed)
    tensor.external = external if remote else None
    return tensor


def _elements(tensor: Tensor, packed: dict[int, Span]) -> Span | None:
    """Where all elements of ``tensor`` lie in one run. ``raw_data`` wins, as in the runtimes."""
    if 9 in packed:
        return packed[9]
    if tensor.scattered:
        return None
    for number, dtype in _PACKED.items():
        # float_data also holds complex64 and double_data complex128: pairs of the same floats.
        if number in packed and tensor.dtype in {dtype, {4: "complex64", 10: "complex128"}[number]}:
            return packed[number]
    return None


def _value(model: Model, span: Span) -> Value:
    model.budget.spend(OBJECT)
    value = Value()
    for entry in fields(model.view, span, model.budget):
        if entry.number == 1:
            value.name = text(model.view, entry)
        elif entry.number == 2:
            for kind in fields(model.view, message(entry), model.budget):
                if kind.number == 1:  # TypeProto.tensor_type; sequences, maps and optionals stay without a dtype
                    _tensor_type(model, message(kind), value)
    return value


def _tensor_type(model: Model, span: Span, value: Value) -> None:
    for entry in fields(model.view, span, model.budget):
        if entry.number == 1 and entry.wire == VARINT:
            value.dtype = dtypes.ONNX.get(entry.value, "")
        elif entry.number == 2:
            dims = [
                _dimension(model, message(dim))
                for dim in fields(model.view, message(entry), model.budget)
                if dim.number == 1
            ]
            if len(dims) > MAX_RANK:
                raise Malformed("a value with too many dimensions")
            value.shape = tuple(dims)


def _dimension(model: Model, span: Span) -> Dim:
    size: Dim = None
    for entry in fields(model.view, span, model.budget):
        if entry.number == 1 and entry.wire == VARINT:
            number = protobuf.signed(entry.value)
            size = number if number >= 0 else None
        elif entry.number == 2:
            size = text(model.view, entry) or None
    return size


def external_place(tensor: Tensor) -> tuple[int, int]:
    """Offset and length of a tensor's elements in the file beside the model; length 0 if it is not given.

    Raises:
        Malformed: they are no sensible numbers.

    """
    entries = tensor.external or {}
    try:
        offset, length = (int(entries.get(key, "") or "0") for key in ("offset", "length"))
    except ValueError as error:
        raise Malformed("external data without a valid offset and length") from error
    if not 0 <= offset <= 1 << 62 or not 0 <= length <= 1 << 62:
        raise Malformed("external data without a valid offset and length")
    return offset, length


_STRUCT = {"float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "float16": "e",
           "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "bool": "?"}  # fmt: skip


def numbers(model: Model, tensor: Tensor, limit: int) -> tuple[float, ...] | None:
    """Elements of a small tensor.

    Args:
        model: the file it is in.
        tensor: a dense tensor.
        limit: how many elements at most.

    Returns:
        The elements in order; None if there are more, or they are elsewhere, or of another type.

    Raises:
        Malformed: the file's budget is spent.

    """
    count, code = dtypes.elements(tensor.dims), _STRUCT.get(tensor.dtype)
    if count is None or count > limit or tensor.external is not None:
        return None
    model.budget.spend(count)
    if tensor.data is not None:
        if code is None or tensor.data.length != dtypes.size_of(tensor.dtype, tensor.dims):
            return None
        return struct.unpack_from(f"<{count}{code}", model.view, tensor.data.offset)
    if tensor.scattered or tensor.dtype not in _STRUCT or tensor.dtype.startswith("float"):
        return None
    values = [value for entry in tensor.varints for value in integers(model.view, entry, model.budget)]
    return tuple(values) if len(values) == count else None
