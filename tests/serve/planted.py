"""ONNX models of a family's exact shape whose answers are planted: zeros everywhere but where a test puts numbers.

And a picture to ask about, and where its things lie in each kind of input, written from the formats' own definitions.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from farshore import formats
from farshore.core.manifest import File, Variant
from farshore.formats.overrides import overrides
from farshore.serve.tasks.subject import Want
from farshore.serve.version import LoadedVersion

from .conftest import Device

Shape = Sequence[int | str]
Planted = tuple[str, Shape, Mapping[tuple[int, ...], float]]
"""An output: its type, its shape as declared, and its numbers by place."""

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
         "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}  # fmt: skip


def planted(
    inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, Planted], *, rows: int = 1, base: float = 0.0
) -> bytes:
    """A model.

    The numbers hang on the first input (times zero), so that a runtime cannot fold the graph into constants before it is asked.

    Args:
        inputs: type and shape by name; the first takes the picture.
        outputs: by name.
        rows: what open sizes of outputs come out as.
        base: the number where nothing is planted.

    """
    first = next(iter(inputs))
    nodes = [
        helper.make_node("Cast", [first], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["seen"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Add", ["none", "base"], ["empty"]),
    ]
    weights = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(base, np.float32), "base"),
    ]
    for number, (name, (dtype, shape, numbers)) in enumerate(outputs.items()):
        sizes = np.array([size if isinstance(size, int) else rows for size in shape], np.int64)
        places = np.array(list(numbers) or [[0] * len(shape)], np.int64)
        values = np.array(list(numbers.values()) or [base], np.float32)
        weights += [
            numpy_helper.from_array(sizes, f"sizes{number}"),
            numpy_helper.from_array(places, f"places{number}"),
            numpy_helper.from_array(values, f"values{number}"),
        ]
        nodes += [
            helper.make_node("Expand", ["empty", f"sizes{number}"], [f"blank{number}"]),
            helper.make_node("ScatterND", [f"blank{number}", f"places{number}", f"values{number}"], [f"full{number}"]),
            helper.make_node("Cast", [f"full{number}"], [name], to=TYPES[dtype]),
        ]
    graph = helper.make_graph(
        nodes, "planted",
        [helper.make_tensor_value_info(name, TYPES[dtype], list(shape)) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TYPES[dtype], list(shape)) for name, (dtype, shape, _) in outputs.items()],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


HIGH, WIDE = 300, 480
NAMES = "".join(f"name {number}\n" for number in range(80)).encode()
FOUND = [(3, 0.9, (40.0, 60.0, 128.0, 200.0)), (7, 0.6, (150.0, 262.0, 282.0, 460.0))]
"""Class, score, and the box (top, left, bottom, right) in the upright picture."""


def picture(high: int = HIGH, wide: int = WIDE) -> bytes:
    """A grey picture that the camera stored on its side; EXIF's orientation 6 tells."""
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.new("RGB", (high, wide), (90, 90, 90)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def install(
    device: Device, model: bytes, told: dict[str, Any] | None = None, labels: bytes | None = NAMES
) -> LoadedVersion:
    """A version as a push makes it of this file, its class names and a ``farshore.toml``; loaded."""
    files = {} if labels is None else {"labels.txt": labels}
    info = formats.inspect(model)
    found = formats.recognise(info, files, overrides(told) if told else None)
    content = {"model.onnx": (model, "model")}
    if found.labels is not None:
        data = found.labels.content if found.labels.content is not None else files[found.labels.path]
        content[found.labels.path] = (data, "labels")
    listed = tuple(File(path, device.blobs.add(data), len(data), role) for path, (data, role) in content.items())  # type: ignore[arg-type]
    variant = Variant("v", info.runtime, info.precision, listed, info.inputs, info.outputs, found.pipeline())
    return LoadedVersion(device.root, "m", device.install("m", 1, variant), 1, 1 << 22)


def asked(version: LoadedVersion, sent: bytes | None = None, **want: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        version.answer(picture() if sent is None else sent, Want(**want), alone=True)[0]
    )
    return answer


def stretched(box: tuple[float, ...], size: int | tuple[int, int]) -> tuple[float, ...]:
    """Left, top, right, bottom in an input that the picture fills."""
    high, wide = (size, size) if isinstance(size, int) else size
    top, left, bottom, right = box
    return left * wide / WIDE, top * high / HIGH, right * wide / WIDE, bottom * high / HIGH


def letterboxed(box: tuple[float, ...], size: int) -> tuple[float, ...]:
    """The same where the picture keeps its shape, in the middle of a square."""
    scale = min(size / HIGH, size / WIDE)
    across, down = (size - scale * WIDE) / 2, (size - scale * HIGH) / 2
    top, left, bottom, right = box
    return left * scale + across, top * scale + down, right * scale + across, bottom * scale + down


def cornered(box: tuple[float, ...], size: int) -> tuple[float, ...]:
    """The same, in the upper left corner."""
    scale = min(size / HIGH, size / WIDE)
    top, left, bottom, right = box
    return left * scale, top * scale, right * scale, bottom * scale


def centred(corners: tuple[float, ...], unit: float = 1.0) -> tuple[float, ...]:
    left, top, right, bottom = (value / unit for value in corners)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def row(at: tuple[int, ...], values: Any) -> dict[tuple[int, ...], float]:
    """Numbers side by side along the last dimension."""
    return {(*at, number): float(value) for number, value in enumerate(values)}


def column(at: int, values: Any) -> dict[tuple[int, ...], float]:
    """Numbers below each other in [1, values, candidates]."""
    return {(0, number, at): float(value) for number, value in enumerate(values)}


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def one_hot(number: int, score: float, count: int = 80) -> list[float]:
    return [score if each == number else 0.0 for each in range(count)]


def cell(corners: tuple[float, ...], stride: int, size: int, strides: tuple[int, ...]) -> tuple[int, int, int]:
    """Column, row and number of the cell that a box's middle lies in; grids follow each other, row by row."""
    x, y, _, _ = centred(corners)
    before = sum(math.ceil(size / each) ** 2 for each in strides[: strides.index(stride)])
    return int(x // stride), int(y // stride), before + int(y // stride) * math.ceil(size / stride) + int(x // stride)


def float_picture(*size: int) -> dict[str, tuple[str, list[int]]]:
    return {"images": ("float32", [1, 3, *(size if len(size) == 2 else size * 2)])}
