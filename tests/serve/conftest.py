"""Small models made on the spot, a device's folder to install them in, and a running server to ask."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from farshore.core import manifest as manifests
from farshore.core.digest import Digest
from farshore.core.manifest import (
    AcceptanceCase,
    Content,
    File,
    Labels,
    Manifest,
    PictureInput,
    Pipeline,
    Tensor,
    Variant,
)
from farshore.serve.app import Server
from farshore.serve.settings import Settings
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared(name: str) -> bytes:
    """A file of ../shared/data, or a skip."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is not there")
    return path.read_bytes()


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    """A picture of one colour; ``size`` is width, height."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def _model(
    nodes: list[Any], outputs: list[Any], size: int, initializers: list[Any] = (), inputs: list[Any] = ()
) -> bytes:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size]), *inputs],
        outputs, list(initializers),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def colours_model(size: int = 16, work: int = 0) -> bytes:
    """Scores of red, green, blue: each channel's mean. ``work`` adds that many convolutions' worth of computing."""
    nodes, weights, last = [], [], "x"
    if work:
        # An identity, made the long way round: widen to 32 channels, convolve, come back to 3.
        eye = np.zeros((32, 3, 1, 1), np.float32)
        eye[:3, :, 0, 0] = np.eye(3)
        same = np.zeros((32, 32, 3, 3), np.float32)
        same[range(32), range(32), 1, 1] = 1
        weights = [numpy_helper.from_array(eye, "w0"), numpy_helper.from_array(same, "w1"),
                   numpy_helper.from_array(eye.transpose(1, 0, 2, 3).copy(), "w2")]  # fmt: skip
        nodes.append(helper.make_node("Conv", ["x", "w0"], ["a0"]))
        nodes += [helper.make_node("Conv", [f"a{n}", "w1"], [f"a{n + 1}"], pads=[1, 1, 1, 1]) for n in range(work)]
        nodes.append(helper.make_node("Conv", [f"a{work}", "w2"], ["y"]))
        last = "y"
    nodes += [helper.make_node("GlobalAveragePool", [last], ["m"]), helper.make_node("Flatten", ["m"], ["scores"])]
    return _model(nodes, [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])], size, weights)


def heavy_model(megabytes: int, size: int = 16) -> bytes:
    """Like :func:`colours_model`, with that much weight that takes part in the answer (times zero)."""
    rows = 3 * size * size
    weight = np.ones((rows, megabytes * (1 << 18) // rows), np.float32)
    make = helper.make_node
    nodes = [
        make("GlobalAveragePool", ["x"], ["m"]), make("Flatten", ["m"], ["means"]),
        make("Flatten", ["x"], ["flat"]), make("MatMul", ["flat", "weight"], ["much"]),
        make("ReduceMean", ["much"], ["little"], keepdims=0), make("Mul", ["little", "zero"], ["nothing"]),
        make("Add", ["means", "nothing"], ["scores"]),
    ]  # fmt: skip
    weights = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array(0, np.float32), "zero")]
    return _model(nodes, [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])], size, weights)


def trap_model(size: int = 8) -> bytes:
    """Like :func:`colours_model`, but pure blue makes it compute for ever, and pure red makes it ask for a terabyte."""
    f, i64 = TensorProto.FLOAT, TensorProto.INT64
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["cond_out"]), helper.make_node("Sin", ["v"], ["v_out"])],
        "body",
        [helper.make_tensor_value_info("i", i64, []), helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", f, [1, 3])],
        [helper.make_tensor_value_info("cond_out", TensorProto.BOOL, []), helper.make_tensor_value_info("v_out", f, [1, 3])],
    )  # fmt: skip
    constants = {
        "high": np.array([0.99], np.float32), "low": np.array([0.01], np.float32), "for_ever": np.array([1 << 50], np.int64),
        "terabyte": np.array([1 << 38], np.int64), "one": np.array([1], np.int64), "true": np.array(True),
        "r": np.array([0], np.int64), "g": np.array([1], np.int64), "b": np.array([2], np.int64), "zero": np.array([0.0], np.float32),
    }  # fmt: skip
    make = helper.make_node

    def pure(colour: str, other: str) -> list[Any]:
        return [
            make("Gather", ["flat", colour], [f"v{colour}"]),
            make("Gather", ["flat", other], [f"o{colour}"]),
            make("Greater", [f"v{colour}", "high"], [f"high{colour}"]),
            make("Less", [f"o{colour}", "low"], [f"low{colour}"]),
            make("And", [f"high{colour}", f"low{colour}"], [f"pure{colour}"]),
        ]

    nodes = [
        make("GlobalAveragePool", ["x"], ["m"]), make("Flatten", ["m"], ["means"]),
        make("Reshape", ["means", "minus"], ["flat"]),
        *pure("b", "g"), *pure("r", "g"),
        make("Where", ["pureb", "for_ever", "one"], ["times1"]), make("Squeeze", ["times1"], ["times"]),
        make("Where", ["purer", "terabyte", "one"], ["many"]),
        make("Expand", ["zero", "many"], ["waste"]), make("ReduceSum", ["waste"], ["nothing"], keepdims=0),
        make("Loop", ["times", "true", "means"], ["ignored"], body=body),
        make("Mul", ["ignored", "zero"], ["ignored0"]),
        make("Add", ["means", "nothing"], ["means1"]), make("Add", ["means1", "ignored0"], ["scores"]),
    ]  # fmt: skip
    constants["minus"] = np.array([-1], np.int64)
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return _model(nodes, [helper.make_tensor_value_info("scores", f, [1, 3])], size, weights)


def yolo_model(boxes: list[list[float]], scores: list[list[float]], indices: list[list[int]]) -> bytes:
    """Tiny YOLOv3's signature: boxes are given as fractions and come out in pixels by ``image_shape``."""
    found = np.array([boxes], np.float32)
    nodes = [
        helper.make_node("Concat", ["image_shape", "image_shape"], ["hwhw"], axis=1),
        helper.make_node("Mul", ["fractions", "hwhw"], ["yolonms_layer_1"]),
        # The answer depends on the picture, so that nothing is folded away: + 0 × its mean.
        helper.make_node("GlobalAveragePool", ["input_1"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["all_scores", "nothing"], ["yolonms_layer_1:1"]),
        helper.make_node("Identity", ["chosen"], ["yolonms_layer_1:2"]),
    ]
    every = np.array([scores], np.float32)
    chosen = np.array([indices], np.int32).reshape(1, -1, 3)
    graph = helper.make_graph(
        nodes, "yolo",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, [1, 3, 64, 64]),
         helper.make_tensor_value_info("image_shape", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("yolonms_layer_1", TensorProto.FLOAT, list(found.shape)),
         helper.make_tensor_value_info("yolonms_layer_1:1", TensorProto.FLOAT, list(every.shape)),
         helper.make_tensor_value_info("yolonms_layer_1:2", TensorProto.INT32, list(chosen.shape))],
        [numpy_helper.from_array(found, "fractions"), numpy_helper.from_array(every, "all_scores"),
         numpy_helper.from_array(chosen, "chosen"), numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def colours_variant(blobs: Blobs, data: bytes, names: str, size: int = 16) -> Variant:
    labels = names.encode()
    return Variant(
        "onnx", "onnxruntime", "fp32",
        (File("model.onnx", blobs.add(data), len(data)), File("labels.txt", blobs.add(labels), len(labels), "labels")),
        (Tensor("x", "float32", (1, 3, size, size)),), (Tensor("scores", "float32", (1, 3)),),
        Pipeline(
            "classification", "classification",
            PictureInput("x", "NCHW", size, size, std=(255.0, 255.0, 255.0)),
            {"scores": "scores"}, Labels("labels.txt"), {"softmax": False},
        ),
    )  # fmt: skip


class Device:
    """A device's root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root / "blobs")
        self.slots = Slots(root)

    def install(self, model: str, version: int, variant: Variant, cases: tuple[AcceptanceCase, ...] = ()) -> Digest:
        payload = manifests.encode(Manifest(model, version, Content((variant,), cases)))
        return self.slots.install(payload, variant, self.blobs).digest

    def colours(
        self, version: int, *, model: str = "colours", data: bytes | None = None, activate: bool = False,
        names: str | None = None, cases: tuple[AcceptanceCase, ...] = (), size: int = 16,
    ) -> Digest:  # fmt: skip
        """A version whose class names tell its number."""
        data = colours_model(size) if data is None else data
        names = f"red{version}\ngreen{version}\nblue{version}\n" if names is None else names
        digest = self.install(model, version, colours_variant(self.blobs, data, names, size), cases)
        if activate:
            self.slots.activate(model, digest)
        return digest

    def case(self, data: bytes, expect: dict[str, Any], name: str = "case", **tolerance: float) -> AcceptanceCase:
        return AcceptanceCase(
            name, File(f"{name}.png", self.blobs.add(data), len(data), "picture"), expect, **tolerance
        )

    def recognised(self, model: str, version: int, data: bytes, files: dict[str, bytes] | None = None) -> Digest:
        """Install a model file as a push would read it."""
        from farshore import formats

        files = files or {}
        info = formats.inspect(data)
        pipeline = formats.recognise(info, files)
        labels = pipeline.labels
        content = {"model": data}
        if labels is not None:
            content[labels.path] = labels.content if labels.content is not None else files[labels.path]
        listed = tuple(
            File(path, self.blobs.add(held), len(held), "model" if path == "model" else "labels")
            for path, held in content.items()
        )
        variant = Variant("v", info.runtime, info.precision, listed, info.inputs, info.outputs, pipeline.pipeline())
        digest = self.install(model, version, variant)
        self.slots.activate(model, digest)
        return digest


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker holds 48 MB, as the system tells it. What it really tells of workers this small depends most on how many other processes
    of this machine run on the same libraries: beside enough of them, two fit where one should.
    """
    monkeypatch.setattr("farshore.serve.memory.held", lambda pid: 48 << 20 if pid else 0)


class Client:
    """Asks a running server, over connections that stay open."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def score(self, data: bytes, query: str = "") -> tuple[int, dict[str, str], Any]:
        return await self.ask("POST", f"/score{query}", data)

    async def get(self, path: str) -> tuple[int, dict[str, str], Any]:
        return await self.ask("GET", path)

    async def ask(
        self, method: str, path: str, data: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        reader, writer = self._idle.pop() if self._idle else await self.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{lines}\r\n"
        writer.write(head.encode() + data)
        status, headers, body = await read_response(reader)
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return status, headers, body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def order(self, verb: str, model: str, digest: str) -> tuple[int, Any]:
        """Ask at the control door."""
        data = json.dumps({"digest": digest}).encode()
        reader, writer = await asyncio.open_unix_connection(str(self.server.settings.socket))
        head = f"POST /control/models/{model}/{verb} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        status, _, body = await read_response(reader)
        writer.close()
        return status, body

    async def status(self) -> Any:
        reader, writer = await asyncio.open_unix_connection(str(self.server.settings.socket))
        writer.write(b"GET /control/models HTTP/1.1\r\nHost: x\r\n\r\n")
        _, _, body = await read_response(reader)
        writer.close()
        return body

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while not await self._is_ready():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def _is_ready(self) -> bool:
        try:
            return (await self.get("/readyz"))[0] == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False  # a test may give idle clients little time, and a busy machine makes them idle

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """Status, headers, and the body (as JSON where it is)."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        status = int(first.split(" ")[1])
        if status != 100:
            break
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return status, headers, json.loads(body) if headers.get("content-type") == "application/json" and body else body


def serve(device: Device, talk: Any, **settings: Any) -> Any:
    """Run a server on ``device`` and ``talk(client)`` with it."""

    async def main() -> Any:
        async with Server(Settings(root=device.root, port=0, **{"threads": 2, **settings})) as server:
            client = Client(server)
            try:
                return await talk(client)
            finally:
                client.close()

    return asyncio.run(main())


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def until(true: Callable[[], object]) -> None:
    """Wait for something that only looking tells."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
