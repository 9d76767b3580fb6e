"""What a model file says of itself, format aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from farshore.core.manifest import Runtime, Tensor


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How reals that a picture input takes come from values 0…255: (value − mean) / std; one number, or one a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that is packed in the model.

    Attributes:
        name: plain.
        content: its bytes; None if the metadata names it but it is not there.
        kind: what the metadata says it is: ``labels`` (a name per index of an output), ``vocabulary`` … or "".
        tensor: name of the input or output that it belongs to; "" if to the model.

    """

    name: str
    content: bytes | None
    kind: str = ""
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class External:
    """Elements of tensors that lie in another file beside the model.

    Attributes:
        location: plain file name.
        size: bytes that the file must have at least.

    """

    location: str
    size: int


@dataclass(frozen=True, slots=True)
class Custom:
    """An operator that is not the format's own.

    Attributes:
        op: its name; in ONNX ``domain:name``.
        outputs: names of what its first use puts out, in the operator's order.
        settings: scalar settings of its first use, where they can be read.
        shapes: of its first use's inputs, where the file gives them.

    """

    op: str
    outputs: tuple[str, ...] = ()
    settings: dict[str, int | float | bool] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model file says of itself.

    Attributes:
        format: ``onnx`` or ``tflite``.
        runtime: what runs it.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8``, ``int16``, ``int4``, ``mixed``, ``unknown``.
        precision_why: how that was decided.
        producer: program that wrote it.
        description: the author's words.
        version: of the format: ONNX IR version, LiteRT schema version.
        opsets: ONNX operator-set versions by domain ("" is ``ai.onnx``).
        inputs: what a caller must give; initializers that are declared as inputs too are left out.
        outputs: what it answers.
        overridable: how many initializers are declared as inputs too; the runtime optimises less until they are removed.
        ops: how often each operator occurs, in all graphs; an operator of another domain is ``domain:name``.
        custom: operators that are not the format's own, sorted by name: what an allow-list must admit.
        metadata: free texts by name.
        normalisation: by input name, where the metadata gives it.
        colours: ``RGB`` or ``GRAY`` by input name, where the metadata gives it.
        packed: files packed in the model.
        external: files that must lie beside it.
        parameters: number of constant elements.
        produced_by: by output name, the operator that computed it; reshapes and conversions are looked through.
        read_by: by input name, the operators that read it first; conversions are looked through.
        notes: what was odd and left aside, for people.

    """

    format: Literal["onnx", "tflite"]
    runtime: Runtime
    precision: str
    precision_why: str
    producer: str
    description: str
    version: int
    opsets: dict[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    overridable: int
    ops: dict[str, int]
    custom: tuple[Custom, ...]
    metadata: dict[str, str]
    normalisation: dict[str, Normalisation]
    colours: dict[str, str]
    packed: tuple[PackedFile, ...]
    external: tuple[External, ...]
    parameters: int
    produced_by: dict[str, str]
    read_by: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


_PRECISIONS = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int16": "int16", "uint16": "int16",
    "int8": "int8", "uint8": "int8", "int4": "int4", "uint4": "int4", "int2": "int2", "uint2": "int2",
}  # fmt: skip


def precision(elements: dict[str, int]) -> tuple[str, str]:
    """Precision of a model and why, from the number of constant elements by dtype.

    The type that nine tenths of the numbers have; indices and shapes (int32, int64, bool) do not count, nor do the few
    floats of scales and biases weigh. Constants of fewer than 16 numbers a type say nothing.
    """
    counts: dict[str, int] = {}
    for dtype, count in elements.items():
        if dtype in _PRECISIONS:
            counts[_PRECISIONS[dtype]] = counts.get(_PRECISIONS[dtype], 0) + count
    total = sum(counts.values())
    if total < 16:
        return "unknown", "the file holds no weights that can be read"
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{100 * count / total:.1f} % {name}" for name, count in ranked[:3])
    name, count = ranked[0]
    return (name if count >= 0.9 * total else "mixed"), f"{said} of {total} weights"
