"""What a LiteRT file says of itself."""

from __future__ import annotations

from collections import Counter

from farshore.core.manifest import Tensor
from farshore.formats import dtypes, flexbuffer, tflite, tflite_metadata, zipped
from farshore.formats.bounds import Malformed
from farshore.formats.flatbuffer import Flat
from farshore.formats.info import Custom, External, ModelInfo, Normalisation, PackedFile, precision
from farshore.formats.tflite_metadata import Document
from farshore.formats.tflite_segments import quant
from farshore.formats.wiring import Wiring

_MAX_OPTIONS = 1 << 16


def inspect(view: memoryview) -> ModelInfo:
    """Read a LiteRT file.

    Args:
        view: the whole file.

    Raises:
        Malformed: it is not a LiteRT model, or exceeds the parser's limits.

    """
    model = tflite.parse(view)
    graph = model.subgraphs[0]
    notes: list[str] = []
    document = _document(model, notes)
    inputs, outputs = _tensors(model, graph, graph.inputs), _tensors(model, graph, graph.outputs)
    elements = _elements(model)
    found, why = precision(elements)
    ops = Counter(operator.op for subgraph in model.subgraphs for operator in subgraph.operators)
    wiring = Wiring(
        ((operator.op, operator.inputs, operator.outputs) for operator in graph.operators), model.flat.budget
    )
    normalisation: dict[str, Normalisation] = {}
    colours: dict[str, str] = {}
    for tensor, said in zip(inputs, document.inputs, strict=False):
        if said.normalisation is not None:
            normalisation[tensor.name] = said.normalisation
        if said.colour:
            colours[tensor.name] = said.colour
    return ModelInfo(
        format="tflite",
        runtime="litert",
        precision=found,
        precision_why=why,
        producer=model.description,
        description=document.texts.get("description", ""),
        version=model.version,
        opsets={},
        inputs=inputs,
        outputs=outputs,
        overridable=0,
        ops=dict(sorted(ops.items())),
        custom=_custom(model, graph),
        metadata=document.texts,
        normalisation=normalisation,
        colours=colours,
        packed=_packed(view, document, inputs, outputs, notes),
        external=tuple(External(name, 0) for name in sorted(set(model.external))),
        parameters=sum(elements.values()),
        produced_by={tensor.name: wiring.maker(at) for tensor, at in zip(outputs, graph.outputs, strict=True)},
        read_by={tensor.name: wiring.readers(at) for tensor, at in zip(inputs, graph.inputs, strict=True)},
        notes=tuple(notes),
    )


def _document(model: tflite.Model, notes: list[str]) -> Document:
    index = model.metadata.get(tflite_metadata.NAME, 0)
    if not 0 < index < len(model.buffers):
        return Document()
    span = model.buffers[index]
    try:
        return tflite_metadata.parse(Flat(model.flat.view[span.offset : span.end], model.flat.budget))
    except Malformed as error:
        notes.append(f"the model's metadata cannot be read: {error}")
        return Document()


def names(graph: tflite.Subgraph, indices: tuple[int, ...]) -> list[str]:
    """Names of tensors by index; one that is empty or stands twice gets its place in ``indices`` added."""
    plain = [graph.tensors[at].name for at in indices]
    return [name if name and plain.count(name) == 1 else f"{name}#{at}" for at, name in enumerate(plain)]


def _tensors(model: tflite.Model, graph: tflite.Subgraph, indices: tuple[int, ...]) -> tuple[Tensor, ...]:
    if len(indices) > 1024:
        raise Malformed("too many inputs or outputs")
    found = []
    for name, at in zip(names(graph, indices), indices, strict=True):
        tensor = graph.tensors[at]
        shape = tuple("?" if size < 0 else size for size in tensor.signature)
        scale = zero = None
        if tensor.dtype in {"int8", "uint8", "int16", "uint16"} and tensor.scales.length == 4:
            known = quant(model.flat, tensor)
            if known is not None and len(known.zero_points) == 1 and 0 < known.scales[0] < float("inf"):
                scale, zero = known.scales[0], known.zero_points[0]
        found.append(Tensor(name, tensor.dtype or "unknown", shape, scale, zero))
    return tuple(found)


def _elements(model: tflite.Model) -> Counter[str]:
    counted: Counter[str] = Counter()
    seen: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            at, bits = tensor.buffer, dtypes.BITS.get(tensor.dtype)
            if bits and 0 < at < len(model.buffers) and at not in seen:
                seen.add(at)
                counted[tensor.dtype] += model.buffers[at].length * 8 // bits
    return counted


def _packed(
    view: memoryview, document: Document, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], notes: list[str]
) -> tuple[PackedFile, ...]:
    try:
        contents = zipped.files(view)
    except Malformed as error:
        notes.append(f"the files packed in the model cannot be read: {error}")
        contents = {}
    found: dict[str, PackedFile] = {}
    for tensors, documents in ((outputs, document.outputs), (inputs, document.inputs)):
        for tensor, said in zip(tensors, documents, strict=False):
            for name, kind in said.files:
                found.setdefault(name, PackedFile(name, contents.get(name), kind, tensor.name))
    for name, kind in document.files:
        found.setdefault(name, PackedFile(name, contents.get(name), kind))
    for name, content in contents.items():
        found.setdefault(name, PackedFile(name, content))
    return tuple(found.values())


def _custom(model: tflite.Model, graph: tflite.Subgraph) -> tuple[Custom, ...]:
    found: dict[str, Custom] = {}
    named = dict(zip(graph.outputs, names(graph, graph.outputs), strict=True))
    for operator in graph.operators:
        if operator.custom and operator.op not in found:
            found[operator.op] = Custom(
                operator.op,
                tuple(named.get(at, graph.tensors[at].name if at >= 0 else "") for at in operator.outputs),
                _settings(model, operator),
                tuple(graph.tensors[at].shape for at in operator.inputs if at >= 0),
            )
    for inner in model.subgraphs[1:]:
        for operator in inner.operators:
            if operator.custom:
                found.setdefault(operator.op, Custom(operator.op))
    return tuple(found[name] for name in sorted(found))


def _settings(model: tflite.Model, operator: tflite.Operator) -> dict[str, flexbuffer.Scalar]:
    span = operator.options
    if not 0 < span.length <= _MAX_OPTIONS:
        return {}
    try:
        return flexbuffer.scalars(bytes(model.flat.view[span.offset : span.end]))
    except Malformed:
        return {}  # each custom operator writes its settings as it likes
