"""Write the detector as ONNX with the inputs and outputs of Tiny YOLOv3 (ONNX model zoo).

    input_1             float32 [1, 3, SIDE, SIDE]   the letterboxed picture, RGB in 0..1
    image_shape         float32 [1, 2]               height and width of the picture before letterboxing
    yolonms_layer_1     float32 [1, boxes, 4]        top, left, bottom, right in pixels of that picture
    yolonms_layer_1:1   float32 [1, classes, boxes]  scores
    yolonms_layer_1:2   int32   [1, found, 3]        (batch, class, box) of each detection, after non-maximum suppression

The decoding of boxes, the way back through the letterbox and the suppression are part of the graph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from network import CENTRE_SCALE, SIDE, SIZE_SCALE, STRIDES, Node, Weights, anchors, plan, same_padding
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8  # what runtimes of 2021 and later read
BOXES_PER_CLASS = 20
SCORE_FLOOR = 0.3  # less sure is not told at all
SAME_THING = 0.5  # two boxes of one class that overlap this much are one thing


class _Graph:
    """Collects nodes and constants under readable names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}/{op}", **attributes))
        return name

    def constant(self, name: str, value: object, dtype: type = np.float32) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def to_onnx(weights: Mapping[str, Weights], labels: Sequence[str], description: str) -> bytes:
    """Serialise the plan with these weights.

    Args:
        weights: by `Node.weights`, as `Detector.folded` gives them.
        labels: class names in the order of the score channels; kept in the model's metadata as a JSON list.
        description: one line, kept in the model.

    """
    graph = _Graph()
    for node in plan(len(labels)):
        _step(graph, node, weights)
    scores = _scores(graph, len(labels))
    boxes = _boxes(graph)
    _suppress(graph, boxes, scores)
    _to_picture(graph, boxes)
    count = len(anchors())
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "detector",
            [_value("input_1", TensorProto.FLOAT, 1, 3, SIDE, SIDE), _value("image_shape", TensorProto.FLOAT, 1, 2)],
            [
                _value("yolonms_layer_1", TensorProto.FLOAT, 1, count, 4),
                _value("yolonms_layer_1:1", TensorProto.FLOAT, 1, len(labels), count),
                _value("yolonms_layer_1:2", TensorProto.INT32, 1, "found", 3),
            ],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="examples/train_detector.py",
        doc_string=description,
    )
    helper.set_model_props(model, {"task": "detection", "labels": json.dumps(list(labels))})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _step(graph: _Graph, node: Node, weights: Mapping[str, Weights]) -> None:
    inputs = ["input_1" if source == "input" else source for source in node.inputs]
    if node.op == "add":
        graph.add("Add", inputs, node.name)
    elif node.op == "upsample":
        scales = graph.constant("twice", [1, 1, 2, 2])
        half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        graph.add("Resize", [inputs[0], "", scales], node.name, **half_pixel)
    else:
        held = weights[node.weights]
        constants = [
            graph.constant(f"{node.weights}/kernel", held.kernel),
            graph.constant(f"{node.weights}/bias", held.bias),
        ]
        before, after = same_padding(node.kernel, node.stride)
        name = graph.add(
            "Conv", [inputs[0], *constants], f"{node.name}/linear" if node.relu else node.name,
            kernel_shape=[node.kernel] * 2, strides=[node.stride] * 2, pads=[before, before, after, after],
            group=node.channels if node.op == "depthwise" else 1,
        )  # fmt: skip
        if node.relu:
            graph.add("Relu", [name], node.name)


def _levels(graph: _Graph, kind: str, width: int) -> str:
    """One row of `width` numbers for each cell of each level: [1, boxes, width]."""
    rows = []
    for stride in STRIDES:
        last = graph.add("Transpose", [f"{kind}/{stride}"], f"{kind}/{stride}/last", perm=[0, 2, 3, 1])
        shape = graph.constant(f"{kind}/rows", [1, -1, width], np.int64)
        rows.append(graph.add("Reshape", [last, shape], f"{kind}/{stride}/rows"))
    return graph.add("Concat", rows, f"{kind}/all", axis=1)


def _scores(graph: _Graph, classes: int) -> str:
    rows = graph.add("Sigmoid", [_levels(graph, "score", classes)], "score/sigmoid")
    return graph.add("Transpose", [rows], "yolonms_layer_1:1", perm=[0, 2, 1])


def _boxes(graph: _Graph) -> str:
    """Raw boxes → input pixels: [1, boxes, 4]."""
    grid = anchors()
    centres, sizes = graph.constant("anchor/centres", grid[:, :2]), graph.constant("anchor/sizes", grid[:, 2:])
    split = graph.constant("box/split", [2, 2], np.int64)
    graph.nodes.append(
        helper.make_node("Split", [_levels(graph, "box", 4), split], ["box/shift", "box/growth"], axis=2)
    )
    step = graph.add("Mul", ["box/shift", graph.constant("1/centre scale", 1 / CENTRE_SCALE)], "box/step")
    centre = graph.add("Add", [graph.add("Mul", [step, sizes], "box/moved"), centres], "box/centre")
    growth = graph.add("Mul", ["box/growth", graph.constant("1/size scale", 1 / SIZE_SCALE)], "box/log")
    size = graph.add("Mul", [graph.add("Exp", [growth], "box/factor"), sizes], "box/size")
    half = graph.add("Mul", [size, graph.constant("half", 0.5)], "box/half")
    first, last = graph.add("Sub", [centre, half], "box/first"), graph.add("Add", [centre, half], "box/last")
    return graph.add("Concat", [first, last], "box/pixels", axis=2)


def _to_picture(graph: _Graph, boxes: str) -> None:
    """Input pixels → back through the letterbox → pixels of the picture, kept inside it."""
    side = graph.constant("side", SIDE)
    longer = graph.add("ReduceMax", ["image_shape"], "picture/longer", axes=[1], keepdims=1)
    scale = graph.add("Div", [side, longer], "picture/scale")
    free = graph.add("Sub", [side, graph.add("Mul", ["image_shape", scale], "picture/fitted")], "picture/free")
    pad = graph.add("Mul", [free, "half"], "picture/pad")
    pads = graph.add("Concat", [pad, pad], "picture/pads", axis=1)
    edges = graph.add("Div", [graph.add("Sub", [boxes, pads], "box/unpadded"), scale], "box/unscaled")
    ends = graph.add("Concat", ["image_shape", "image_shape"], "picture/ends", axis=1)
    kept = graph.add("Max", [edges, graph.constant("zero", 0)], "box/kept")
    graph.add("Min", [kept, ends], "yolonms_layer_1")


def _suppress(graph: _Graph, boxes: str, scores: str) -> None:
    limits = [
        graph.constant("boxes per class", [BOXES_PER_CLASS], np.int64),
        graph.constant("same thing", [SAME_THING]),
        graph.constant("score floor", [SCORE_FLOOR]),
    ]
    chosen = graph.add("NonMaxSuppression", [boxes, scores, *limits], "chosen")
    small = graph.add("Cast", [chosen], "chosen/int32", to=TensorProto.INT32)
    graph.add("Unsqueeze", [small, graph.constant("first axis", [0], np.int64)], "yolonms_layer_1:2")
