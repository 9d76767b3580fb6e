from __future__ import annotations

import struct

import numpy as np
import pytest

from farshore.formats import Role, segment


def by_name(data: bytes) -> dict:
    return {part.name: part for part in segment(data).segments if part.name}


def test_roles_axes_and_quantisation(tiny_tflite):
    parts = by_name(tiny_tflite)
    weight = parts["conv/w"]
    assert (weight.role, weight.channel_axis, weight.dtype, weight.shape) == (Role.WEIGHT, 0, "int8", (2, 3, 3, 3))
    assert (weight.quant.scales, weight.quant.zero_points, weight.quant.axis) == ((0.25, 0.125), (0, 0), 0)
    assert parts["conv/b"].role is Role.BIAS
    depthwise = parts["dw/w16"]
    assert (depthwise.role, depthwise.channel_axis, depthwise.dtype) == (Role.WEIGHT, 3, "float16"), (
        "through DEQUANTIZE"
    )
    assert "NOTES" not in parts, "a document is not a tensor"


def test_quantisation_vectors_are_segments_of_their_own(tiny_tflite):
    parts = by_name(tiny_tflite)
    scale, zero = parts["conv/w:scale"], parts["hidden:zero_point"]
    assert (scale.role, scale.dtype) == (Role.SCALE, "float32")
    assert struct.unpack_from("<2f", tiny_tflite, scale.offset) == (0.25, 0.125)
    assert (zero.role, zero.dtype) == (Role.ZERO_POINT, "int64")
    assert struct.unpack_from("<q", tiny_tflite, zero.offset) == (3,)


def test_a_tensor_of_another_size_than_its_shape_is_a_vector(build_tflite):
    data = build_tflite(
        buffers=[bytes(range(12))],
        tensors=[("sparse", 0, (4, 4), 1, None)],
        inputs=[],
        outputs=[0],
    )
    part = by_name(data)["sparse"]
    assert (part.dtype, part.shape, part.role) == ("float32", (3,), Role.TENSOR)


def test_shared_buffers_and_strings(build_tflite):
    data = build_tflite(
        buffers=[bytes(16), b"text"],
        tensors=[("one", 0, (4,), 1, None), ("two", 0, (2, 2), 1, None), ("words", 5, (1,), 2, None)],
        outputs=[0],
    )
    assert set(by_name(data)) == {"one"}


@pytest.mark.parametrize("size", [24, 20])
def test_buffers_behind_the_flatbuffer_are_found(build_tflite, size):
    """Models of 2 GB and more keep offset and size in the flatbuffer and the bytes behind it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    data = build_tflite(tensors=[("w", 0, (2, 3), 1, None)], buffers=[b"\0"], outputs=[0])
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 1 << 40, size
    while True:  # the offset's own value does not change the length, so the second round is final
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        flat = bytes(builder.Output())
        if model.buffers[1].offset == len(flat):
            break
        model.buffers[1].offset = len(flat)
    values = np.arange(6, dtype=np.float32).tobytes()[:size]
    part = by_name(flat + values + b"tail")["w"]
    assert (part.offset, part.length) == (len(flat), size)
    assert part.shape == ((2, 3) if size == 24 else (5,))
    assert segment(flat).format == "opaque", "the bytes that it names are not there"
