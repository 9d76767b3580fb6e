"""Inputs that are initializers are cut out, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from farshore.formats.onnx_inputs import without_initializers


def old_model(ir_version: int = 3) -> onnx.ModelProto:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "old",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("w", [3, 4]), ("x", [1, 3]), ("b", [4]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(4, np.float32), "b")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=ir_version)


def view(model: onnx.ModelProto | bytes) -> memoryview:
    return memoryview(model if isinstance(model, bytes) else model.SerializeToString())


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_inputs_that_are_weights_go(ir_version: int) -> None:
    model = old_model(ir_version)
    changed = without_initializers(view(model))
    assert changed is not None
    parsed = onnx.load_from_string(changed)
    onnx.checker.check_model(parsed)
    assert [value.name for value in parsed.graph.input] == ["x"]
    assert parsed.ir_version == max(4, ir_version)
    assert parsed.graph.initializer == model.graph.initializer
    assert parsed.graph.node == model.graph.node
    x = np.array([[1, 2, 3]], np.float32)
    after = onnxruntime.InferenceSession(changed, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert after.tolist() == (x @ np.arange(12).reshape(3, 4) + 1).tolist()


def test_nothing_to_cut_means_load_the_file_itself() -> None:
    model = old_model()
    del model.graph.input[2], model.graph.input[0]
    assert without_initializers(view(model)) is None


def test_weights_in_other_files_are_left_alone() -> None:
    model = old_model()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    model.graph.initializer[0].ClearField("raw_data")
    assert without_initializers(view(model)) is None


def test_the_face_detector_of_the_shared_data(shared) -> None:
    changed = without_initializers(view(shared("models/version-RFB-320.onnx")))
    assert changed is not None
    session = onnxruntime.InferenceSession(changed, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["input"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_broken_files_are_left_to_the_runtime(data: st.DataObject) -> None:
    whole = bytearray(old_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(1, len(whole)))])
    found = without_initializers(view(cut))
    assert found is None or isinstance(found, bytes)
