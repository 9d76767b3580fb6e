"""Roles, axes and quantisation from the graph; bytes are the tensors' own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from farshore.formats import Role, segment, segment_external


def by_name(data: bytes) -> dict:
    return {part.name: part for part in segment(data).segments if part.name}


@pytest.fixture(scope="module")
def parts(tiny_onnx):
    return by_name(tiny_onnx)


def test_each_tensor_lies_where_the_map_says(tiny_onnx, onnx_model, parts):
    for tensor in onnx_model.graph.initializer:
        if tensor.name == "varints":
            assert "varints" not in parts, "varints are not one run of elements"
            continue
        part = parts[tensor.name]
        array = numpy_helper.to_array(tensor)
        assert tiny_onnx[part.offset : part.offset + part.length] == array.tobytes()
        assert part.shape == array.shape
        assert part.dtype == str(array.dtype)


@pytest.mark.parametrize(
    ("name", "role", "axis"),
    [
        ("w1", Role.WEIGHT, 0),
        ("b1", Role.BIAS, None),
        ("w2", Role.WEIGHT, 0),
        ("w2_scale", Role.SCALE, None),
        ("w2_zero", Role.ZERO_POINT, None),
        ("gemm_w", Role.WEIGHT, 1),
        ("gemm_b", Role.BIAS, None),
        ("inner_w", Role.WEIGHT, 1),
        ("mat", Role.WEIGHT, 1),  # used only inside a branch, but declared outside
        ("typed", Role.TENSOR, None),
    ],
)
def test_roles_and_axes_come_from_the_graph(parts, name, role, axis):
    assert (parts[name].role, parts[name].channel_axis) == (role, axis)


def test_quantisation_comes_from_the_nodes(parts):
    quant = parts["w2"].quant
    assert quant.axis == 0
    np.testing.assert_allclose(quant.scales, np.linspace(0.01, 0.05, 5), rtol=1e-6)
    assert quant.zero_points == (-2, -1, 0, 1, 2)
    assert parts["w1"].quant is None


def graph_of(nodes, initializers, ir=8) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [], initializers)
    return helper.make_model(graph, ir_version=ir).SerializeToString()


def test_quantised_operators_and_missing_zero_points():
    weight = numpy_helper.from_array(np.ones((2, 3), np.int8), "w")
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    data = graph_of([helper.make_node("DequantizeLinear", ["w", "s"], ["f"]), helper.make_node("MatMul", ["x", "f"], ["y"])],
                    [weight, scale])  # fmt: skip
    part = by_name(data)["w"]
    assert (part.quant.scales, part.quant.zero_points, part.quant.axis) == ((0.5,), (0,), None)
    assert (part.role, part.channel_axis) == (Role.WEIGHT, 1)

    conv = numpy_helper.from_array(np.ones((2, 1, 1, 1), np.uint8), "w")
    scales = numpy_helper.from_array(np.array([0.5, 0.25], np.float32), "s")
    zeros = helper.make_tensor("z", TensorProto.UINT8, [2], [128, 127])  # int32_data: varints
    data = graph_of([helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "s", "z", "ys", "yz"], ["y"])],
                    [conv, scales, zeros])  # fmt: skip
    part = by_name(data)["w"]
    assert (part.quant.scales, part.quant.zero_points, part.quant.axis) == ((0.5, 0.25), (128, 127), 0)


def test_blocked_scales_are_not_mistaken_for_channels():
    weight = numpy_helper.from_array(np.ones((4, 2), np.int8), "w")
    scale = numpy_helper.from_array(np.ones((2, 2), np.float32), "s")
    data = graph_of([helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=2)], [weight, scale])
    assert by_name(data)["w"].quant is None


@pytest.mark.parametrize(("transposed", "axis"), [(0, 1), (1, 0)])
def test_gemm_axis_follows_its_transposition(transposed, axis):
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    data = graph_of([helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)], [weight])
    assert by_name(data)["w"].channel_axis == axis


def test_constants_sparse_values_and_functions_are_found():
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones((2, 2), np.float32)))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1, 2], np.float32), "sp"),
        numpy_helper.from_array(np.array([0, 3], np.int64), "sp_i"), [4],
    )  # fmt: skip
    body = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.arange(3, dtype=np.float32))),
        helper.make_node("Add", ["a", "k"], ["b"]),
    ]
    function = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    graph = helper.make_graph(
        [constant, helper.make_node("MatMul", ["x", "c"], ["y"])], "g", [], [], [], sparse_initializer=[sparse]
    )
    data = helper.make_model(graph, functions=[function]).SerializeToString()
    parts = by_name(data)
    assert (parts["c"].role, parts["c"].shape) == (Role.WEIGHT, (2, 2))
    assert parts["sp"].length == 8
    assert (parts["k"].role, parts["k"].shape) == (Role.BIAS, (3,))


def test_unpacked_floats_and_external_data_stay_in_the_rest():
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[2], name="loose")
    bytes_of = tensor.SerializeToString() + b"\x25\0\0\x80\x3f\x25\0\0\0\x40"  # two float_data fields, unpacked
    assert list(onnx.TensorProto.FromString(bytes_of).float_data) == [1.0, 2.0]
    outside = TensorProto(data_type=TensorProto.FLOAT, dims=[2], name="outside", data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="w.bin")
    graph = helper.make_graph([], "g", [], [], [outside]).SerializeToString()
    graph += b"\x2a" + bytes([len(bytes_of)]) + bytes_of
    data = b"\x08\x08\x3a" + bytes([len(graph)]) + graph
    assert onnx.load_model_from_string(data).graph.initializer[1].name == "loose"
    assert [part.role for part in segment(data).segments] == [Role.REST]


def test_unknown_fields_and_split_messages_are_kept():
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    first = helper.make_model(helper.make_graph([], "g", [], [], [weight]), ir_version=8).SerializeToString()
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    second = onnx.ModelProto(graph=onnx.GraphProto(node=[node])).SerializeToString()
    data = first + b"\xba\x3e\x03new" + second  # field 999, then the graph's second half
    assert by_name(data)["w"].role is Role.WEIGHT


def test_weights_beside_the_model(onnx_model, tmp_path):
    """As onnx itself writes them: the other file's bytes are the tensors', and the graph's words hold for them too."""
    model = onnx.ModelProto()
    model.CopyFrom(onnx_model)
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=16)
    data, outside = (tmp_path / "m.onnx").read_bytes(), (tmp_path / "m.data").read_bytes()
    found = segment_external(data, "m.data", len(outside))
    assert found.format == "onnx"
    assert sum(part.length for part in found.segments) == len(outside)
    parts = {part.name: part for part in found.segments if part.name}
    for tensor in onnx_model.graph.initializer:
        if tensor.name in {"w1", "w2", "gemm_w", "w2_scale", "half"} and tensor.name in parts:
            part = parts[tensor.name]
            assert outside[part.offset : part.offset + part.length] == numpy_helper.to_array(tensor).tobytes()
    assert (parts["w1"].role, parts["w1"].channel_axis) == (Role.WEIGHT, 0)
    assert "w1" not in by_name(data)
    assert [part.role for part in segment_external(data, "other", 100).segments] == [Role.REST]
    assert segment_external(data, "m.data", 50).segments[-1].offset < 50, "a file that is too short is still covered"
    assert segment_external(b"no model", "m.data", 50).format == "opaque"
