"""Small models, made here so that these tests always run, and the real ones when they are beside the checkout."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def real_models() -> list[Path]:
    return sorted(p for p in DATA.glob("models/*") if p.suffix in {".onnx", ".tflite", ".zip"}) + sorted(
        DATA.glob("pairs/*/*/model.*")
    )


def read(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix != ".zip":
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".tflite")))


KINDS = {"real": (".onnx", ".tflite", ".zip"), "real_onnx": (".onnx",), "real_tflite": (".tflite", ".zip")}


def pytest_generate_tests(metafunc):
    for fixture, suffixes in KINDS.items():
        if fixture in metafunc.fixturenames:
            paths = [path for path in real_models() if path.suffix in suffixes]
            marks = pytest.mark.skip(reason="../shared/data is not beside the checkout")
            metafunc.parametrize(
                fixture,
                paths or [pytest.param(None, marks=marks)],
                ids=[str(path.relative_to(DATA)) for path in paths] or None,
            )


@pytest.fixture(scope="session")
def load():
    """Bytes of a real model file; of a ZIP, its model."""
    return read


@pytest.fixture(scope="session")
def shared():
    """Bytes of a named file of ../shared/data; of a ZIP, its model or the named member."""

    def find(name: str, member: str = "") -> bytes:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"../shared/data/{name} is not there")
        if member:
            with zipfile.ZipFile(path) as archive:
                return archive.read(member)
        return read(path)

    return find


def make_onnx() -> onnx.ModelProto:
    """Conv, quantised Conv, Gemm, a branch with weights of its own, a Constant, typed fields of every storage."""
    rng = np.random.default_rng(7)

    def array(name, *shape, dtype=np.float32):
        return numpy_helper.from_array((rng.normal(size=shape) * 9).astype(dtype), name)

    typed = helper.make_tensor("typed", TensorProto.FLOAT, [6], [1.5, 2.5, -3.5, 0, 1e9, -0.0])
    varints = helper.make_tensor("varints", TensorProto.INT64, [3], [-1, 2, 1 << 40])
    doubles = helper.make_tensor("doubles", TensorProto.DOUBLE, [2], [0.5, 0.25])
    half = array("half", 3, 2, dtype=np.float16)
    initializers = [
        array("w1", 4, 3, 3, 3), array("b1", 4), array("w2", 5, 4, 1, 1, dtype=np.int8),
        numpy_helper.from_array(np.linspace(0.01, 0.05, 5, dtype=np.float32), "w2_scale"),
        numpy_helper.from_array(np.arange(-2, 3, dtype=np.int8), "w2_zero"),
        array("gemm_w", 5, 7), array("gemm_b", 7), array("mat", 7, 2), typed, varints, doubles, half,
    ]  # fmt: skip
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["g", "inner_w"], ["bo"]), helper.make_node("Identity", ["bo"], ["branch_out"])],
        "then", [], [helper.make_tensor_value_info("branch_out", TensorProto.FLOAT, None)],
        [array("inner_w", 7, 2)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("MatMul", ["g", "mat"], ["branch_out2"])],
        "else", [], [helper.make_tensor_value_info("branch_out2", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node("DequantizeLinear", ["w2", "w2_scale", "w2_zero"], ["w2_f"], axis=0),
        helper.make_node("Conv", ["c1", "w2_f"], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "gemm_w", "gemm_b"], ["g"]),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("", TensorProto.BOOL, [1], [True])),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        initializers,
    )  # fmt: skip
    model = helper.make_model(
        graph, producer_name="tests", producer_version="1", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(model, {"task": "classification", "labels": "a,b"})
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def onnx_model() -> onnx.ModelProto:
    return make_onnx()


@pytest.fixture(scope="session")
def tiny_onnx(onnx_model) -> bytes:
    return onnx_model.SerializeToString()


def make_tflite(*, buffers=(), tensors=(), operators=(), codes=(), inputs=(), outputs=(), metadata=(), description=""):
    """A LiteRT model written with the reference's own object API.

    ``buffers``: bytes each (buffer 0, the empty one, is added). ``tensors``: (name, type, shape, buffer, quantisation or
    None). ``operators``: (code index, inputs, outputs). ``codes``: builtin numbers or custom names. ``metadata``:
    (name, buffer).
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def of(cls, **fields):
        made = cls()
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def quantisation(given):
        if given is None:
            return None
        scales, zeros, axis = given
        return of(schema.QuantizationParametersT, scale=scales, zeroPoint=zeros, quantizedDimension=axis)

    def code(given):
        if isinstance(given, str):
            return of(schema.OperatorCodeT, builtinCode=32, deprecatedBuiltinCode=32, customCode=given, version=1)
        return of(schema.OperatorCodeT, builtinCode=given, deprecatedBuiltinCode=min(given, 127), version=1)

    graph = of(
        schema.SubGraphT,
        name="main",
        tensors=[
            of(schema.TensorT, name=n, type=t, shape=list(s), buffer=b, quantization=quantisation(q), hasRank=True)
            for n, t, s, b, q in tensors
        ],
        inputs=list(inputs),
        outputs=list(outputs),
        operators=[of(schema.OperatorT, opcodeIndex=c, inputs=list(i), outputs=list(o)) for c, i, o in operators],
    )
    model = of(
        schema.ModelT,
        version=3,
        description=description,
        operatorCodes=[code(given) for given in codes],
        subgraphs=[graph],
        buffers=[of(schema.BufferT), *(of(schema.BufferT, data=np.frombuffer(data, np.uint8)) for data in buffers)],
        metadata=[of(schema.MetadataT, name=name, buffer=index) for name, index in metadata],
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="session")
def build_tflite():
    return make_tflite


