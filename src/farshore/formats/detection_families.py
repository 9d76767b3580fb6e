"""Rows of the recognition table: models that answer with boxes.

Each names where its outputs' meaning is written down. Grids are told by their number of cells: strides 8, 16 and 32 of a
416×416 input have 52² + 26² + 13² = 3549.
"""

from __future__ import annotations

from farshore.core.manifest import Tensor
from farshore.formats.family import Facts, Family, Match, Preparation, Question, sizes, unbatched

_P5, _P6 = (8, 16, 32), (8, 16, 32, 64)
_UNIT = (0.0,), (255.0,)
_YOLO = Preparation(
    "letterbox", "RGB", *_UNIT, pad=114, size=(640, 640), why="Ultralytics: letterbox on grey 114, RGB, 0…1"
)


def _relative(facts: Facts) -> dict[str, str]:
    """Ultralytics' LiteRT exports give coordinates as fractions of the input, its ONNX exports in the input's pixels."""
    return {"coordinates": "relative" if facts.info.format == "tflite" else "pixels"}


def _named(facts: Facts, *names: str) -> dict[str, Tensor] | None:
    """Outputs by ``names``, if the model has exactly those (a suffix ``:0`` of TensorFlow does not count)."""
    found = {tensor.name.removesuffix(":0"): tensor for tensor in facts.outputs}
    return found if set(found) == set(names) else None


def _grid(facts: Facts, count: int | None, anchors: int = 1) -> tuple[int, ...] | None:
    """The strides of the feature maps that have ``count`` predictions with ``anchors`` each."""
    for strides in (_P5, _P6, (4, *_P5)):
        cells = facts.cells(strides)
        if cells is not None and count == cells * anchors:
            return strides
    return None


def tflite_ssd(facts: Facts) -> Match | None:
    """tensorflow/lite/kernels/detection_postprocess.cc: boxes, classes, scores, count, in the operator's order."""
    for custom in facts.info.custom:
        names = {tensor.name for tensor in facts.outputs}
        if custom.op == "TFLite_Detection_PostProcess" and len(custom.outputs) == 4 and names == set(custom.outputs):
            classes = custom.settings.get("num_classes")
            roles = dict(zip(("boxes", "classes", "scores", "count"), custom.outputs, strict=True))
            return Match(
                roles,
                "it ends in TFLite_Detection_PostProcess",
                classes=int(classes) if classes is not None and 0 < classes < 1 << 20 else None,
            )
    return None


def tf_detection(facts: Facts) -> Match | None:
    """TensorFlow's object detection API exported with its own names; class numbers count from 1 (0 is the background)."""
    found = {name: tensor for tensor in facts.outputs for name in [tensor.name.removesuffix(":0")]}
    wanted = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
    if facts.picture is None or not set(wanted) <= set(found):
        return None
    roles = dict(zip(("boxes", "classes", "scores", "count"), (found[name].name for name in wanted), strict=True))
    return Match(roles, "its outputs have the names of TensorFlow's object detection API", background=True)


def tiny_yolov3(facts: Facts) -> Match | None:
    """onnx/models tiny-yolov3: boxes [1,N,4] in the picture's pixels, scores [1,C,N], indices [1,M,3] (batch, class, box)."""
    shapes = [tensor for tensor in facts.others if sizes(tensor)[-1:] == (2,) and len(tensor.shape) == 2]
    if facts.picture is None or len(shapes) != 1 or len(facts.others) != 1 or len(facts.outputs) != 3:
        return None
    roles: dict[str, Tensor] = {}
    for tensor in facts.outputs:
        shape = sizes(tensor)
        if tensor.dtype in {"int32", "int64"} and shape[-1:] == (3,):
            roles["indices"] = tensor
        elif len(shape) == 3 and shape[-1] == 4 and "boxes" not in roles:
            roles["boxes"] = tensor
        elif len(shape) == 3:
            roles["scores"] = tensor
    if len(roles) != 3:
        return None
    return Match(
        {role: roles[role].name for role in ("boxes", "scores", "indices")},
        f"boxes, scores and indices, with the picture's size in {shapes[0].name!r}",
        {"image_shape": shapes[0].name},
        classes=sizes(roles["scores"])[1],
    )


