"""Real models through hub and agent: pushed as they are, answered the same before and after the journey."""

import http.client
import io
import json
import pathlib
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from farshore.cli.load import score
from farshore.cli.world import World, wait_for
from farshore.core import wire
from farshore.store.blobs import verify

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"
SSD = SHARED / "models" / "ssd_mobilenet_v1_coco.zip"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("world"), rate=50e6) as made:
        made.start_hub()
        yield made


def deliver(world, device, model, paths, **about):
    """Push, deploy to one device, wait until it runs there."""
    version = world.hub.push(model, paths, **about)["version"]
    world.hub.put_deployment(
        f"{model}-to-{device.name}", model=f"{model}@{version}", selector=f"deviceId = '{device.name}'"
    )

    def runs():
        told = wire.reported_models(world.hub.twin(device.name)["properties"]["reported"]).get(model)
        return told is not None and told.current is not None and told.current.version == version

    wait_for(runs, 60, f"{device.name} runs {model}@{version}", device.agent)


@pytest.mark.skipif(not SSD.exists(), reason="needs ../shared/data/models/ssd_mobilenet_v1_coco.zip, which is not here")
def test_ssd_mobilenet_as_microsoft_ships_it(world):
    device = world.add_device("ssd", {})
    deliver(world, device, "coco", [SSD])
    expected = json.loads((SHARED / "pictures" / "expected_ssd_mobilenet.json").read_text())
    for picture, answers in expected["answers"].items():
        status, told = score(device.port, (SHARED / "pictures" / picture).read_bytes())
        assert status == 200
        found = [d for d in told["detections"] if d["score"] > expected["threshold"]]
        assert [d["class"] for d in found] == [a["class"] for a in answers], picture
        for one, answer in zip(found, answers, strict=True):
            assert one["score"] == pytest.approx(answer["score"], abs=0.01)
            assert one["box"] == pytest.approx(answer["box"], abs=1.0)


def yolo(path, bias):
    """A model of Tiny YOLOv3's signature whose answer is known: the brightest 16×16 cell of the picture, as class 1.

    Boxes and scores are computed in the graph from the mean of each cell, in pixels of the picture sent, by ``image_shape``.
    """
    cells, size = 4, 64
    step = size // cells
    index = np.array([(y, x) for y in range(cells) for x in range(cells)], np.float32)
    corners = np.concatenate([index * step, (index + 1) * step], 1)[None] / size
    constants = {
        "corners": corners.astype(np.float32),
        "twice": np.array([1, 2], np.int64),
        "flat": np.array([1, 1, cells * cells], np.int64),
        "grey": np.ones((1, 3, 1, 1), np.float32) / 3,
        "bias": np.array([bias], np.float32),
        "dark": np.zeros((1, 1, cells * cells), np.float32),
        "most": np.array([10], np.int64),
        "iou": np.array([0.5], np.float32),
        "least": np.array([0.6], np.float32),
    }
    nodes = [
        helper.make_node("AveragePool", ["input_1"], ["mean"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Conv", ["mean", "grey"], ["bright"]),
        helper.make_node("Reshape", ["bright", "flat"], ["one"]),
        helper.make_node("Add", ["one", "bias"], ["biased"]),
        helper.make_node("Concat", ["dark", "biased"], ["yolonms_layer_1:1"], axis=1),
        helper.make_node("Tile", ["image_shape", "twice"], ["shape"]),
        helper.make_node("Mul", ["corners", "shape"], ["yolonms_layer_1"]),
        helper.make_node(
            "NonMaxSuppression", ["yolonms_layer_1", "yolonms_layer_1:1", "most", "iou", "least"], ["wide"]
        ),
        helper.make_node("Cast", ["wide"], ["narrow"], to=TensorProto.INT32),
        helper.make_node("Unsqueeze", ["narrow", "axis"], ["yolonms_layer_1:2"]),
    ]
    constants["axis"] = np.array([0], np.int64)
    graph = helper.make_graph(
        nodes,
        "yolo",
        [
            helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ["batch", 3, size, size]),
            helper.make_tensor_value_info("image_shape", TensorProto.FLOAT, ["batch", 2]),
        ],
        [
            helper.make_tensor_value_info("yolonms_layer_1", TensorProto.FLOAT, ["batch", cells * cells, 4]),
            helper.make_tensor_value_info("yolonms_layer_1:1", TensorProto.FLOAT, ["batch", 2, cells * cells]),
            helper.make_tensor_value_info("yolonms_layer_1:2", TensorProto.INT32, [1, "found", 3]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def spot(height, width, row, column):
    """A black picture with one white cell of a 4×4 grid."""
    pixels = np.zeros((height, width, 3), np.uint8)
    y, x = height // 4, width // 4
    pixels[row * y : (row + 1) * y, column * x : (column + 1) * x] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue(), [row * y, column * x, (row + 1) * y, (column + 1) * x]


def test_tiny_yolov3s_signature(world, tmp_path):
    device = world.add_device("yolo", {})
    (tmp_path / "coco_classes.txt").write_text("dark\nbright\n")
    deliver(world, device, "spots", [yolo(tmp_path / "spots.onnx", 0.0), tmp_path / "coco_classes.txt"])
    for place in ((0, 0), (1, 3), (3, 2)):
        picture, box = spot(256, 256, *place)
        status, told = score(device.port, picture)
        assert status == 200
        assert [d["class"] for d in told["detections"]] == ["bright"]
        assert told["detections"][0]["score"] == pytest.approx(1.0, abs=0.01)
        assert told["detections"][0]["box"] == pytest.approx(box, abs=0.5)


def test_bytes_are_the_same_after_the_journey(world, tmp_path):
    device = world.add_device("bytes", {})
    path = yolo(tmp_path / "模型 ü.onnx", 0.125)
    (tmp_path / "labels.txt").write_text("dark\nbright\n")
    deliver(world, device, "journey", [path, tmp_path / "labels.txt"])
    here = device.root / "models" / "journey" / "current" / "files"
    assert (here / path.name).read_bytes() == path.read_bytes()
    manifest = world.hub.version("journey")["manifest"]
    for file in manifest["variants"][0]["files"]:
        verify(here / file["path"], file["digest"])


def test_the_server_answers_alone_after_a_start_without_hub_and_agent(world, tmp_path):
    device = world.add_device("alone", {})
    (tmp_path / "labels.txt").write_text("dark\nbright\n")
    deliver(world, device, "lonely", [yolo(tmp_path / "lonely.onnx", 0.25), tmp_path / "labels.txt"])
    picture, _ = spot(64, 64, 2, 2)
    before = score(device.port, picture)[1]
    device.agent.kill()
    device.server.kill()
    device.server.start()

    def ready():
        connection = http.client.HTTPConnection("127.0.0.1", device.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    wait_for(ready, 30, "the server answers again", device.server)
    after = score(device.port, picture)[1]
    assert (after["version"], after["detections"]) == (before["version"], before["detections"])
    shutil.rmtree(device.root / "agent")
