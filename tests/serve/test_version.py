"""Real models in a worker's memory, as recognition reads them, against what is known to be in the pictures."""

from __future__ import annotations

import json

import pytest

from farshore.core.errors import Corrupt, Invalid, NotFound, Unavailable
from farshore.serve.tasks.subject import Want
from farshore.serve.version import LoadedVersion

from .conftest import Device, colours_model, picture, shared


def loaded(device: Device, name: str, files: dict[str, bytes] | None = None) -> LoadedVersion:
    digest = device.recognised("real", 1, shared(f"models/{name}"), files)
    return LoadedVersion(device.root, "real", digest, 2, 40_000_000)


def asked(version: LoadedVersion, name: str, want: Want | None = None) -> dict:
    """The answer, which must be the same on one core and on all."""
    data = shared(f"pictures/{name}")
    alone, shared_cores = (json.loads(version.answer(data, want or Want(), alone=each)[0]) for each in (True, False))
    for answer in (alone, shared_cores):
        answer.pop("timing")
    for key, value in alone.items():
        if isinstance(value, list):
            assert len(value) == len(shared_cores[key])
    return alone


def test_yolox(device: Device) -> None:
    names = b"".join(b"dog\n" if n == 16 else b"cat\n" if n == 15 else b"other\n" for n in range(80))
    version = loaded(device, "yolox_nano.onnx", {"labels.txt": names})
    (cat,) = asked(version, "cat_720p.jpg", Want(threshold=0.5))["detections"]
    assert cat["class"] == "cat"
    # Where SSD MobileNet sees it, too.
    assert cat["box"] == pytest.approx([94, 90, 704, 919], abs=60)
    assert [d["class"] for d in asked(version, "pets.jpg", Want(threshold=0.5))["detections"]] == ["dog", "dog"]


def test_faces(device: Device) -> None:
    """The detector whose weights are also inputs."""
    found = asked(loaded(device, "version-RFB-320.onnx"), "face.jpg", Want(threshold=0.9))["detections"]
    assert len(found) >= 3
    assert {item["class"] for item in found} == {"face"}
    assert all(bottom > top and right > left for top, left, bottom, right in (item["box"] for item in found))


def test_other_faces(device: Device) -> None:
    digest = device.recognised("real", 1, shared("pairs/yunet_n640_r2/b/model.onnx"))
    found = asked(LoadedVersion(device.root, "real", digest, 2, 40_000_000), "face.jpg")["detections"]
    assert len(found) >= 3
    assert {item["class"] for item in found} == {"face"}


def test_classification(device: Device) -> None:
    version = loaded(device, "mobilenet_v1_0.25_128_quant.tflite", {"labels.txt": shared("models/imagenet_labels.txt")})
    classes = asked(version, "cat_720p.jpg")["classes"]
    assert {item["class"] for item in classes[:3]} == {"tabby, tabby cat", "tiger cat", "Egyptian cat"}


def test_pose(device: Device) -> None:
    (pose,) = asked(loaded(device, "movenet_single_pose_lightning_ptq.tflite"), "grace_hopper.bmp")["poses"]
    points = {point["name"]: point["point"] for point in pose["keypoints"]}
    assert len(points) == 17
    # A portrait from the front: eyes over shoulders, her left on the picture's right.
    assert points["left eye"][0] < points["left shoulder"][0]
    assert points["left shoulder"][1] > points["right shoulder"][1]
    assert points["nose"] == pytest.approx([235, 260], abs=40)


def test_segmentation(device: Device) -> None:
    answer = asked(loaded(device, "deeplabv3_mnv2_dm05_pascal_quant.tflite"), "pets.jpg")
    shares = {item["number"]: item["share"] for item in answer["classes"]}
    assert shares[12] == pytest.approx(0.13, abs=0.05)  # Pascal VOC: 12 is the dog, 0 the background
    assert shares[0] > 0.8


def test_what_a_version_cannot_be_loaded_for(device: Device) -> None:
    digest = device.colours(1)
    with pytest.raises(NotFound):
        LoadedVersion(device.root, "colours", "sha256:" + "0" * 64, 1, 1000)
    LoadedVersion(device.root, "colours", digest, 1, 1000)
    for version, data, size in ((2, b"garbage", 16), (3, colours_model(16), 20)):
        # Garbage; and a manifest that speaks of another size than the model has.
        bad = device.colours(version, data=data, size=size)
        with pytest.raises((Invalid, Unavailable)):
            LoadedVersion(device.root, "colours", bad, 1, 1000)
    path = device.slots.find("colours", digest).file("labels.txt")
    path.chmod(0o644)
    path.write_bytes(b"changed\n")
    with pytest.raises(Corrupt):
        LoadedVersion(device.root, "colours", digest, 1, 1000)


def test_the_threads_give_one_answer(device: Device) -> None:
    digest = device.colours(1, data=colours_model(32, work=2), size=32)
    version = LoadedVersion(device.root, "colours", digest, 2, 1 << 20)
    sent = picture((200, 100, 50))
    alone, together = (json.loads(version.answer(sent, Want(), alone=each)[0])["classes"] for each in (True, False))
    assert alone == together
    assert alone[0]["score"] == pytest.approx(200 / 255, abs=1e-3)
