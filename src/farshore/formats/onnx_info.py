"""What an ONNX file says of itself."""

from __future__ import annotations

from collections import Counter

from farshore.core.manifest import Tensor, check_path
from farshore.formats import dtypes, onnx
from farshore.formats.info import Custom, External, ModelInfo, precision
from farshore.formats.wiring import Wiring

_STANDARD = frozenset({"", "ai.onnx.ml"})


def inspect(view: memoryview) -> ModelInfo:
    """Read an ONNX file.

    Args:
        view: the whole file.

    Raises:
        Malformed: it is not an ONNX model, or exceeds the parser's limits.
        Invalid: external data is named by anything but a plain file name.

    """
    model = onnx.parse(view)
    graph = model.graph
    constants = {tensor.name for tensor in (*graph.initializers, *graph.sparse)}
    tensors = list(_tensors(model))
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[tensor.dtype] += dtypes.elements(tensor.dims) or 0
    found, why = precision(elements)
    ops, custom = _operators(model)
    inputs = tuple(_tensor(value) for value in graph.inputs if value.name not in constants)
    wiring = Wiring(((node.op, node.inputs, node.outputs) for node in graph.nodes), model.budget)
    return ModelInfo(
        format="onnx",
        runtime="onnxruntime",
        precision=found,
        precision_why=why,
        producer=model.producer,
        description=model.description,
        version=model.ir_version,
        opsets=dict(sorted(model.opsets.items())),
        inputs=inputs,
        outputs=tuple(_tensor(value) for value in graph.outputs),
        overridable=sum(value.name in constants for value in graph.inputs),
        ops=ops,
        custom=custom,
        metadata=dict(sorted(model.metadata.items())),
        normalisation={},
        colours={},
        packed=(),
        external=_external(tensors),
        parameters=sum(elements.values()),
        produced_by={value.name: wiring.maker(value.name) for value in graph.outputs},
        read_by={value.name: wiring.readers(value.name) for value in inputs},
    )


def _tensors(model: onnx.Model) -> list[onnx.Tensor]:
    return [
        tensor
        for graph in model.graphs()
        for tensor in (
            *graph.initializers,
            *graph.sparse,
            *(tensor for node in graph.nodes for attribute in node.attributes.values() for tensor in attribute.tensors),
        )
    ]


def _tensor(value: onnx.Value) -> Tensor:
    shape = tuple("?" if size is None else size for size in value.shape or ())
    return Tensor(value.name, value.dtype or "unknown", shape)


def _operators(model: onnx.Model) -> tuple[dict[str, int], tuple[Custom, ...]]:
    """Uses by operator, and those that no runtime has by itself: functions that the file defines are not custom."""
    ops: Counter[str] = Counter()
    custom: dict[str, Custom] = {}
    own = {body.name for body in model.bodies}
    for graph in model.graphs():
        for node in graph.nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            name = f"{domain}:{node.op}" if domain else node.op
            ops[name] += 1
            if domain not in _STANDARD and node.op not in own:
                custom.setdefault(name, Custom(name, tuple(node.outputs)))
    return dict(sorted(ops.items())), tuple(custom[name] for name in sorted(custom))


def _external(tensors: list[onnx.Tensor]) -> tuple[External, ...]:
    sizes: dict[str, int] = {}
    for tensor in tensors:
        if tensor.external is None:
            continue
        location = check_path(tensor.external.get("location", ""))
        offset, length = onnx.external_place(tensor)
        length = length or dtypes.size_of(tensor.dtype, tensor.dims) or 0
        sizes[location] = max(sizes.get(location, 0), offset + length)
    return tuple(External(location, size) for location, size in sorted(sizes.items()))
