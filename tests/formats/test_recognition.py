"""Real models are recognised as what their authors made them for; the operator's word wins; the label trap is not fallen into."""

from __future__ import annotations

from pathlib import Path

import pytest

from farshore.core import documents
from farshore.core.errors import Invalid
from farshore.core.manifest import Pipeline
from farshore.formats import inspect, overrides, recognise

LABELMAP = b"???\r\nperson\r\nbicycle\r\n???\r\ncar\r\n"


def ssd(build_tflite, classes=4):
    """The signature of a LiteRT SSD, with its operator's settings."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    outputs = ["TFLite_Detection_PostProcess" + suffix for suffix in ("", ":1", ":2", ":3")]
    data = build_tflite(
        tensors=[
            ("image", 3, (1, 300, 300, 3), 0, ([1 / 128], [128], 0)),
            *((name, 0, (), 0, None) for name in outputs),
        ],
        operators=[(0, [0], [1, 2, 3, 4])],
        codes=["TFLite_Detection_PostProcess"],
        inputs=[0],
        outputs=[2, 1, 4, 3],  # another order than the operator's
    )
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    options = bytes(flexbuffers.Dumps({"num_classes": classes, "max_detections": 10}))
    model.subgraphs[0].operators[0].customOptions = np.frombuffer(options, np.uint8)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return inspect(bytes(builder.Output()))


def test_roles_follow_the_operator_and_not_the_order_of_outputs(build_tflite):
    found = recognise(ssd(build_tflite), {"labelmap.txt": LABELMAP})
    names = ["TFLite_Detection_PostProcess" + suffix for suffix in ("", ":1", ":2", ":3")]
    assert found.outputs == dict(zip(("boxes", "classes", "scores", "count"), names, strict=True))
    assert (found.input.resize, found.input.mean, found.input.std) == ("stretch", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("classes", "lines", "skip"),
    [
        (4, LABELMAP, 1),  # the background and the gap are lines; only the background is skipped
        (4, b"person\nbicycle\n???\ncar\n", 0),
        (4, b"0 person\n1 bicycle\n3 car\n", 0),
        (5, LABELMAP, 0),
        (4, b"person\nbicycle\ncar\n", None),  # gaps left out: every name after the gap would be wrong
        (4, b"a\nb\nc\nd\ne\n", None),
    ],
)
def test_the_label_trap(build_tflite, classes, lines, skip):
    found = recognise(ssd(build_tflite, classes), {"labelmap.txt": lines})
    if skip is None:
        assert found.labels is None
        assert [question.option for question in found.questions if question.blocking] == ["labels.skip"]
        with pytest.raises(Invalid, match=r"labels\.skip"):
            found.pipeline()
    else:
        assert found.labels.skip == skip
        assert "car" in {
            found.labels.names[skip + 3],
            found.labels.names[skip + 4 if len(found.labels.names) > skip + 4 else skip],
        }


def test_the_real_detector_calls_a_cat_a_cat(shared):
    info = inspect(shared("models/ssd_mobilenet_v1_coco.zip"))
    beside = recognise(info, {"labelmap.txt": shared("models/ssd_mobilenet_v1_coco.zip", "labelmap.txt")})
    packed = recognise(info)
    for found in (beside, packed):
        assert (found.task, found.decoder, found.labels.skip) == ("detection", "tflite-ssd", 1)
        assert found.labels.names[found.labels.skip + 16] == "cat"
        assert found.labels.names[found.labels.skip + 0] == "person"
    assert beside.labels.content is None
    assert packed.labels.content.startswith(b"???\nperson\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "yolox_nano.onnx",
            {
                "decoder": "yolox",
                "resize": "letterbox-corner",
                "colour": "BGR",
                "pad": 114,
                "mean": (0, 0, 0),
                "std": (1, 1, 1),
            },
        ),
        (
            "version-RFB-320.onnx",
            {
                "decoder": "scores-boxes",
                "resize": "stretch",
                "colour": "RGB",
                "mean": (127, 127, 127),
                "std": (128, 128, 128),
            },
        ),
        (
            "movenet_single_pose_lightning_ptq.tflite",
            {"decoder": "movenet", "resize": "letterbox", "pad": 0, "width": 192},
        ),
        (
            "deeplabv3_mnv2_dm05_pascal_quant.tflite",
            {"decoder": "deeplab", "resize": "stretch", "mean": (0, 0, 0), "width": 513},
        ),
        ("mobilenet_v1_0.25_128_quant.tflite", {"decoder": "classification", "resize": "stretch", "std": (1, 1, 1)}),
    ],
)
def test_real_models_just_work(shared, name, expected):
    found = recognise(inspect(shared(f"models/{name}")))
    pipeline = found.pipeline()
    assert found.decoder == expected.pop("decoder")
    for field, value in expected.items():
        assert getattr(pipeline.input, field) == value


def test_real_settings(shared):
    yolox = recognise(inspect(shared("models/yolox_nano.onnx")))
    assert yolox.settings["decoded"] is False
    assert yolox.settings["strides"] == [8, 16, 32]
    face = recognise(inspect(shared("models/version-RFB-320.onnx")))
    assert face.settings["background"] == 0
    assert face.labels.names == ("background", "face")
    classifier = recognise(inspect(shared("models/mobilenet_v1_0.25_128_quant.tflite")))
    assert classifier.settings["softmax"] is False
    assert (classifier.labels.names[0], len(classifier.labels.names), classifier.labels.skip) == ("background", 1001, 0)


def test_every_real_model_gets_a_decision(real, load):
    found = recognise(inspect(load(real)))
    assert found.reasons[0].what == "decoder"
    assert all(reason.why for reason in found.reasons)
    if not any(question.blocking for question in found.questions):
        pipeline = found.pipeline()
        assert documents.convert(documents.builtins(pipeline), Pipeline, what="pipeline") == pipeline


@pytest.fixture(scope="module")
def classifier(shaped):
    def make(shape=(1, 3, 64, 64), classes=5, ops=("Relu",), dtype="float32", metadata=None):
        return inspect(shaped({"x": (dtype, list(shape))}, {"y": ("float32", [1, classes])}, metadata or {}, ops))

    return make


def test_softmax_only_where_it_is_missing(classifier):
    assert recognise(classifier(ops=["Relu"])).settings["softmax"] is True
    assert recognise(classifier(ops=["Relu", "Softmax", "Reshape"])).settings["softmax"] is False
    assert recognise(classifier(ops=["Sigmoid"])).settings["softmax"] is False


def test_what_cannot_be_told_is_asked_with_its_option(classifier):
    found = recognise(classifier(), {"labels.txt": b"a\nb\nc\nd\ne\n"})
    assert [question.option for question in found.questions] == ["input.mean"]
    with pytest.raises(Invalid, match=r"farshore\.toml.*input\.mean and input\.std"):
        found.pipeline()
    answered = recognise(classifier(), {}, overrides({"input": {"mean": 127.5, "std": 127.5}}))
    assert (answered.input.mean, answered.input.std) == ((127.5,) * 3, (127.5,) * 3)
    assert answered.pipeline()
    for mean, std, told in (
        (127.0, 128, "127, std 128"),
        ([1, 1, 1], [58.395, 57.12, 57.375], "1, std 58.395 57.12 57.375"),
    ):
        said = recognise(classifier(), {}, overrides({"input": {"mean": mean, "std": std}}))
        assert next(reason.value for reason in said.reasons if reason.what == "input.mean") == told


def test_open_sizes_are_asked_for(classifier):
    found = recognise(classifier(shape=("n", 3, "h", "w")), {}, overrides({"input": {"mean": 0, "std": 255}}))
    assert "input.width" in {question.option for question in found.questions}
    said = overrides({"input": {"mean": 0, "std": 255, "width": 96, "height": 64}})
    assert recognise(classifier(shape=("n", 3, "h", "w")), {}, said).pipeline().input.width == 96


def test_a_graph_that_normalises_by_itself_gets_pixels_as_they_are(classifier):
    found = recognise(classifier(ops=["Mul", "Relu"]))
    assert (found.input.mean, found.input.std) == ((0, 0, 0), (1, 1, 1))
    assert next(reason for reason in found.reasons if reason.what == "input.mean").source == "assumed"


def test_grey_pictures_and_channels_last(classifier):
    found = recognise(classifier(shape=(1, 64, 48, 1), dtype="uint8"))
    picture = found.input
    assert (picture.colour, picture.layout, picture.height, picture.width, picture.mean) == (
        "GRAY",
        "NHWC",
        64,
        48,
        (0.0,),
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"decoder": "yolo"}, "unknown decoder 'yolo'; known: classification"),
        ({"decoder": "yolox", "task": "segmentation"}, "answers detection"),
        ({"task": "keypoints"}, "no decoder of that task"),
        ({"input": {"width": 65}}, r"input\.width is 65, but the model's input has 64"),
        ({"input": {"colour": "GRAY"}}, "three channels"),
        ({"input": {"tensor": "z"}}, "not an input of the model; it has x"),
        ({"input": {"layout": "NHWC"}}, "64 channels"),
        ({"input": {"mean": [1, 2]}}, "3 channels, but 2 numbers"),
        ({"outputs": {"scores": "z"}}, "not an output of the model: y"),
        ({"outputs": {"boxes": "y"}}, "reads no output 'boxes'; it reads scores"),
        ({"decoder": "tflite-ssd"}, "needs outputs"),
        ({"decode": {"anchors": [[1]]}}, r"no setting decode\.anchors"),
        ({"labels": {"file": "nope.txt"}}, "not beside the model"),
    ],
)
def test_an_operator_who_contradicts_the_file_is_told(classifier, document, said):
    with pytest.raises(Invalid, match=said) as caught:
        recognise(classifier(), {}, overrides(document))
    assert "\n" not in str(caught.value)


def test_the_operators_word_wins(classifier):
    said = overrides(
        {
            "input": {"resize": "letterbox", "colour": "BGR", "mean": [1, 2, 3], "std": [4, 5, 6], "pad": 7},
            "decode": {"softmax": False, "top": 3},
            "labels": {"file": "mine.txt", "skip": 2},
        }
    )
    found = recognise(classifier(), {"labels.txt": b"x\n", "mine.txt": b"a\nb\nc\nd\ne\nf\ng\n"}, said)
    assert (found.input.resize, found.input.colour, found.input.mean, found.input.std, found.input.pad) == (
        "letterbox", "BGR", (1, 2, 3), (4, 5, 6), 7,
    )  # fmt: skip
    assert found.settings == {"softmax": False, "top": 3}
    assert (found.labels.path, found.labels.skip) == ("mine.txt", 2)
    assert {reason.source for reason in found.reasons if reason.what in {"input.mean", "labels.skip"}} == {"override"}


def test_a_named_decoder_reads_a_single_output_of_any_shape(shaped):
    info = inspect(shaped({"x": ("float32", [1, 3, 64, 64])}, {"y": ("float32", [1, 9, 100])}))
    assert recognise(info).decoder == "tensors"
    found = recognise(info, {}, overrides({"decoder": "yolox", "decode": {"strides": [8, 16, 32], "decoded": True}}))
    assert (found.outputs, found.settings["decoded"]) == ({"predictions": "y"}, True)
    assert found.pipeline()


def test_raw_heads_need_their_anchors(shaped):
    info = inspect(
        shaped({"x": ("float32", [1, 3, 64, 64])}, {"a": ("float32", [1, 21, 2, 2]), "b": ("float32", [1, 21, 4, 4])})
    )
    found = recognise(info)
    assert (found.decoder, found.outputs) == ("yolo-heads", {"head16": "b", "head32": "a"})
    with pytest.raises(Invalid, match=r"decode\.anchors"):
        found.pipeline()
    said = overrides({"decode": {"anchors": [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]], "scale_xy": [1.05, 1.05]}})
    assert recognise(info, {}, said).pipeline().settings["strides"] == [16, 32]


def test_several_label_files_are_asked_about(classifier):
    said = overrides({"input": {"mean": 0, "std": 255}})
    found = recognise(classifier(), {"a_labels.txt": b"x\n", "b_labels.txt": b"y\n"}, said)
    assert [question.option for question in found.questions] == ["labels.file"]


def test_a_written_label_file_does_not_hide_another(classifier):
    files = {"labels.txt": b"0 a\n1 b\n2 c\n3 d\n4 e\n"}
    found = recognise(classifier(metadata={}), files, overrides({"input": {"mean": 0, "std": 255}}))
    assert (found.labels.path, found.labels.content) == ("labels-1.txt", b"a\nb\nc\nd\ne\n")


SHIPPED = Path(__file__).resolve().parents[2] / "src" / "farshore" / "cli" / "demo_assets"


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("name", "decoder"), [("detector.onnx", "tiny-yolov3"), ("detector.tflite", "tflite-ssd")])
def test_shipped_models_need_no_word_from_an_operator(version, name, decoder):
    folder = SHIPPED / version
    found = recognise(inspect((folder / name).read_bytes()), {"labels.txt": (folder / "labels.txt").read_bytes()})
    assert (found.decoder, found.task, found.questions) == (decoder, "detection", ())
    assert found.labels.names[found.labels.skip] == "ship"
    assert found.pipeline()


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (b"???\nperson\ncar\n", ("???", "person", "car")),
        (b"person\ncar\n", ("???", "person", "car")),  # classes count from 1: the file has no line for 0
    ],
)
def test_classes_that_count_from_one(shaped, lines, names):
    outputs = {
        "detection_boxes": ("float32", [1, 100, 4]), "detection_classes": ("float32", [1, 100]),
        "detection_scores": ("float32", [1, 100]), "num_detections": ("float32", [1]),
    }  # fmt: skip
    info = inspect(shaped({"image": ("uint8", [1, None, None, 3])}, outputs))
    found = recognise(info, {"labels.txt": lines})
    assert (found.decoder, found.labels.names, found.labels.skip) == ("tf-detection", names, 0)


def test_a_classifier_with_a_background_that_the_list_lacks(classifier):
    said = overrides({"input": {"mean": 0, "std": 255}})
    found = recognise(classifier(classes=4), {"labels.txt": b"a\nb\nc\n"}, said)
    assert (found.labels.names, found.labels.skip) == (("background", "a", "b", "c"), 0)
    assert found.labels.content == b"background\na\nb\nc\n"
    assert next(reason for reason in found.reasons if reason.what == "labels.skip").source == "assumed"


def test_a_detector_whose_classes_are_not_told(build_tflite):
    info = ssd(build_tflite, classes=0)
    assert recognise(info, {"labels.txt": LABELMAP}).labels.skip == 1
    assert recognise(info, {"labels.txt": b"person\ncar\n"}).labels.skip == 0


def test_a_named_decoder_without_a_picture_asks_for_it(shaped):
    info = inspect(shaped({"x": ("float32", [1, 16000])}, {"y": ("float32", [1, 10])}))
    found = recognise(info, {}, overrides({"decoder": "classification"}))
    assert "input.tensor" in {question.option for question in found.questions}
