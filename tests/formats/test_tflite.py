from __future__ import annotations

import pytest

from farshore.formats import tflite
from farshore.formats.bounds import Malformed


def test_a_model_as_it_was_written(tiny_tflite):
    model = tflite.parse(memoryview(tiny_tflite))
    (graph,) = model.subgraphs
    assert (model.version, model.description, graph.name) == (3, "tiny", "main")
    assert [operator.op for operator in graph.operators] == ["CONV_2D", "DEQUANTIZE", "DEPTHWISE_CONV_2D"]
    assert graph.operators[2].inputs == (3, 5, -1)
    weight = graph.tensors[1]
    assert (weight.name, weight.dtype, weight.shape, weight.buffer, weight.axis) == (
        "conv/w",
        "int8",
        (2, 3, 3, 3),
        1,
        0,
    )
    span = model.buffers[model.metadata["NOTES"]]
    assert tiny_tflite[span.offset : span.end] == b"a document"
    assert model.buffers[0].length == 0


def test_operator_names_are_the_schemas():
    from ai_edge_litert import schema_py_generated as schema

    known = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
    assert {number: known[number] for number in tflite.OPS} == tflite.OPS


@pytest.mark.parametrize(
    "change",
    [
        {"operators": [(1, [0], [0])]},  # no such code
        {"operators": [(0, [9], [0])]},  # no such tensor
        {"operators": [(0, [-2], [0])]},
        {"inputs": [1]},
        {"outputs": [-1]},
    ],
)
def test_indices_are_checked(build_tflite, change):
    parts = {
        "tensors": [("t", 0, (1,), 0, None)],
        "codes": [3],
        "operators": [(0, [0, -1], [0])],
        "inputs": [0],
        "outputs": [0],
    }
    assert tflite.parse(memoryview(build_tflite(**parts)))
    with pytest.raises(Malformed):
        tflite.parse(memoryview(build_tflite(**{**parts, **change})))


def test_large_codes_and_custom_codes(build_tflite):
    data = build_tflite(
        tensors=[("t", 0, (1,), 0, None)], codes=[150, "Own", 209], operators=[(n, [0], [0]) for n in range(3)]
    )
    operators = tflite.parse(memoryview(data)).subgraphs[0].operators
    assert [(operator.op, operator.custom) for operator in operators] == [
        ("GELU", False), ("Own", True), ("BUILTIN_209", False),
    ]  # fmt: skip
