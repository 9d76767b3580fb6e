"""What is odd and allowed survives bit for bit: strange numbers, shared and external tensors, files that no writer makes."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from farshore import formats
from farshore.delta import decode, encode, info

from .conftest import safetensors
from .models import FORMATS, file_of, make_tflite, moved, onnx_file, weights

LEVELS = ["fast", "default", "max"]
ODD = {  # quiet and signalling NaNs with payloads, infinities, -0.0, the least and largest denormals, least and largest normals
    "float16": [0x7E01, 0xFE55, 0x7C01, 0xFD23, 0x7C00, 0xFC00, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF],
    "bfloat16": [0x7FC1, 0xFFD5, 0x7F81, 0xFFA3, 0x7F80, 0xFF80, 0x8000, 0x0001, 0x807F, 0x0080, 0x7F7F],
    "float32": [0x7FC00001, 0xFFC12345, 0x7F800001, 0xFFA00007, 0x7F800000, 0xFF800000, 1 << 31, 1, 0x807FFFFF, 1 << 23, 0x7F7FFFFF],
    "float64": [0x7FF8 << 48 | 1, 0xFFF8123456789ABC, 0x7FF0 << 48 | 1, 0xFFF4 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 1 << 63, 1,
                (1 << 63) | (1 << 52) - 1, 1 << 52, (0x7FF0 << 48) - 1],
}  # fmt: skip


def both_ways(target, bases, level):
    patch = b"".join(encode(target, bases, level=level))
    assert b"".join(decode(patch, bases)) == target
    return patch


def strange(dtype, share):
    """A tensor whose values are odd at this share of its places; bfloat16 as its bits."""
    rng = np.random.default_rng(5)
    width = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[dtype]
    plain = rng.normal(size=(12, 16)).astype(np.float32)
    bits = (plain.view("<u4") >> 16).astype("<u2") if dtype == "bfloat16" else plain.astype(dtype).view(f"<u{width}")
    places = rng.random(bits.shape) < share
    bits[places] = rng.choice(np.array(ODD[dtype], f"<u{width}"), bits.shape)[places]
    return {"weight": bits if dtype == "bfloat16" else bits.view(dtype)}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ODD)
def test_odd_numbers_survive(dtype, level):
    """In the base, in the target, in both; as many as can be, and a few among plain ones."""
    for share in (0.05, 1.0):
        odd, other = safetensors(strange(dtype, share)), safetensors(strange(dtype, 0.0))
        assert formats.segment(odd).segments[-1].dtype == dtype
        for target, bases in ((odd, [other]), (other, [odd]), (odd, [safetensors(strange(dtype, 0.5))]), (odd, [])):
            both_ways(target, bases, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("narrow", ["float16", "int8", "float64"])
def test_odd_numbers_of_another_precision_survive(narrow, level):
    odd = strange("float32", 0.3)["weight"]
    with np.errstate(all="ignore"):
        cast = odd.astype(narrow)
    for kind in FORMATS:
        files = file_of({"weight": cast}, kind), file_of({"weight": odd}, kind)
        both_ways(files[0], [files[1]], level)
        both_ways(files[1], [files[0]], level)


@pytest.mark.parametrize("level", LEVELS)
def test_a_buffer_that_two_tensors_share_is_coded_once(level):
    """LiteRT: two tensors name one buffer, of one shape or of two."""

    def model(values, second):
        return make_tflite(
            buffers=[values.tobytes()], tensors=[("a", 0, (16, 12), 1, None), ("b", 0, second, 1, None)], outputs=[0, 1]
        )

    values = weights(1, 16, 12)["stem.weight"]
    after = moved({"a": values}, 2)["a"]
    alone = both_ways(
        make_tflite(buffers=[after.tobytes()], tensors=[("a", 0, (16, 12), 1, None)], outputs=[0]), [], level
    )
    for second in ((16, 12), (12, 16)):
        assert len(both_ways(model(after, second), [model(values, second)], level)) < len(alone)


@pytest.mark.parametrize("level", LEVELS)
def test_two_names_for_equal_weights_cost_once(level):
    """ONNX has no sharing: tied weights stand in the file twice."""
    tied = {name: weights(1, 24, 40)["stem.weight"] for name in ("embed", "head")}
    after = {name: moved({"a": array}, 2)["a"] for name, array in tied.items()}
    sizes = [
        len(both_ways(onnx_file(new), [onnx_file(old)], level))
        for new, old in ((after, tied), ({"embed": after["embed"]}, {"embed": tied["embed"]}))
    ]
    assert sizes[0] < sizes[1] + 300


def beside(offset, values, second):
    """A model whose two tensors lie in a file beside it, and that file."""
    outside = bytes(offset) + values.tobytes()

    def tensor(name, at, length):
        made = TensorProto(
            name=name, data_type=TensorProto.FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL
        )
        for key, value in (("location", "m.data"), ("offset", str(at)), ("length", str(length))):
            made.external_data.add(key=key, value=value)
        return made

    graph = helper.make_graph([], "g", [], [], [tensor("a", offset, values.nbytes), tensor("b", second, values.nbytes)])
    return helper.make_model(graph, ir_version=8).SerializeToString(), outside


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("second", [64, 64 + 96], ids=["shared", "overlapping"])
def test_external_tensors_that_share_bytes_survive(level, second):
    values = weights(1, 16, 12)["stem.weight"]
    files = [beside(64, array, second) for array in (values, moved({"a": values}, 2)["a"])]

    target, base = files[1][1] + bytes(96), files[0][1] + bytes(96)
    maps = [formats.segment_external(files[0][0], "m.data", len(data)) for data in (target, base)]
    patch = b"".join(encode(target, [base], level=level, maps=maps))
    assert b"".join(decode(patch, [base])) == target
    both_ways(files[1][0], [files[0][0]], level)


def varint(number, pad=0):
    """A number as protobuf writes it, or longer than need be."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + (bytes([number | 128]) + b"\x80" * (pad - 1) + b"\x00" if pad else bytes([number]))


