from __future__ import annotations

import onnx
import pytest
from onnx import helper, numpy_helper

from farshore.formats import diff, inspect, segment


def compare(a: bytes, b: bytes):
    return diff(inspect(a), segment(a), a, inspect(b), segment(b), b)


@pytest.mark.parametrize("name", ["tiny_onnx", "tiny_tflite"])
def test_a_file_does_not_differ_from_itself(name, request):
    data = request.getfixturevalue(name)
    found = compare(data, data)
    assert found.identical
    assert set(found.counts) == {"equal"}
    assert found.bytes["equal"] + found.bytes["rest"] == len(data)


@pytest.fixture
def edited(onnx_model):
    model = onnx.ModelProto()
    model.CopyFrom(onnx_model)
    return model


def test_tensors_by_what_became_of_them(tiny_onnx, edited):
    tensors = {tensor.name: tensor for tensor in edited.graph.initializer}
    w1 = numpy_helper.to_array(tensors["w1"]).copy()
    w1[0, 0, 0, 0] += 1
    tensors["w1"].CopyFrom(numpy_helper.from_array(w1, "w1"))
    tensors["half"].name = "other"
    edited.graph.initializer.remove(tensors["doubles"])
    edited.graph.initializer.append(numpy_helper.from_array(w1[:2], "new"))
    found = compare(tiny_onnx, edited.SerializeToString())
    assert {(change.kind, change.name, change.old_name, change.bytes) for change in found.tensors} == {
        ("changed", "w1", "", 432), ("renamed", "other", "half", 12), ("added", "new", "", 216), ("removed", "doubles", "", 16),
    }  # fmt: skip
    assert (found.counts["changed"], found.counts["equal"]) == (1, 9)
    assert not found.rest_equal
    assert not found.identical


def test_what_the_files_say(tiny_onnx, edited):
    edited.producer_name = "others"
    edited.opset_import[0].version = 18
    helper.set_model_props(edited, {"task": "classification", "site": "oslo"})
    edited.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    edited.graph.node[3].op_type = "GlobalMaxPool"
    found = compare(tiny_onnx, edited.SerializeToString())
    said = {change.what: (change.before, change.after) for change in found.changes}
    assert said == {
        "producer": ("tests 1", "others 1"),
        "opset ai.onnx": ("17", "18"),
        "output y": ("float32 ['batch', 2]", "float32 ['batch', 3]"),
        "metadata labels": ("a,b", ""),
        "metadata site": ("", "oslo"),
        "operator GlobalAveragePool": ("× 1", ""),
        "operator GlobalMaxPool": ("", "× 1"),
    }
    assert found.tensors == ()


def test_real_pairs(shared):
    head = compare(*(shared(f"pairs/ft_det_head_f32/{side}/model.onnx") for side in "ab"))
    assert (head.counts, head.rest_equal, head.changes) == ({"changed": 4, "equal": 104}, True, ())
    precision = compare(*(shared(f"pairs/ft_det_x_f32_i8q/{side}/model.onnx") for side in "ab"))
    assert ("precision", "fp32", "int8") in {(change.what, change.before, change.after) for change in precision.changes}