def efficient_nms(facts: Facts) -> Match | None:
    """TensorRT's EfficientNMS and its portable copies: count, boxes [1,K,4] as corners in input pixels, scores, classes."""
    names = ("num_dets", "det_boxes", "det_scores", "det_classes")
    if facts.picture is None or _named(facts, *names) is None:
        return None
    found = {tensor.name.removesuffix(":0"): tensor.name for tensor in facts.outputs}
    roles = dict(zip(("count", "boxes", "scores", "classes"), (found[name] for name in names), strict=True))
    return Match(roles, "its outputs have the names of EfficientNMS")


def rtdetr_final(facts: Facts) -> Match | None:
    """lyuwenyu/RT-DETR export_onnx.py: labels, boxes (corners in the picture's pixels), scores; takes the picture's width, height."""
    found = _named(facts, "labels", "boxes", "scores")
    if facts.picture is None or found is None or len(facts.others) != 1 or sizes(facts.others[0])[-1:] != (2,):
        return None
    return Match(
        {"classes": found["labels"].name, "boxes": found["boxes"].name, "scores": found["scores"].name},
        f"labels, boxes and scores, with the picture's size in {facts.others[0].name!r}",
        {"image_shape": facts.others[0].name, "image_shape_order": "wh"},
    )


def detr(facts: Facts) -> Match | None:
    """facebookresearch/detr and its kin in transformers: logits [1,Q,C], pred_boxes [1,Q,4] centre and size, relative."""
    found = {tensor.name: tensor for tensor in facts.outputs}
    if facts.picture is None or not {"logits", "pred_boxes"} <= set(found):
        return None
    logits = unbatched(found["logits"], 3)
    if logits is None:
        return None
    # DETR's last class is "no object" and its scores a softmax; 300 queries and more are scored by sigmoid, without one.
    old = logits[0] is not None and logits[0] <= 100
    classes = None if logits[1] is None else logits[1] - old
    return Match(
        {"scores": "logits", "boxes": "pred_boxes"},
        f"logits and pred_boxes of {logits[0] or 'some'} queries",
        {"activation": "softmax" if old else "sigmoid", "no_object": old},
        classes=classes,
        picture=None
        if old
        else Preparation("stretch", "RGB", *_UNIT, size=(640, 640), why="RT-DETR: stretched, RGB, 0…1", assumed=True),
    )


def end_to_end(facts: Facts) -> Match | None:
    """Ultralytics end-to-end (YOLOv10, or NMS exported): [1,K,6] corners in input pixels, score, class, best first."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or shape[1] != 6 or shape[0] is None or shape[0] > 1000:
        return None
    if facts.picture is None or _grid(facts, shape[0]) or _grid(facts, shape[0], 3):
        return None
    return Match({"detections": output.name}, f"one output of {shape[0]} rows of six numbers", _relative(facts))


def yolov7_end_to_end(facts: Facts) -> Match | None:
    """WongKinYiu/yolov7 export.py --end2end: [K,7] picture number, corners in input pixels, class, score."""
    output = facts.only()
    if output is None or facts.picture is None or len(output.shape) != 2 or sizes(output)[1] != 7:
        return None
    if sizes(output)[0] is not None:
        return None
    return Match({"detections": output.name}, "one output of any number of rows of seven numbers")


def yolov8(facts: Facts) -> Match | None:
    """Ultralytics YOLOv8, v9, v11: [1,4+C,N] centre and size, then a score for each class; no objectness."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or facts.picture is None or shape[0] is None or shape[0] < 5:
        return None
    strides = _grid(facts, shape[1])
    if strides is None and not (shape[1] is None and facts.task == "detect"):
        return None
    return Match(
        {"predictions": output.name},
        f"one output of {shape[0]} numbers for each of {shape[1] or 'the'} grid cells, without objectness",
        _relative(facts),
        classes=shape[0] - 4,
    )


def yolov5(facts: Facts) -> Match | None:
    """Ultralytics YOLOv5, WongKinYiu YOLOv7: [1,N,5+C] centre and size, objectness, classes; three anchors a cell, decoded."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or shape[1] is None or shape[1] < 6 or _grid(facts, shape[0], 3) is None:
        return None
    return Match(
        {"predictions": output.name},
        f"one output with three predictions of {shape[1]} numbers for each grid cell",
        _relative(facts),
        classes=shape[1] - 5,
    )


def nanodet(facts: Facts) -> Match | None:
    """RangiLyu/nanodet: [1,N,C+4(R+1)], class scores, then a distribution over R+1 distances for each side."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or shape[1] is None:
        return None
    strides = _grid(facts, shape[0])
    sides = 4 * 8  # R = 7 in every published configuration
    if strides is None or strides[0] != 8 or shape[1] <= sides:
        return None
    # [1,N,C] over three strides is also YOLOX's shape: the labels tell, else COCO's 80 classes, else the fourth stride.
    if facts.labels != shape[1] - sides and (facts.labels is not None or (strides == _P5 and shape[1] != 80 + sides)):
        return None
    return Match(
        {"predictions": output.name},
        f"one output of {shape[1]} = classes + 4 × 8 numbers for each cell of strides {', '.join(map(str, strides))}",
        {"strides": list(strides), "reg_max": 7, "activation": _activation(facts, output)},
        classes=shape[1] - sides,
    )


