from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from farshore.core.errors import Invalid
from farshore.core.manifest import Tensor
from farshore.formats import External, inspect


def test_signature_metadata_and_operators(tiny_onnx):
    info = inspect(tiny_onnx)
    assert (info.format, info.runtime, info.precision) == ("onnx", "onnxruntime", "mixed")
    assert info.inputs == (Tensor("x", "float32", ("batch", 3, 8, 8)),)
    assert info.outputs == (Tensor("y", "float32", ("batch", 2)),)
    assert (info.version, info.opsets, info.producer) == (8, {"": 17}, "tests 1")
    assert info.metadata == {"labels": "a,b", "task": "classification"}
    assert (info.ops["Conv"], info.ops["MatMul"], info.custom) == (2, 2, ())
    assert info.read_by == {"x": ("Conv",)}


def test_initializers_that_are_inputs_are_not_asked_for(onnx_model):
    old = onnx.ModelProto()
    old.CopyFrom(onnx_model)
    for tensor in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    info = inspect(old.SerializeToString())
    assert [tensor.name for tensor in info.inputs] == ["x"]
    assert info.overridable == len(old.graph.initializer)


def test_real_face_detector_has_one_input(shared):
    info = inspect(shared("models/version-RFB-320.onnx"))
    assert [tensor.name for tensor in info.inputs] == ["input"]
    assert info.overridable > 200
    assert {tensor.name: tensor.shape for tensor in info.outputs} == {"scores": (1, 4420, 2), "boxes": (1, 4420, 4)}


def test_signatures_agree_with_the_runtime(real_onnx, load):
    import onnxruntime

    data = load(real_onnx)
    info = inspect(data)
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for told, known in ((info.inputs, session.get_inputs()), (info.outputs, session.get_outputs())):
        assert [tensor.name for tensor in told] == [value.name for value in known]
        for tensor, value in zip(told, known, strict=True):
            if tensor.shape:
                assert [s for s in tensor.shape if isinstance(s, int)] == [s for s in value.shape if isinstance(s, int)]


def test_custom_operators_are_named_and_own_functions_are_not():
    nodes = [helper.make_node("Magic", ["x"], ["m"], domain="acme"), helper.make_node("F", ["m"], ["y"], domain="own")]
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1])], [value("y", 1, [1])])
    info = inspect(helper.make_model(graph, functions=[function]).SerializeToString())
    assert [custom.op for custom in info.custom] == ["acme:Magic"]
    assert info.custom[0].outputs == ("m",)


def external(**entries: str) -> bytes:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[2, 3], name="w", data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()


def test_external_data_is_named_with_the_size_it_needs():
    data = external(location="w.bin", offset="4096", length="24")
    assert inspect(data).external == (External("w.bin", 4120),)
    assert inspect(external(location="w.bin")).external == (External("w.bin", 24),)
    assert inspect(data, external={"w.bin": 4120}).parameters == 6
    with pytest.raises(Invalid, match=r"'w\.bin', which is not beside it"):
        inspect(data, external={})
    with pytest.raises(Invalid, match="cut short"):
        inspect(data, external={"w.bin": 4119})


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/b", "..", "", ".hidden", "a\\b", "a\0b"])
def test_external_data_elsewhere_is_refused(location):
    with pytest.raises(Invalid):
        inspect(external(location=location))


@pytest.mark.parametrize("entries", [{"offset": "x"}, {"offset": "-1"}, {"length": "9" * 30}])
def test_external_data_without_sense_is_refused(entries):
    with pytest.raises(Invalid):
        inspect(external(location="w.bin", **entries))


def test_many_outputs_of_a_long_chain_are_bounded():
    """A graph made to be walked again and again: each output at the end of the same long chain."""
    chain = [helper.make_node("Identity", [f"v{n}"], [f"v{n + 1}"]) for n in range(5000)]
    outputs = [helper.make_tensor_value_info("v5000", 1, [1]) for _ in range(5000)]
    graph = helper.make_graph(chain, "g", [helper.make_tensor_value_info("v0", 1, [1])], outputs)
    with pytest.raises(Invalid, match="more than a parser should follow"):
        inspect(helper.make_model(graph).SerializeToString())


def test_weights_in_branches_count():
    inner = numpy_helper.from_array(__import__("numpy").ones((40, 40), "float16"), "inner")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["o"])],
        "b",
        [],
        [helper.make_tensor_value_info("o", 10, None)],
        [inner],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    info = inspect(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())
    assert (info.precision, info.parameters) == ("fp16", 3200)
