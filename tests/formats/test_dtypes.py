from __future__ import annotations

import pytest
from onnx import TensorProto

from farshore.formats import dtypes


@pytest.mark.parametrize(
    ("shape", "count"),
    [((), 1), ((0, 5), 0), ((2, 3), 6), ((-1, 3), None), ((1 << 31, 1 << 31, 1 << 31), None), ((1,) * 65, None)],
)
def test_elements(shape, count):
    assert dtypes.elements(shape) == count


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", (2, 3), 24), ("int4", (3,), 2), ("bool", (), 1), ("string", (1,), None), ("", (1,), None)],
)
def test_size_of(dtype, shape, size):
    assert dtypes.size_of(dtype, shape) == size


def test_names_are_those_of_the_formats():
    from ai_edge_litert import schema_py_generated as schema

    onnx_names = {"FLOAT": "float32", "DOUBLE": "float64"}
    for name, number in TensorProto.DataType.items():
        if name != "UNDEFINED":
            assert dtypes.ONNX[number] == onnx_names.get(name, name.lower())
    for name, number in vars(schema.TensorType).items():
        if name.isupper() and name not in {"RESOURCE", "VARIANT"}:
            assert dtypes.TFLITE[number].replace("_", "") == name.lower().replace("_", "")


def test_every_type_with_elements_has_a_size():
    named = {*dtypes.ONNX.values(), *dtypes.TFLITE.values(), *dtypes.SAFETENSORS.values()}
    assert named - set(dtypes.BITS) == {"string"}