@pytest.fixture(scope="session")
def tiny_tflite() -> bytes:
    """A per-channel int8 convolution, a depthwise one in fp16 behind DEQUANTIZE, and a document in the metadata."""
    rng = np.random.default_rng(3)
    buffers = [
        rng.integers(-127, 127, (2, 3, 3, 3), np.int8).tobytes(),
        np.array([5, -6], np.int32).tobytes(),
        rng.normal(size=(1, 3, 3, 2)).astype(np.float16).tobytes(),
        b"a document",
    ]
    return make_tflite(
        buffers=buffers,
        tensors=[
            ("image", 9, (1, 8, 8, 3), 0, ([0.5], [-1], 0)),
            ("conv/w", 9, (2, 3, 3, 3), 1, ([0.25, 0.125], [0, 0], 0)),
            ("conv/b", 2, (2,), 2, ([0.125, 0.0625], [0, 0], 0)),
            ("hidden", 9, (1, 8, 8, 2), 0, ([0.1], [3], 0)),
            ("dw/w16", 1, (1, 3, 3, 2), 3, None),
            ("dw/w", 0, (1, 3, 3, 2), 0, None),
            ("out", 0, (1, 8, 8, 2), 0, None),
        ],
        operators=[(0, [0, 1, 2], [3]), (1, [4], [5]), (2, [3, 5, -1], [6])],
        codes=[3, 6, 4],
        inputs=[0],
        outputs=[6],
        metadata=[("NOTES", 4)],
        description="tiny",
    )


@pytest.fixture(scope="session")
def make_safetensors():
    import json

    def make(tensors: dict, metadata: dict | None = None, pad: int = 0) -> bytes:
        """``tensors``: name → (dtype, shape, bytes)."""
        header, blob = {}, b""
        if metadata is not None:
            header["__metadata__"] = metadata
        for name, (dtype, shape, data) in tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
            blob += data
        text = json.dumps(header).encode() + b" " * pad
        return len(text).to_bytes(8, "little") + text + blob

    return make


@pytest.fixture(scope="session")
def tiny_safetensors(make_safetensors) -> bytes:
    return make_safetensors(
        {
            "a.weight": ("F32", [2, 3], bytes(24)),
            "a.bias": ("BF16", [2], bytes(4)),
            "empty": ("I64", [0, 4], b""),
            "scalar": ("F64", [], bytes(8)),
        },
        {"format": "pt"},
        pad=3,
    )


def make_shaped(inputs, outputs, metadata=None, ops=()) -> bytes:
    """An ONNX file with this signature: names → (dtype, shape). ``ops`` are operators in it; the last makes the outputs."""
    kinds = {
        "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8,
        "int8": TensorProto.INT8, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    }  # fmt: skip

    def values(signature):
        return [helper.make_tensor_value_info(n, kinds[d], list(s)) for n, (d, s) in signature.items()]

    first = next(iter(inputs), "x")
    chain = [helper.make_node(op, [first if i == 0 else f"v{i}"], [f"v{i + 1}"]) for i, op in enumerate(ops)]
    source = f"v{len(chain)}" if chain else first
    ends = [helper.make_node("Identity", [source], [name]) for name in outputs]
    model = helper.make_model(helper.make_graph([*chain, *ends], "g", values(inputs), values(outputs)), ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


@pytest.fixture(scope="session")
def shaped():
    return make_shaped
