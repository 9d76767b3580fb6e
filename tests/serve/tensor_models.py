"""Models that take tensors, and what to ask them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from farshore.core.manifest import File, Pipeline, Tensor, Variant

from .conftest import Device

TYPES = {
    "BOOL": ("bool", TensorProto.BOOL), "UINT8": ("uint8", TensorProto.UINT8), "UINT16": ("uint16", TensorProto.UINT16),
    "UINT32": ("uint32", TensorProto.UINT32), "UINT64": ("uint64", TensorProto.UINT64), "INT8": ("int8", TensorProto.INT8),
    "INT16": ("int16", TensorProto.INT16), "INT32": ("int32", TensorProto.INT32), "INT64": ("int64", TensorProto.INT64),
    "FP16": ("float16", TensorProto.FLOAT16), "FP32": ("float32", TensorProto.FLOAT), "FP64": ("float64", TensorProto.DOUBLE),
    "BYTES": ("string", TensorProto.STRING),
}  # fmt: skip


def echo_model(types: tuple[str, ...]) -> bytes:
    """Every input comes back as ``out_…``; shapes [n, 2]."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"in_{word}"], [f"out_{word}"]) for word in types], "echo",
        [helper.make_tensor_value_info(f"in_{word}", TYPES[word][1], ["n", 2]) for word in types],
        [helper.make_tensor_value_info(f"out_{word}", TYPES[word][1], ["n", 2]) for word in types],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def install_echo(
    device: Device, types: tuple[str, ...] = tuple(TYPES), version: int = 1, *, activate: bool = True
) -> str:
    data = echo_model(types)
    variant = Variant(
        "onnx", "onnxruntime", "fp32", (File("model.onnx", device.blobs.add(data), len(data)),),
        tuple(Tensor(f"in_{word}", TYPES[word][0], ("n", 2)) for word in types),
        tuple(Tensor(f"out_{word}", TYPES[word][0], ("n", 2)) for word in types),
        Pipeline("tensors", "tensors"),
    )  # fmt: skip
    digest = device.install("echo", version, variant)
    if activate:
        device.slots.activate("echo", digest)
    return digest


def samples() -> dict[str, np.ndarray]:
    """For each datatype an array with its extremes."""
    found = {}
    for word, (name, _) in TYPES.items():
        if word == "BYTES":
            found[word] = np.array([["", "é"], ['a,"b', "x" * 300]], object)
        elif word == "BOOL":
            found[word] = np.array([[True, False], [False, False]])
        elif word.startswith("FP"):
            limits = np.finfo(name)
            found[word] = np.array([[limits.min, limits.max], [limits.tiny, -0.1]], name)
        else:
            whole = np.iinfo(name)
            found[word] = np.array([[whole.min, whole.max], [0, 1]], name)
    return found
