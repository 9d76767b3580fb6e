from __future__ import annotations

import io
import zipfile

import pytest
from flatbuffers import flexbuffers

from farshore.core.manifest import Tensor
from farshore.formats import inspect


def test_signature_and_quantisation(tiny_tflite):
    info = inspect(tiny_tflite)
    assert (info.format, info.runtime, info.version, info.producer) == ("tflite", "litert", 3, "tiny")
    assert info.inputs == (Tensor("image", "int8", (1, 8, 8, 3), 0.5, -1),)
    assert info.outputs == (Tensor("out", "float32", (1, 8, 8, 2)),)
    assert info.ops == {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "DEQUANTIZE": 1}
    assert info.produced_by == {"out": "DEPTHWISE_CONV_2D"}
    assert info.read_by == {"image": ("CONV_2D",)}


def test_the_detectors_metadata_labels_and_operator(shared):
    info = inspect(shared("models/ssd_mobilenet_v1_coco.zip"))
    (custom,) = info.custom
    assert custom.op == "TFLite_Detection_PostProcess"
    assert (custom.settings["num_classes"], custom.settings["max_detections"]) == (90, 10)
    assert custom.outputs[0] == "TFLite_Detection_PostProcess"
    (labels,) = info.packed
    assert (labels.name, labels.kind, labels.tensor) == ("labelmap.txt", "labels", "TFLite_Detection_PostProcess:1")
    assert labels.content.splitlines()[0] == b"???"
    assert len(labels.content.splitlines()) == 91
    assert info.normalisation["normalized_input_image_tensor"].mean == (127.5,)
    assert info.colours == {"normalized_input_image_tensor": "RGB"}
    assert info.metadata["name"] == "SSD MobileNetV1"
    assert info.precision == "int8"


def test_signatures_agree_with_the_runtime(real_tflite, load):
    from ai_edge_litert.interpreter import Interpreter

    data = load(real_tflite)
    info = inspect(data)
    if any(custom.op == "edgetpu-custom-op" for custom in info.custom):
        return  # the runtime only opens it beside an Edge TPU
    interpreter = Interpreter(model_content=data)
    for told, known in (
        (info.inputs, interpreter.get_input_details()),
        (info.outputs, interpreter.get_output_details()),
    ):
        assert [tensor.name for tensor in told] == [detail["name"] for detail in known]
        for tensor, detail in zip(told, known, strict=True):
            assert tensor.dtype == detail["dtype"].__name__
            scale, zero = detail["quantization"]
            assert (tensor.scale or 0.0, tensor.zero_point or 0) == (pytest.approx(scale), zero)
            assert ["?" if s == -1 else s for s in detail["shape_signature"].tolist()] == list(tensor.shape)


def test_names_that_stand_twice_are_told_apart(build_tflite):
    data = build_tflite(
        tensors=[("t", 0, (1,), 0, None), ("t", 0, (2,), 0, None), ("", 0, (3,), 0, None)], inputs=[0, 1], outputs=[2]
    )
    info = inspect(data)
    assert [tensor.name for tensor in info.inputs] == ["t#0", "t#1"]
    assert [tensor.name for tensor in info.outputs] == ["#0"]


def test_custom_settings_in_any_form(build_tflite):
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    data = build_tflite(
        tensors=[("x", 0, (1,), 0, None)], operators=[(0, [0], [0])], codes=["Own"], inputs=[0], outputs=[0]
    )
    for options, expected in ((bytes(flexbuffers.Dumps({"k": 3})), {"k": 3}), (b"\xff\x00junk", {})):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
        model.subgraphs[0].operators[0].customOptions = np.frombuffer(options, np.uint8)
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        (custom,) = inspect(bytes(builder.Output())).custom
        assert (custom.op, custom.settings, custom.outputs) == ("Own", expected, ("x",))


def test_files_packed_behind_the_model(tiny_tflite):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    info = inspect(tiny_tflite + buffer.getvalue())
    assert [(file.name, file.content) for file in info.packed] == [("labels.txt", b"a\nb\n")]
    broken = bytearray(tiny_tflite + buffer.getvalue())
    broken[broken.index(b"a\nb\n")] ^= 1
    info = inspect(bytes(broken))
    assert info.packed == ()
    assert "cannot be read" in info.notes[0]


def test_broken_metadata_is_a_note_and_no_failure(build_tflite):
    data = build_tflite(
        buffers=[b"not metadata"],
        tensors=[("x", 0, (1,), 0, None)],
        inputs=[0],
        outputs=[0],
        metadata=[("TFLITE_METADATA", 1)],
    )
    info = inspect(data)
    assert "metadata cannot be read" in info.notes[0]
    assert info.metadata == {}


def test_operators_of_inner_subgraphs_are_named_too(build_tflite):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    outer = build_tflite(tensors=[("x", 0, (1,), 0, None)], inputs=[0], outputs=[0], codes=["Hidden"])
    inner = build_tflite(tensors=[("x", 0, (1,), 0, None)], operators=[(0, [0], [0])], codes=["Hidden"], outputs=[0])
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(outer))
    model.subgraphs += schema.ModelT.InitFromObj(schema.Model.GetRootAs(inner)).subgraphs
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    assert [custom.op for custom in inspect(bytes(builder.Output())).custom] == ["Hidden"]
