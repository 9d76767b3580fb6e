"""Each row of the table on a model of its exact shape, and the documentation beside it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from farshore.formats import FAMILIES, inspect, recognise
from farshore.formats.overrides import DecodeOptions, InputOptions, LabelOptions, Overrides

RGB = {"images": ("float32", [1, 3, 416, 416])}
BIG = {"images": ("float32", [1, 3, 640, 640])}
COCO = {"names": "{" + ", ".join(f"{n}: 'name {n}'" for n in range(80)) + "}"}


def out(*shape, name="output", dtype="float32"):
    return {name: (dtype, list(shape))}


# decoder → inputs, outputs, metadata, operators in the graph
EXAMPLES = {
    "tf-detection": (
        {"image": ("uint8", [1, None, None, 3])},
        out(1, 100, 4, name="detection_boxes") | out(1, 100, name="detection_classes")
        | out(1, 100, name="detection_scores") | out(1, name="num_detections"),
    ),
    "tiny-yolov3": (
        {"input_1": ("float32", [1, 3, 416, 416]), "image_shape": ("float32", [1, 2])},
        out(1, 2535, 4, name="yolonms_layer_1") | out(1, 80, 2535, name="yolonms_layer_1:1")
        | out(1, "n", 3, name="yolonms_layer_1:2", dtype="int32"),
    ),
    "efficient-nms": (
        BIG,
        out(1, 1, name="num_dets", dtype="int32") | out(1, 100, 4, name="det_boxes")
        | out(1, 100, name="det_scores") | out(1, 100, name="det_classes", dtype="int32"),
    ),
    "rtdetr-final": (
        BIG | {"orig_target_sizes": ("int64", ["N", 2])},
        out("N", 300, name="labels", dtype="int64") | out("N", 300, 4, name="boxes") | out("N", 300, name="scores"),
    ),
    "detr": ({"pixel_values": ("float32", [1, 3, 800, 800])}, out(1, 100, 92, name="logits") | out(1, 100, 4, name="pred_boxes")),
    "yolo-end-to-end": (BIG, out(1, 300, 6)),
    "yolov7-end-to-end": (BIG, out("n", 7)),
    "rtdetr": (BIG, out(1, 300, 84)),
    "yolov8": (BIG, out(1, 84, 8400), COCO),
    "yolov5": (BIG, out(1, 25200, 85), COCO),
    "nanodet": (RGB, out(1, 3598, 112), COCO),
    "nanodet-heads": (
        RGB,
        {
            name: ("float32", [1, side * side, width])
            for stride, side in ((8, 52), (16, 26), (32, 13))
            for name, width in ((f"cls_pred_stride_{stride}", 80), (f"dis_pred_stride_{stride}", 32))
        },
    ),
    "yolox": (RGB, out(1, 3549, 85), COCO),
    "yolo-heads": (RGB, out(1, 255, 13, 13, name="o1") | out(1, 255, 26, 26, name="o2") | out(1, 255, 52, 52, name="o3")),
    "yunet": (
        BIG,
        {
            f"{kind}_{stride}": ("float32", [1, (640 // stride) ** 2, width])
            for stride in (8, 16, 32)
            for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        },
    ),
    "scores-boxes": (
        {"input": ("float32", [1, 3, 240, 320])}, out(1, 4420, 2, name="scores") | out(1, 4420, 4, name="boxes"), {}, ["Exp"],
    ),
    "movenet": ({"input": ("uint8", [1, 192, 192, 3])}, out(1, 1, 17, 3)),
    "movenet-multipose": ({"input": ("uint8", [1, None, None, 3])}, out(1, 6, 56)),
    "yolov8-pose": (BIG, out(1, 56, 8400)),
    "yolov8-seg": (BIG, out(1, 116, 8400) | out(1, 32, 160, 160, name="output1")),
    "yolov5-seg": (BIG, out(1, 25200, 117) | out(1, 32, 160, 160, name="output1")),
    "classification": ({"input": ("float32", [1, 3, 224, 224])}, out(1, 1000)),
    "heatmaps": ({"input": ("float32", [1, 3, 256, 192])}, out(1, 17, 64, 48)),
    "deeplab": ({"input": ("uint8", [1, 257, 257, 3])}, out(1, 257, 257, 21)),
    "image-to-image": ({"input": ("uint8", [1, 3, 224, 224])}, out(1, 3, 672, 672)),
    "tensors": ({"audio": ("float32", [1, 16000])}, out(1, 10)),
}  # fmt: skip


def test_every_row_has_an_example_but_the_one_that_needs_litert():
    assert set(EXAMPLES) | {"tflite-ssd"} == {family.decoder for family in FAMILIES}
    assert len({family.decoder for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("decoder", EXAMPLES)
def test_a_model_of_its_shape_is_recognised(shaped, decoder):
    inputs, outputs, *more = EXAMPLES[decoder]
    found = recognise(inspect(shaped(inputs, outputs, *more)))
    assert found.decoder == decoder
    family = next(family for family in FAMILIES if family.decoder == decoder)
    assert found.task == family.task
    for role in family.roles:
        assert [name for name in found.outputs if name == role or (role.endswith("*") and name.startswith(role[:-1]))]
    assert set(found.outputs.values()) <= set(outputs)
    questions = {question.option for question in found.questions if question.blocking}
    assert questions == ({"decode.anchors"} if decoder == "yolo-heads" else set())
    if not questions:
        assert found.pipeline().decoder == decoder


# What a shape alone must not be taken for.
TRAPS = {
    "a feature grid is no class map": (RGB, out(1, 85, 26, 26), {}, "tensors"),
    "yolox of seven classes is not end to end": (RGB, out(1, 3549, 6), {}, "yolox"),
    "three anchors a cell is yolov5, also for one class": (RGB, out(1, 10647, 6), {}, "yolov5"),
    "yolox of 107 classes against nanodet": (
        RGB,
        out(1, 3549, 112),
        {"names": str({n: f"c{n}" for n in range(107)})},
        "yolox",
    ),
    "nanodet of 80 classes against yolox": (RGB, out(1, 3549, 112), COCO, "nanodet"),
    "a detector of 52 classes is no pose": (
        BIG,
        out(1, 56, 8400),
        {"names": str({n: f"c{n}" for n in range(52)})},
        "yolov8",
    ),
    "a pose of four points by its metadata": (BIG, out(1, 17, 8400), {"task": "pose"}, "yolov8-pose"),
    "150 maps of a quarter are classes": ({"x": ("float32", [1, 3, 512, 512])}, out(1, 150, 128, 128), {}, "deeplab"),
    "a batch of eight cannot be fed": ({"x": ("float32", [8, 3, 224, 224])}, out(8, 1000), {}, "tensors"),
    "two pictures cannot be fed": (RGB | {"b": ("float32", [1, 3, 416, 416])}, out(1, 1000), {}, "tensors"),
    "a spectrogram is no picture": ({"x": ("float32", [1, 49, 10, 1])}, out(1, 12), {}, "tensors"),
    "a depth map is no class map": (RGB, out(1, 416, 416), {}, "tensors"),
}


@pytest.mark.parametrize("case", TRAPS)
def test_traps(shaped, case):
    inputs, outputs, metadata, expected = TRAPS[case]
    assert recognise(inspect(shaped(inputs, outputs, metadata))).decoder == expected


def test_open_sizes_and_exports_of_ultralytics(shaped):
    data = shaped(
        {"images": ("float32", ["batch", 3, "height", "width"])}, out("batch", 84, "anchors"),
        COCO | {"task": "detect", "imgsz": "[320, 480]", "description": "Ultralytics YOLOv8n model"},
    )  # fmt: skip
    found = recognise(inspect(data))
    assert (found.decoder, found.input.height, found.input.width, found.input.resize) == (
        "yolov8",
        320,
        480,
        "letterbox",
    )
    assert found.labels.names[79] == "name 79"


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "formats" / "recognition.md"


def test_the_document_names_every_decoder_role_and_option():
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*)$", text, re.MULTILINE))
    for family in FAMILIES:
        assert family.decoder in rows
        assert family.task in rows[family.decoder]
        assert all(f"`{role}`" in rows[family.decoder] for role in family.roles)
    for kind in (Overrides, InputOptions, LabelOptions, DecodeOptions):
        for field in msgspec.structs.fields(kind):
            assert re.search(rf"^{field.name} = |^\[+{field.name}\]|`{field.name}`", text, re.MULTILINE), field.name
