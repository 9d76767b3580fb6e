"""As strict as the reference: what it refuses is opaque here."""

from __future__ import annotations

import json

import pytest

from farshore.formats import Role, segment


def test_tensors_roles_and_order(tiny_safetensors):
    found = segment(tiny_safetensors)
    tensors = [(part.name, part.dtype, part.shape, part.role) for part in found.segments if part.name]
    assert tensors == [
        ("a.weight", "float32", (2, 3), Role.WEIGHT),
        ("a.bias", "bfloat16", (2,), Role.BIAS),
        ("scalar", "float64", (), Role.TENSOR),
    ]


def raw(header: object, blob: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + blob


def tensor(start, end, shape=(4,), dtype="U8"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "blob"),
    [
        ({"a": tensor(0, 4)}, bytes(4)),
        ({"a": tensor(0, 4), "b": tensor(4, 8)}, bytes(8)),
        ({"__metadata__": {"k": "v"}}, b""),
        ({"a": tensor(0, 2, (3,), "F4")}, b""),
    ],
)
def test_accepted_only_if_whole(header, blob):
    accepted = "F4" not in str(header)  # 12 bits do not end on a byte
    assert (segment(raw(header, blob)).format == "safetensors") == accepted
    assert segment(raw(header, blob + b"!")).format == "opaque"


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor(0, 4), "b": tensor(2, 6)},  # overlap
        {"a": tensor(0, 3), "b": tensor(4, 8)},  # hole
        {"a": tensor(1, 5)},
        {"a": tensor(0, 8)},  # shape says 4
        {"a": tensor(4, 0)},
        {"a": tensor(0, 4, dtype="U9")},
        {"a": tensor(0, 4, shape=[-4])},
        {"a": tensor(0, 4, shape=[True, 4])},
        {"a": tensor(0, 4, shape=[1 << 62, 1 << 62])},
        {"a": tensor(0, 4, shape=[4] + [1] * 100)},
        {"a": {**tensor(0, 4), "more": 1}},
        {"a": []},
        {"a": tensor(0, 4.0)},
        {"__metadata__": {"k": 1}, "a": tensor(0, 4)},
        [],
        b'{"a":' + json.dumps(tensor(0, 4)).encode() + b',"a":' + json.dumps(tensor(4, 8)).encode() + b"}",
        b'{"a":' + b"[" * 100_000,
        b'{"\xff":1}',
    ],
)
def test_refused(header):
    for size in (0, 4, 8):
        assert segment(raw(header, bytes(size))).format == "opaque"


def test_a_header_longer_than_the_file_is_refused():
    assert segment((1 << 63).to_bytes(8, "little") + b"{}").format == "opaque"
    assert segment((100).to_bytes(8, "little") + b"{}").format == "opaque"