def nanodet_heads(facts: Facts) -> Match | None:
    """RangiLyu/nanodet as first exported: for each stride [1,N,C] class scores and [1,N,4(R+1)] distances."""
    if facts.picture is None or len(facts.outputs) not in {6, 8} or facts.others:
        return None
    roles: dict[str, str] = {}
    classes = None
    for stride in _P6[: len(facts.outputs) // 2]:
        pair = [tensor for tensor in facts.outputs if (unbatched(tensor, 3) or (None,))[0] == facts.cells([stride])]
        sides = [tensor for tensor in pair if sizes(tensor)[-1] == 32]
        scores = [tensor for tensor in pair if sizes(tensor)[-1] != 32]
        if len(sides) != 1 or len(scores) != 1:
            return None
        roles |= {f"scores{stride}": scores[0].name, f"sides{stride}": sides[0].name}
        classes = sizes(scores[0])[-1]
    strides = list(_P6[: len(facts.outputs) // 2])
    settings = {"strides": strides, "reg_max": 7, "activation": _activation(facts, facts.outputs[0])}
    return Match(roles, "class scores and side distributions for each stride", settings, classes=classes)


def yolox(facts: Facts) -> Match | None:
    """Megvii YOLOX: [1,N,5+C] centre and size, objectness, classes; one prediction a cell; usually not yet decoded."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or shape[1] is None or shape[1] < 6:
        return None
    strides = _grid(facts, shape[0])
    if strides is None:
        return None
    decoded = "Exp" in facts.info.ops or "EXP" in facts.info.ops
    said = "decoded in the graph (it has Exp)" if decoded else "not decoded (the graph has no Exp)"
    return Match(
        {"predictions": output.name},
        f"one output of {shape[1]} numbers for each cell of strides {', '.join(map(str, strides))}, {said}",
        {"strides": list(strides), "decoded": decoded},
        classes=shape[1] - 5,
    )


_ANCHORS = (
    "as lists of width, height in input pixels for each head, e.g. [[10,13, 16,30, 33,23], …] in the order of strides"
)


def yolo_heads(facts: Facts) -> Match | None:
    """Raw heads of YOLOv3 … v7 (pjreddie/darknet yolo_layer.c; AlexeyAB's scale_x_y): A×(5+C) numbers a cell, for each stride."""
    size = facts.size()
    if size is None or not 2 <= len(facts.outputs) <= 4 or facts.others:
        return None
    roles: dict[str, str] = {}
    layouts, widths = set(), set()
    for tensor in facts.outputs:
        found = _head(tensor, size)
        if found is None:
            return None
        stride, layout, width = found
        roles[f"head{stride}"] = tensor.name
        layouts.add(layout)
        widths.add(width)
    if len(roles) != len(facts.outputs) or len(layouts) != 1 or len(widths) != 1:
        return None
    width = widths.pop()
    return Match(
        dict(sorted(roles.items(), key=lambda item: int(item[0][4:]))),
        f"{len(roles)} feature maps of three times {width} numbers a cell",
        {"strides": sorted(int(role[4:]) for role in roles), "layout": layouts.pop()},
        classes=width - 5,
        questions=(
            Question("decode.anchors", f"the file does not hold the anchors: give them {_ANCHORS}"),
            Question(
                "decode.formula",
                'taken as "exp" (YOLOv3, v4: size = anchor × exp(t)); YOLOv5 and v7 need "square" (anchor × (2σ(t))²)',
                blocking=False,
            ),
        ),
    )


def _head(tensor: Tensor, size: tuple[int, int]) -> tuple[int, str, int] | None:
    """Stride, layout and numbers an anchor of a raw head with three anchors."""
    shape = unbatched(tensor, len(tensor.shape))
    if shape is None or None in shape:
        return None
    whole = [side for side in shape if side is not None]
    candidates: list[tuple[str, int, int, int]] = []
    if len(whole) == 4 and whole[2] == 3:
        candidates.append(("HWAC", whole[0], whole[1], whole[3]))
    if len(whole) == 4 and whole[0] == 3:
        candidates.append(("AHWC", whole[1], whole[2], whole[3]))
    if len(whole) == 3 and whole[2] % 3 == 0:
        candidates.append(("HWC", whole[0], whole[1], whole[2] // 3))
    if len(whole) == 3 and whole[0] % 3 == 0:
        candidates.append(("CHW", whole[1], whole[2], whole[0] // 3))
    for layout, height, width, numbers in candidates:
        for stride in (8, 16, 32, 64):
            if (height * stride, width * stride) == size and numbers > 5:
                return stride, layout, numbers
    return None


def yunet(facts: Facts) -> Match | None:
    """ShiqiYu/libfacedetection (OpenCV's YuNet): class, objectness, box and five points for strides 8, 16, 32."""
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in _P5]
    if facts.picture is None or _named(facts, *names) is None:
        return None
    return Match(
        {name.replace("_", ""): name for name in names},
        "its outputs have the names of YuNet",
        {"strides": list(_P5), "keypoints": 5},
        classes=1,
        names=("face",),
    )


def scores_boxes(facts: Facts) -> Match | None:
    """SSD-style: scores [1,N,C] and boxes [1,N,4]; Linzaer's Ultra-Light face detector is recognised by its priors."""
    if facts.picture is None or facts.others or len(facts.outputs) != 2:
        return None
    shapes = [unbatched(tensor, 3) for tensor in facts.outputs]
    boxes = [index for index, shape in enumerate(shapes) if shape is not None and shape[1] == 4]
    if None in shapes or len(boxes) != 1 or shapes[0][0] != shapes[1][0]:  # type: ignore[index]
        return None
    count, classes = shapes[1 - boxes[0]] or (None, None)
    roles = {"scores": facts.outputs[1 - boxes[0]].name, "boxes": facts.outputs[boxes[0]].name}
    if classes == 2 and count is not None and count == _ultra_light(facts):
        decoded = "Exp" in facts.info.ops
        return Match(
            roles,
            f"scores and boxes of the {count} priors of the Ultra-Light face detector"
            + ("" if decoded else ", not decoded (the graph has no Exp)"),
            {
                "coordinates": "relative", "boxes": "corners", "background": 0, "decoded": decoded,
                "activation": _activation(facts, facts.outputs[1 - boxes[0]], "softmax"),
                **({} if decoded else {"priors": "ultra-light", "variances": [0.1, 0.2]}),
            },
            classes=2,
            background=True,
            names=("background", "face"),
            picture=Preparation("stretch", "RGB", (127.0,), (128.0,), why="Ultra-Light face: RGB, (value − 127) / 128"),
        )  # fmt: skip
    return Match(
        roles,
        f"scores and boxes of {count or 'some'} candidates",
        {"decoded": True},
        classes=classes,
        questions=(
            Question("decode.coordinates", 'are boxes in "pixels" of the input or "relative" (0…1)?'),
            Question(
                "decode.boxes", 'are boxes "corners" (left, top, right, bottom) or "centre" (x, y, width, height)?'
            ),
            Question("decode.background", "which class is the background? Left out: none is", blocking=False),
        ),
    )


def _ultra_light(facts: Facts) -> int | None:
    """Number of priors: three, two, two and three sizes for cells of strides 8, 16, 32 and 64 (vision/ssd/config)."""
    counts = [facts.cells([stride]) for stride in _P6]
    return sum(count * many for count, many in zip(counts, (3, 2, 2, 3), strict=True) if count) if all(counts) else None


def rtdetr(facts: Facts) -> Match | None:
    """Ultralytics RT-DETR: [1,300,4+C] centre and size, relative, then a score for each class; no suppression needed."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or facts.picture is None or shape[0] != 300 or (shape[1] or 0) < 5:
        return None
    return Match(
        {"predictions": output.name},
        f"one output of {shape[1]} numbers for each of 300 queries",
        {"coordinates": "relative"},
        classes=None if shape[1] is None else shape[1] - 4,
    )


def _activation(facts: Facts, output: Tensor, usual: str = "sigmoid") -> str:
    """What is left to do to scores: nothing if the graph ends in it already."""
    return (
        "none" if facts.info.produced_by.get(output.name, "").upper() in {"SIGMOID", "LOGISTIC", "SOFTMAX"} else usual
    )


_IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_BOXES = {"threshold": 0.25, "iou": 0.45}

DETECTION = (
    Family(
        "tflite-ssd", "detection", "SSD, EfficientDet-Lite with TFLite_Detection_PostProcess", tflite_ssd,
        ("boxes", "classes", "scores", "count"),
        Preparation("stretch", "RGB", (127.5,), (127.5,), why="TensorFlow's SSD: stretched, RGB, −1…1"),
        {"threshold": 0.5},
    ),
    Family(
        "tf-detection", "detection", "TensorFlow object detection API with its outputs' names", tf_detection,
        ("boxes", "classes", "scores", "count"),
        Preparation("stretch", "RGB", (0.0,), (1.0,), size=(300, 300), why="the API normalises inside its graph"),
        {"threshold": 0.5},
    ),
    Family(
        "tiny-yolov3", "detection", "YOLOv3 and Tiny YOLOv3 of the ONNX model zoo", tiny_yolov3,
        ("boxes", "scores", "indices"),
        Preparation("letterbox", "RGB", *_UNIT, pad=128, size=(416, 416), why="keras-yolo3: letterbox on grey 128, RGB, 0…1"),
    ),
    Family("efficient-nms", "detection", "YOLO with EfficientNMS", efficient_nms,
           ("count", "boxes", "scores", "classes"), _YOLO, {"threshold": 0.25}),
    Family(
        "rtdetr-final", "detection", "RT-DETR, D-FINE with decoding inside", rtdetr_final, ("classes", "boxes", "scores"),
        Preparation("stretch", "RGB", *_UNIT, size=(640, 640), why="RT-DETR: stretched, RGB, 0…1"), {"threshold": 0.5},
    ),
    Family(
        "detr", "detection", "DETR, Deformable DETR, RT-DETR of transformers", detr, ("scores", "boxes"),
        Preparation("stretch", "RGB", *_IMAGENET, size=(800, 800), why="DETR: ImageNet's normalisation"), {"threshold": 0.5},
    ),
    Family("yolo-end-to-end", "detection", "YOLOv10, and YOLO exported with suppression", end_to_end, ("detections",),
           _YOLO, {"threshold": 0.25}),
    Family("yolov7-end-to-end", "detection", "YOLOv7 exported end to end", yolov7_end_to_end, ("detections",),
           _YOLO, {"threshold": 0.25}),
    Family("rtdetr", "detection", "RT-DETR of Ultralytics", rtdetr, ("predictions",),
           Preparation("stretch", "RGB", *_UNIT, size=(640, 640), why="RT-DETR: stretched, RGB, 0…1"), {"threshold": 0.25}),
    Family("yolov8", "detection", "YOLOv8, v9, v11", yolov8, ("predictions",), _YOLO, _BOXES),
    Family("yolov5", "detection", "YOLOv5, v7", yolov5, ("predictions",), _YOLO, _BOXES),
    Family(
        "nanodet", "detection", "NanoDet, NanoDet-Plus", nanodet, ("predictions",),
        nanodet_picture := Preparation(
            "stretch", "BGR", _IMAGENET[0][::-1], _IMAGENET[1][::-1], size=(416, 416), why="NanoDet's configurations: BGR, ImageNet's normalisation"
        ),
        {"threshold": 0.35, "iou": 0.6},
    ),
    Family("nanodet-heads", "detection", "NanoDet with an output for each stride", nanodet_heads,
           ("scores*", "sides*"), nanodet_picture, {"threshold": 0.35, "iou": 0.6}),
    Family(
        "yolox", "detection", "YOLOX", yolox, ("predictions",),
        Preparation("letterbox-corner", "BGR", (0.0,), (1.0,), 114, (416, 416), "YOLOX: top left on grey 114, BGR, 0…255"),
        {"threshold": 0.3, "iou": 0.45},
    ),
    Family(
        "yolo-heads", "detection", "YOLOv3 … v7, raw heads", yolo_heads, ("head*",), _YOLO,
        {**_BOXES, "formula": "exp"}, ("anchors", "scale_xy"),
    ),
    Family(
        "yunet", "detection", "YuNet faces", yunet, tuple(f"{kind}*" for kind in ("cls", "obj", "bbox", "kps")),
        Preparation("stretch", "BGR", (0.0,), (1.0,), why="YuNet: BGR, 0…255"), {"threshold": 0.6, "iou": 0.3},
    ),
    Family("scores-boxes", "detection", "SSD-style scores and boxes; Ultra-Light faces", scores_boxes, ("scores", "boxes"),
           defaults={"threshold": 0.5, "iou": 0.45}),
)  # fmt: skip
"""Rows in the order in which they are tried: the more particular first."""
