from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from farshore.formats import onnx as reader
from farshore.formats.bounds import Malformed


def parse(model: onnx.ModelProto | bytes) -> reader.Model:
    return reader.parse(memoryview(model if isinstance(model, bytes) else model.SerializeToString()))


def test_a_graph_as_it_was_written(onnx_model):
    model = parse(onnx_model)
    graph = onnx_model.graph
    assert [node.op for node in model.graph.nodes] == [node.op_type for node in graph.node]
    assert [node.inputs for node in model.graph.nodes] == [list(node.input) for node in graph.node]
    assert [tensor.dims for tensor in model.graph.initializers] == [tuple(tensor.dims) for tensor in graph.initializer]
    assert [(value.name, value.shape) for value in model.graph.inputs] == [("x", ("batch", 3, 8, 8))]
    assert model.graph.nodes[1].attributes["axis"].integer == 0
    assert [inner.name for inner in model.graphs()] == ["tiny", "else", "then"]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [1.5, -2.0]), ("float64", [0.1, 1e300]), ("float16", [0.5, 65504.0]), ("int8", [-128, 127]),
        ("uint8", [0, 255]), ("int32", [-(1 << 31), 7]), ("int64", [-(1 << 63), 5]), ("uint64", [1 << 63, 0]), ("bool", [1, 0]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_of_small_tensors(dtype, values, raw):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    tensor = (
        numpy_helper.from_array(np.array(values, dtype), "t")
        if raw
        else helper.make_tensor("t", kind, [2], np.array(values, dtype))
    )
    model = parse(helper.make_model(helper.make_graph([], "g", [], [], [tensor])))
    (found,) = model.graph.initializers
    numbers = reader.numbers(model, found, 10)
    if dtype == "float16" and not raw:
        assert numbers is None, "halves stored as integers of their bits"
    elif dtype == "uint64" and not raw:
        assert [number % (1 << 64) for number in numbers] == values
    else:
        assert list(numbers) == values
    assert reader.numbers(model, found, 1) is None


def test_a_message_in_two_pieces_is_one():
    first = onnx.ModelProto(
        ir_version=8, graph=helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "a", [], [])
    )
    second = onnx.ModelProto(graph=helper.make_graph([helper.make_node("Tanh", ["y"], ["z"])], "b", [], []))
    model = parse(first.SerializeToString() + second.SerializeToString())
    assert [node.op for node in model.graph.nodes] == ["Relu", "Tanh"]
    assert model.graph.name == "b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x08",  # no graph
        b"\x3a\x00",  # no version
        b"\x08\x00\x3a\x00",
        TensorProto(data_type=1, dims=[1], name="alone").SerializeToString(),
    ],
)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(Malformed):
        parse(data)


def test_negative_dimensions_are_refused():
    tensor = TensorProto(data_type=1, dims=[-1, 2])
    with pytest.raises(Malformed, match="impossible"):
        parse(helper.make_model(helper.make_graph([], "g", [], [], [tensor])))


def test_shapes_of_unknown_rank_and_size():
    value = helper.make_tensor_value_info
    outputs = [value("unranked", 1, None), value("open", 1, [None, "n", 3])]
    model = parse(helper.make_model(helper.make_graph([], "g", [], outputs)))
    assert [out.shape for out in model.graph.outputs] == [None, (None, "n", 3)]
