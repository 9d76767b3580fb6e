"""Names of element types, the same for every format, and how many bits one element takes in a file.

Types of less than a byte are packed, first element in the low bits, and the last byte is padded (ONNX ``TensorProto.raw_data``;
TFLite ``INT4``).
"""

from __future__ import annotations

from farshore.formats.bounds import MAX_RANK

BITS: dict[str, int] = {
    "bool": 8,
    "int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4e2m1": 4,
    "float6e2m3": 6, "float6e3m2": 6,
    "int8": 8, "uint8": 8,
    "float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8, "float8e8m0": 8,
    "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16,
    "int32": 32, "uint32": 32, "float32": 32,
    "int64": 64, "uint64": 64, "float64": 64, "complex64": 64,
    "complex128": 128,
}  # fmt: skip
"""Bits of one element. ``string`` and other types without a fixed size are not here."""

ONNX: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2", 27: "float6e2m3", 28: "float6e3m2",
}  # fmt: skip
"""``TensorProto.DataType`` (onnx.proto)."""

TFLITE: dict[int, str] = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
    19: "int2", 20: "uint4", 21: "float8e4m3fn", 22: "float8e5m2",
}  # fmt: skip
"""``TensorType`` (schema.fbs). 13 and 14 (resource, variant) hold no elements."""

SAFETENSORS: dict[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
    "I32": "int32", "U32": "uint32", "F32": "float32", "F64": "float64", "I64": "int64", "U64": "uint64",
    "C64": "complex64", "F8_E4M3": "float8e4m3fn", "F8_E5M2": "float8e5m2", "F8_E8M0": "float8e8m0",
    "F4": "float4e2m1", "F6_E2M3": "float6e2m3", "F6_E3M2": "float6e3m2",
}  # fmt: skip
"""``Dtype`` (safetensors, tensor.rs)."""


def elements(shape: tuple[int, ...]) -> int | None:
    """Number of elements of ``shape``; None if a dimension is unknown (negative) or the shape is absurd."""
    if len(shape) > MAX_RANK:
        return None
    total = 1
    for size in shape:
        if size < 0:
            return None
        total *= size
        if total > 1 << 62:
            return None
    return total


def size_of(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes that a dense tensor takes in a file; None if that cannot be told."""
    bits, count = BITS.get(dtype), elements(shape)
    if bits is None or count is None:
        return None
    return (bits * count + 7) // 8
