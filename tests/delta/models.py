"""Small model files of every format and number type, and ways in which they change."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper
from tests.formats.conftest import make_tflite

from .conftest import safetensors

Tensors = dict[str, np.ndarray]
FORMATS = ("safetensors", "onnx", "tflite")


def weights(seed: int, rows: int = 12, cols: int = 18, dtype: str = "float32") -> Tensors:
    """Two layers and a bias, with whole numbers for the integer types."""
    rng = np.random.default_rng(seed)
    size = 30 if np.dtype(dtype).kind in "iu" else 0.1
    shapes = {"stem.weight": (rows, cols), "body.weight": (8, rows, 3, 3), "head.bias": (rows,)}
    return {
        name: (rng.normal(size=shape) * size + (dtype == "uint8") * 128).astype(dtype) for name, shape in shapes.items()
    }


def moved(tensors: Tensors, seed: int) -> Tensors:
    """Every value a little different, a few not at all."""
    rng = np.random.default_rng(seed)
    changed = {}
    for name, array in tensors.items():
        whole = array.dtype.kind in "iu"
        step = rng.integers(-2, 3, array.shape) if whole else rng.normal(size=array.shape) * 0.002
        changed[name] = (array + step * (rng.random(array.shape) < 0.8)).astype(array.dtype)
    return changed


def onnx_file(tensors: Tensors) -> bytes:
    """An ONNX model that holds the arrays as initializers."""
    nodes = [helper.make_node("Identity", [name], [f"{name}.out"]) for name in tensors]
    held = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], held), ir_version=8).SerializeToString()


def quantised(tensors: Tensors) -> bytes:
    """An ONNX model of the same weights in int8, a scale for each row: what a device may get that holds the reals."""
    held, nodes = [], []
    for name, array in tensors.items():
        rows = array.reshape(len(array), -1)
        scale = np.maximum(np.abs(rows).max(axis=1) / np.float32(127), np.float32(1e-9)).astype(np.float32)
        whole = np.clip(np.rint(rows / scale[:, None]), -128, 127).astype(np.int8).reshape(array.shape)
        zero = np.zeros(len(array), np.int8)
        parts = {f"{name}_q": whole, f"{name}_scale": scale, f"{name}_zero": zero}
        held += [numpy_helper.from_array(part, label) for label, part in parts.items()]
        nodes.append(helper.make_node("DequantizeLinear", list(parts), [f"{name}.out"], axis=0))
    return helper.make_model(helper.make_graph(nodes, "g", [], [], held), ir_version=8).SerializeToString()


def tflite_file(tensors: Tensors) -> bytes:
    """A LiteRT model that holds the arrays as constants."""
    kinds = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9, "float64": 10}
    return make_tflite(
        buffers=[array.tobytes() for array in tensors.values()],
        tensors=[(name, kinds[str(a.dtype)], a.shape, k + 1, None) for k, (name, a) in enumerate(tensors.items())],
        outputs=[0],
    )


def file_of(tensors: Tensors, kind: str) -> bytes:
    """A file of one of :data:`FORMATS`."""
    return {"safetensors": safetensors, "onnx": onnx_file, "tflite": tflite_file}[kind](tensors)
