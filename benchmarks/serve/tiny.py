"""A model with the layers, the 35 MB and the three outputs of Tiny YOLOv3, whose weights are noise and whose answer is planted.

The published file is not at hand everywhere; what it costs to load and to run is told by its layers alone (Redmon & Farhadi 2018,
yolov3-tiny.cfg). One box comes out, in pixels of the picture through ``image_shape``, as in the export with suppression in the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BOX = (0.2, 0.25, 0.7, 0.6)
"""Top, left, bottom, right of what it always finds, as fractions of the picture."""

CANDIDATES = 2535


def tiny() -> bytes:
    """The ONNX file."""
    chance = np.random.default_rng(1)
    nodes, weights = [], []

    def conv(source: str, inner: int, outer: int, side: int) -> str:
        name = f"c{len(nodes)}"
        kernel = chance.normal(0, (2 / (inner * side * side)) ** 0.5, (outer, inner, side, side)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{name}_w"))
        weights.append(numpy_helper.from_array(np.zeros(outer, np.float32), f"{name}_b"))
        pad = side // 2
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}_w", f"{name}_b"], [f"{name}_r"], pads=[pad] * 4, kernel_shape=[side] * 2
            )
        )
        nodes.append(helper.make_node("LeakyRelu", [f"{name}_r"], [name], alpha=0.1))
        return name

    def pool(source: str, stride: int = 2) -> str:
        name = f"p{len(nodes)}"
        # The last one keeps 13 × 13: two wide, a step of one, padded at the far edges.
        pads = [0, 0, 0, 0] if stride == 2 else [0, 0, 1, 1]
        nodes.append(
            helper.make_node("MaxPool", [source], [name], kernel_shape=[2, 2], strides=[stride] * 2, pads=pads)
        )
        return name

    here, inner, middle = "input_1", 3, ""
    for outer in (16, 32, 64, 128, 256, 512):
        here, inner = conv(here, inner, outer, 3), outer
        middle = here if outer == 256 else middle
        here = pool(here, 1 if outer == 512 else 2)
    here = conv(conv(here, 512, 1024, 3), 1024, 256, 1)
    large = conv(conv(here, 256, 512, 3), 512, 255, 1)
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    nodes.append(helper.make_node("Resize", [conv(here, 256, 128, 1), "", "twice"], ["up"], mode="nearest"))
    nodes.append(helper.make_node("Concat", ["up", middle], ["both"], axis=1))
    small = conv(conv("both", 384, 256, 3), 256, 255, 1)
    return _finished(nodes, weights, [large, small])


def _finished(nodes: list, weights: list, heads: list[str]) -> bytes:
    """The heads' mean, times zero, hangs on what is planted: nothing of the network can be left out."""
    boxes = np.zeros((1, CANDIDATES, 4), np.float32)
    scores = np.zeros((1, 80, CANDIDATES), np.float32)
    boxes[0, 0], scores[0, 15, 0] = BOX, 0.9
    constants = {
        "fractions": boxes, "planted": scores, "chosen": np.array([[[0, 15, 0]]], np.int32), "zero": np.array(0, np.float32),
    }  # fmt: skip
    weights += [numpy_helper.from_array(value, name) for name, value in constants.items()]
    nodes += [helper.make_node("ReduceMean", [head], [f"mean{n}"], keepdims=0) for n, head in enumerate(heads)]
    nodes += [
        helper.make_node("Add", ["mean0", "mean1"], ["mean"]),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Concat", ["image_shape", "image_shape"], ["sides"], axis=1),
        helper.make_node("Mul", ["fractions", "sides"], ["yolonms_layer_1"]),
        helper.make_node("Add", ["planted", "nothing"], ["yolonms_layer_1:1"]),
        helper.make_node("Identity", ["chosen"], ["yolonms_layer_1:2"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "tiny",
        [value("input_1", TensorProto.FLOAT, [1, 3, 416, 416]), value("image_shape", TensorProto.FLOAT, [1, 2])],
        [value("yolonms_layer_1", TensorProto.FLOAT, list(boxes.shape)), value("yolonms_layer_1:1", TensorProto.FLOAT, list(scores.shape)),
         value("yolonms_layer_1:2", TensorProto.INT32, [1, 1, 3])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
