"""A model file by itself, installed and answered."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import onnx
import pytest

from farshore.core.errors import Invalid, NotFound
from farshore.serve import bare
from farshore.serve.tasks.subject import Want
from farshore.serve.version import LoadedVersion
from farshore.store.slots import Slots

from .conftest import DATA, picture, shared, yolo_model

MODEL = yolo_model(boxes=[[0.0, 0.0, 0.5, 0.5]], scores=[[0.9], [0.1]], indices=[[0, 0, 0]])


def answered(path: Path, root: Path) -> dict:
    installed, recognised = bare.install(path, root)
    assert Slots(root).current(installed.model) == installed
    assert recognised.decoder == "tiny-yolov3"
    version = LoadedVersion(root, installed.model, installed.digest, 1, 1 << 20)
    return json.loads(version.answer(picture((1, 2, 3), (40, 20)), Want(), alone=True)[0])


def test_a_file_a_folder_and_a_zip_answer_alike(tmp_path: Path) -> None:
    folder = tmp_path / "Ships & Buoys v2"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(MODEL)
    (folder / "labels.txt").write_text("cup\njug\n")
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("inner/model.onnx", MODEL)
        out.writestr("inner/labels.txt", "cup\njug\n")
    box = [0.0, 0.0, 10.0, 20.0]
    for path, name, label in (
        (folder / "model.onnx", "model", "0"), (folder, "ships-buoys-v2", "cup"), (archive, "packed", "cup"),
    ):  # fmt: skip
        answer = answered(path, tmp_path / name / "root")
        assert answer["model"] == name
        assert answer["detections"] == [{"class": label, "score": 0.9, "box": box}]


def test_weights_beside_the_model_come_along(tmp_path: Path) -> None:
    model = onnx.load_from_string(MODEL)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    assert (tmp_path / "m.bin").stat().st_size > 0
    assert answered(tmp_path, tmp_path / "root")["detections"][0]["box"] == [0.0, 0.0, 10.0, 20.0]


def test_the_zip_as_it_is_handed_over(tmp_path: Path) -> None:
    shared("models/ssd_mobilenet_v1_coco.zip")
    installed, recognised = bare.install(DATA / "models/ssd_mobilenet_v1_coco.zip", tmp_path)
    assert recognised.decoder == "tflite-ssd"
    version = LoadedVersion(tmp_path, installed.model, installed.digest, 1, 1 << 24)
    (cat,) = json.loads(version.answer(shared("pictures/cat_720p.jpg"), Want(), alone=True)[0])["detections"]
    assert cat["class"] == "cat"


def test_what_cannot_be_tried_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        bare.install(tmp_path / "nothing.onnx", tmp_path / "root")
    (tmp_path / "two").mkdir()
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / "two" / name).write_bytes(MODEL)
    with pytest.raises(Invalid, match=r"a\.onnx, b\.onnx"):
        bare.install(tmp_path / "two", tmp_path / "root")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(Invalid, match="ZIP"):
        bare.install(tmp_path / "broken.zip", tmp_path / "root")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        out.writestr("bomb.onnx", bytes(64 << 20))
    (tmp_path / "bomb.zip").write_bytes(bomb.getvalue())
    with pytest.raises(Invalid, match="unpacks"):
        bare.install(tmp_path / "bomb.zip", tmp_path / "root")


def test_what_farshore_toml_says_goes_before_what_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(MODEL)
    (tmp_path / "names.of.mine").write_text("ignored")
    (tmp_path / "farshore.toml").write_text("[decode]\nthreshold = 0.95\n")
    assert answered(tmp_path, tmp_path / "root")["detections"] == []
    for wrong, why in (("threshold = ", "cannot be read"), ("[decode]\nthreshhold = 1", "threshold")):
        (tmp_path / "farshore.toml").write_text(wrong)
        with pytest.raises(Invalid, match=why):
            bare.install(tmp_path, tmp_path / "other")