def field(number, data, pad=0):
    return varint(number << 3 | 2, pad) + varint(len(data), pad) + data


def uncanonical(array, pad):
    """An ONNX file that no writer makes: unknown fields, long varints, fields out of order and twice, a graph in two parts."""
    tensor = field(9, array.tobytes(), pad) + b"".join(varint(1 << 3, pad) + varint(size, pad) for size in array.shape)
    tensor += varint(2 << 3) + varint(1) + field(8, b"first name") + field(8, b"w") + field(999, b"unknown")
    parts = field(5, tensor, pad) + field(1234, bytes(9)), field(5, onnx_tensor("v", array[:2])) + field(2, b"g")
    return field(7, parts[0], pad) + field(500, b"?" * 40) + varint(1 << 3) + varint(8) + field(7, parts[1])


def onnx_tensor(name, array):
    return numpy_helper.from_array(array, name).SerializeToString()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("pad", [0, 2])
def test_protobuf_that_no_writer_makes_survives(level, pad):
    values = weights(1, 16, 12)["stem.weight"]
    after = moved({"a": values}, 2)["a"]
    target, base = uncanonical(after, pad), uncanonical(values, 0)
    assert formats.segment(target).format == "onnx"
    assert sum(part.length for part in formats.segment(target).segments if part.dtype) >= after.nbytes
    based, bare = (len(both_ways(target, bases, level)) for bases in ([base], []))
    assert based < bare, "its tensors are found all the same"


GIB = 1 << 30


def sparse(path, values, filler):
    """A safetensors file with a hole of `filler` bytes before its last tensor: it takes no room on the disk."""
    shape, size = list(values.shape), values.nbytes
    header = (
        f'{{"hole":{{"dtype":"F32","shape":[{filler // 4}],"data_offsets":[0,{filler}]}},'
        f'"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{filler},{filler + size}]}}}}'
    ).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.seek(filler, 1)
        file.write(values.tobytes())
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("level", "filler"), [("fast", 2 * GIB + 8), ("max", 4 * GIB + 8)])
def test_offsets_beyond_two_and_four_gigabytes(tmp_path, level, filler):
    values = weights(1, 40, 60)["stem.weight"]
    after = moved({"a": values}, 2)["a"]
    base, target = sparse(tmp_path / "a", values, filler), sparse(tmp_path / "b", after, filler)
    patch = b"".join(encode(target, [base], level=level))
    assert len(patch) < after.nbytes + 1000
    assert max(part.offset for frame in info(patch).frames for part in frame.parts) > filler
    at = 0
    for chunk in decode(patch, [base]):  # checks the digest at the end
        at += len(chunk)
    assert at == len(target) > filler
    assert chunk.endswith(after.tobytes()[-100:])
