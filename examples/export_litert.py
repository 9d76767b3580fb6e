"""Write the detector as LiteRT (a `.tflite` file) with the inputs and outputs of the SSD MobileNet starter model.

    picture                        uint8   [1, SIDE, SIDE, 3]   the whole picture, stretched; RGB
    TFLite_Detection_PostProcess   float32 [1, found, 4]        top, left, bottom, right as shares of the picture
    …:1                            float32 [1, found]           class numbers, from 0, no background
    …:2                            float32 [1, found]           scores
    …:3                            float32 [1]                  how many of them count

The file is put together from the flatbuffer schema alone; no converter and no TensorFlow is needed. Pictures come in as
bytes, so nobody has to know how to normalise them; everything after that is float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from network import CENTRE_SCALE, SIDE, SIZE_SCALE, STRIDES, Node, Weights, anchors, plan
from numpy.typing import NDArray

MOST_FOUND = 20
SCORE_FLOOR = 0.3  # less sure is not told at all
SAME_THING = 0.5  # two boxes of one class that overlap this much are one thing

Array = NDArray[np.float32] | NDArray[np.int32]
_TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32, "uint8": schema.TensorType.UINT8}


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer at a multiple of 16 bytes, as the schema's `force_align: 16` asks; the generated packer forgets it."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 (the generated name)
        vector = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), 16)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = bytes(self.data)
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


class _Model:
    """Collects tensors, buffers and operators of the one subgraph."""

    def __init__(self) -> None:
        self.buffers = [_AlignedBuffer()]  # buffer 0 is empty by convention: "no constant"
        self.tensors: list[schema.TensorT] = []
        self.index: dict[str, int] = {}
        self.codes: list[schema.OperatorCodeT] = []
        self.operators: list[schema.OperatorT] = []

    def tensor(self, name: str, shape: Sequence[int], kind: str = "float32", data: bytes | None = None) -> str:
        """Declare a tensor once; with `data` it is a constant."""
        if name in self.index:
            return name
        made = schema.TensorT()
        made.name, made.shape, made.type = name, list(shape), _TYPES[kind]
        if data is not None:
            made.buffer = len(self.buffers)
            self.buffers.append(_AlignedBuffer())
            self.buffers[-1].data = np.frombuffer(data, np.uint8)
        self.index[name] = len(self.tensors)
        self.tensors.append(made)
        return name

    def constant(self, name: str, value: Array) -> str:
        return self.tensor(name, value.shape, str(value.dtype), np.ascontiguousarray(value).tobytes())

    def operator(
        self, builtin: str, inputs: Sequence[str], outputs: Sequence[str], options: object = None, version: int = 1
    ) -> schema.OperatorT:
        """Append an operator. `options` is the generated options object of the builtin, if it has one."""
        made = schema.OperatorT()
        made.opcodeIndex = self._code(getattr(schema.BuiltinOperator, builtin), version)
        made.inputs, made.outputs = [self.index[name] for name in inputs], [self.index[name] for name in outputs]
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(made)
        return made

    def _code(self, builtin: int, version: int) -> int:
        for index, code in enumerate(self.codes):
            if (code.builtinCode, code.version) == (builtin, version):
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        if builtin == schema.BuiltinOperator.CUSTOM:
            code.customCode = "TFLite_Detection_PostProcess"
        self.codes.append(code)
        return len(self.codes) - 1

    def pack(self, inputs: Sequence[str], outputs: Sequence[str], description: str) -> bytes:
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = [self.index[name] for name in inputs], [self.index[name] for name in outputs]
        model = schema.ModelT()
        model.version, model.description = 3, description
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1 << 19)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def to_litert(weights: Mapping[str, Weights], classes: int, description: str) -> bytes:
    """Serialise the plan with these weights.

    Args:
        weights: by `Node.weights`, as `Detector.folded` gives them.
        classes: how many.
        description: one line, kept in the model.

    """
    model = _Model()
    model.tensor("picture", (1, SIDE, SIDE, 3), "uint8")
    scale = schema.QuantizationParametersT()
    scale.scale, scale.zeroPoint = np.array([1 / 255], np.float32), np.array([0], np.int64)
    model.tensors[0].quantization = scale
    model.tensor("input", (1, SIDE, SIDE, 3))
    model.operator("DEQUANTIZE", ["picture"], ["input"], schema.DequantizeOptionsT(), version=2)
    for node in plan(classes):
        _step(model, node, weights)
    scores = _levels(model, "score", classes)
    model.operator("LOGISTIC", [scores], [model.tensor("score/sigmoid", (1, len(anchors()), classes))])
    boxes = _levels(model, "box", 4)
    outputs = _post_process(model, boxes, "score/sigmoid", classes)
    return model.pack(["picture"], outputs, description)


def _step(model: _Model, node: Node, weights: Mapping[str, Weights]) -> None:
    model.tensor(node.name, (1, node.side, node.side, node.channels))
    relu = schema.ActivationFunctionType.RELU if node.relu else schema.ActivationFunctionType.NONE
    if node.op == "add":
        model.operator("ADD", node.inputs, [node.name], schema.AddOptionsT())
        return
    if node.op == "upsample":
        size = model.constant(f"side {node.side}", np.array([node.side, node.side], np.int32))
        resize = schema.ResizeBilinearOptionsT()
        resize.halfPixelCenters = True
        model.operator("RESIZE_BILINEAR", [*node.inputs, size], [node.name], resize, version=3)
        return
    depthwise = node.op == "depthwise"
    kernel = weights[node.weights].kernel.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
    held = [
        model.constant(f"{node.weights}/kernel", kernel),
        model.constant(f"{node.weights}/bias", weights[node.weights].bias),
    ]
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    if depthwise:
        options.depthMultiplier = 1
    options.padding, options.fusedActivationFunction = schema.Padding.SAME, relu
    options.strideW = options.strideH = node.stride
    model.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [*node.inputs, *held], [node.name], options)


def _levels(model: _Model, kind: str, width: int) -> str:
    """One row of `width` numbers for each cell of each level: [1, boxes, width]."""
    rows = []
    for stride in STRIDES:
        cells = (SIDE // stride) ** 2
        shape = np.array([1, cells, width], np.int32)
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        rows.append(model.tensor(f"{kind}/{stride}/rows", shape.tolist()))
        model.operator(
            "RESHAPE", [f"{kind}/{stride}", model.constant(f"{kind}/{stride}/shape", shape)], rows[-1:], options
        )
    joined = schema.ConcatenationOptionsT()
    joined.axis = 1
    model.operator("CONCATENATION", rows, [model.tensor(f"{kind}/all", (1, len(anchors()), width))], joined)
    return f"{kind}/all"


def _post_process(model: _Model, boxes: str, scores: str, classes: int) -> list[str]:
    """Decoding and suppression: tensorflow/lite/kernels/detection_postprocess.cc."""
    name = "TFLite_Detection_PostProcess"
    shapes = ((1, MOST_FOUND, 4), (1, MOST_FOUND), (1, MOST_FOUND), (1,))
    outputs = [model.tensor(f"{name}:{i}" if i else name, shape) for i, shape in enumerate(shapes)]
    grid = model.constant("anchors", anchors() / np.float32(SIDE))
    made = model.operator("CUSTOM", [boxes, scores, grid], outputs)
    options = {
        "max_detections": MOST_FOUND, "max_classes_per_detection": 1, "detections_per_class": MOST_FOUND,
        "use_regular_nms": True, "nms_score_threshold": SCORE_FLOOR, "nms_iou_threshold": SAME_THING,
        "num_classes": classes, "y_scale": CENTRE_SCALE, "x_scale": CENTRE_SCALE, "h_scale": SIZE_SCALE, "w_scale": SIZE_SCALE,
    }  # fmt: skip
    made.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(options)), np.uint8)
    made.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    return outputs
