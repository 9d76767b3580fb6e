"""Rows of the recognition table: models that answer with anything but boxes alone."""

from __future__ import annotations

from farshore.core.manifest import Tensor
from farshore.formats.detection_families import DETECTION
from farshore.formats.family import Facts, Family, Match, Preparation, sizes, unbatched

_YOLO = next(family.picture for family in DETECTION if family.decoder == "yolov8")
_IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def movenet(facts: Facts) -> Match | None:
    """tfhub.dev/google/movenet/singlepose: [1,1,17,3] of y, x, score; relative to the input."""
    output = facts.only()
    if output is None or facts.picture is None or sizes(output) != (1, 1, 17, 3):
        return None
    return Match({"keypoints": output.name}, "one output [1, 1, 17, 3]: y, x, score of 17 points", {"keypoints": 17})


def movenet_multipose(facts: Facts) -> Match | None:
    """tfhub.dev/google/movenet/multipose: [1,6,56], 17 points of y, x, score, then a box and its score."""
    output = facts.only()
    if output is None or facts.picture is None or unbatched(output, 3) != (6, 56):
        return None
    return Match({"poses": output.name}, "one output [1, 6, 56]: six people of 17 points and a box", {"keypoints": 17})


def yolov8_pose(facts: Facts) -> Match | None:
    """Ultralytics pose: [1,5+3K,N] centre and size, score, then K points of x, y, visibility."""
    output = facts.only()
    shape = unbatched(output, 3) if output is not None else None
    if output is None or shape is None or facts.picture is None or shape[0] is None:
        return None
    cells = facts.cells((8, 16, 32))
    if facts.task != "pose" and not (
        shape[0] == 56 and shape[1] is not None and shape[1] == cells and facts.labels in {None, 1}
    ):
        return None
    points, left = divmod(shape[0] - 5, 3)
    if points < 1 or left:
        return None
    return Match(
        {"predictions": output.name},
        f"one output of {shape[0]} = 5 + 3 × {points} numbers for each grid cell",
        {"keypoints": points, "coordinates": "relative" if facts.info.format == "tflite" else "pixels"},
        classes=1,
        names=("person",) if points == 17 else (),
    )


def _protos(facts: Facts) -> tuple[Tensor, Tensor] | None:
    """Predictions and mask prototypes of a segmenting YOLO: 32 maps at a quarter of the input's size."""
    size = facts.size()
    if len(facts.outputs) != 2 or facts.others or size is None:
        return None
    quarter = (size[0] // 4, size[1] // 4)
    for index, tensor in enumerate(facts.outputs):
        shape = unbatched(tensor, 4)
        if shape in {(32, *quarter), (*quarter, 32)} and len(facts.outputs[1 - index].shape) == 3:
            return facts.outputs[1 - index], tensor
    return None


def yolov8_seg(facts: Facts) -> Match | None:
    """Ultralytics segmentation: [1,4+C+32,N], and 32 mask prototypes."""
    found = _protos(facts)
    shape = unbatched(found[0], 3) if found is not None else None
    if found is None or shape is None or shape[0] is None or shape[0] <= 36 or shape[1] != facts.cells((8, 16, 32)):
        return None
    return Match(
        {"predictions": found[0].name, "prototypes": found[1].name},
        f"{shape[0]} = 4 + classes + 32 numbers for each grid cell, and 32 mask prototypes",
        {"coordinates": "relative" if facts.info.format == "tflite" else "pixels"},
        classes=shape[0] - 36,
    )


def yolov5_seg(facts: Facts) -> Match | None:
    """Ultralytics YOLOv5 segmentation: [1,N,5+C+32], three anchors a cell, and 32 mask prototypes."""
    found = _protos(facts)
    shape = unbatched(found[0], 3) if found is not None else None
    cells = facts.cells((8, 16, 32))
    if found is None or shape is None or cells is None or shape[0] != 3 * cells or (shape[1] or 0) <= 37:
        return None
    return Match(
        {"predictions": found[0].name, "prototypes": found[1].name},
        f"three predictions of {shape[1]} = 5 + classes + 32 numbers for each grid cell, and 32 mask prototypes",
        {"coordinates": "relative" if facts.info.format == "tflite" else "pixels"},
        classes=None if shape[1] is None else shape[1] - 37,
    )


def classification(facts: Facts) -> Match | None:
    """One number for each class: [1,C], or with single spatial positions left over."""
    output = facts.only()
    if output is None or facts.picture is None or len(output.shape) not in {2, 4}:
        return None
    batch, *rest = sizes(output)
    many = [size for size in rest if size != 1]
    if batch not in {1, None} or len(many) != 1 or many[0] is None or rest.index(many[0]) not in {0, len(rest) - 1}:
        return None
    scores, said = _scored(facts, output)
    return Match(
        {"scores": output.name},
        f"one output of {many[0]} numbers; {said}",
        {"softmax": not scores},
        classes=many[0],
        picture=_imagenet(many[0], facts.picture.layout),
    )


def _scored(facts: Facts, output: Tensor) -> tuple[bool, str]:
    """Whether numbers are scores already (0…1), and how that shows."""
    maker = facts.info.produced_by.get(output.name, "")
    if maker.upper() in {"SOFTMAX", "SIGMOID", "LOGISTIC"}:
        return True, f"the graph ends in {maker}: scores"
    if output.scale is not None and 1 / 257 < output.scale < 1 / 254:
        return True, "quantised in 256 steps of 0…1: scores"
    return False, f"the graph ends in {maker or 'no operator'}: logits"


def _imagenet(classes: int, layout: str) -> Preparation | None:
    """What models of ImageNet's classes usually take: torchvision's and TensorFlow's lists differ by the background."""
    if classes == 1000 and layout == "NCHW":
        why = "1000 classes, channels first, as torchvision's ImageNet models: their normalisation"
        return Preparation("stretch", "RGB", *_IMAGENET, why=why, assumed=True)
    if classes == 1001 and layout == "NHWC":
        why = "1001 classes, channels last, as TensorFlow's ImageNet models: −1…1"
        return Preparation("stretch", "RGB", (127.5,), (127.5,), why=why, assumed=True)
    return None


def _map(facts: Facts, output: Tensor) -> tuple[str, int | None, int, int] | None:
    """Layout, channels, height and width of an output that covers the picture; channels None if it holds class numbers."""
    shape, size = unbatched(output, len(output.shape)), facts.size()
    if shape is None or size is None or None in shape:
        return None
    whole = [side for side in shape if side is not None]
    integers = output.dtype.startswith(("int", "uint")) and output.scale is None
    found: tuple[str, int | None, int, int] | None = None
    if len(whole) == 2:
        found = ("HW", None, whole[0], whole[1])
    elif len(whole) == 3 and integers and 1 in {whole[0], whole[2]}:
        sides = whole[1:] if whole[0] == 1 else whole[:2]
        found = ("HW", None, sides[0], sides[1])
    elif len(whole) == 3 and facts.picture is not None:
        if facts.picture.layout == "NCHW":
            found = ("CHW", whole[0], whole[1], whole[2])
        else:
            found = ("HWC", whole[2], whole[0], whole[1])
    return found if found is not None and min(found[2:]) >= 8 else None


def deeplab(facts: Facts) -> Match | None:
    """A class, or a number for each class, for each pixel (tensorflow/models deeplab; torchvision segmentation)."""
    output, size = facts.only(), facts.size()
    found = _map(facts, output) if output is not None else None
    if output is None or size is None or found is None:
        return None
    layout, channels, height, width = found
    if height * 8 < size[0] or width * 8 < size[1]:
        return None  # too coarse for a map: a feature grid
    if channels is None and not output.dtype.startswith(("int", "uint")):
        return None  # a depth or saliency map
    if channels is not None and (
        channels < 2 or (channels == 3 and facts.labels != 3 and facts.task != "segmentation")
    ):
        return None
    said = "class numbers" if channels is None else f"{channels} numbers"
    return Match({"map": output.name}, f"one output with {said} for each of {height}×{width} places", {"layout": layout},
                 classes=channels)  # fmt: skip


_POINTS = frozenset({14, 16, 17, 18, 133})  # CrowdPose, MPII, COCO, OpenPose, COCO-WholeBody


def heatmaps(facts: Facts) -> Match | None:
    """HRNet, SimpleBaseline and kin: [1,K,H/4,W/4], the place of each point is the maximum of its map."""
    output, size = facts.only(), facts.size()
    found = _map(facts, output) if output is not None else None
    if (
        output is None
        or size is None
        or found is None
        or found[1] not in _POINTS
        or facts.labels not in {None, found[1]}
    ):
        return None
    if (found[2] * 4, found[3] * 4) != size:
        return None
    return Match(
        {"heatmaps": output.name},
        f"{found[1]} maps of a quarter of the input's size: one for each point of a body",
        {"layout": found[0], "keypoints": found[1]},
        picture=Preparation("letterbox", "RGB", *_IMAGENET, why="MMPose, HRNet: ImageNet's normalisation"),
    )


def image_to_image(facts: Facts) -> Match | None:
    """A picture in, a picture of three channels out, as large or larger (style, super-resolution, denoising)."""
    output, size = facts.only(), facts.size()
    found = _map(facts, output) if output is not None else None
    if output is None or size is None or found is None or found[1] not in {1, 3}:
        return None
    if found[2] < size[0] or found[3] < size[1] or output.dtype.startswith(("int64", "int32")):
        return None
    return Match(
        {"picture": output.name},
        f"one output of {found[1]} channels, {found[2]}×{found[3]}: a picture",
        {"layout": found[0], "range": _range(facts, output)},
    )


def _range(facts: Facts, output: Tensor) -> list[float]:
    """Values of an output picture that stand for black and white."""
    maker = facts.info.produced_by.get(output.name, "").upper()
    if output.dtype == "uint8" or maker in {"MUL", "CLIP"}:
        return [0.0, 255.0]
    return [-1.0, 1.0] if maker == "TANH" else [0.0, 1.0] if maker in {"SIGMOID", "LOGISTIC"} else [0.0, 255.0]


def tensors(facts: Facts) -> Match:
    """Anything else: each output under its own name."""
    return Match({tensor.name: tensor.name for tensor in facts.outputs}, "no row of the table fits")


OTHERS = (
    Family("movenet", "keypoints", "MoveNet single pose", movenet, ("keypoints",),
           Preparation("letterbox", "RGB", (0.0,), (1.0,), why="MoveNet: padded to a square, RGB, 0…255")),
    Family("movenet-multipose", "keypoints", "MoveNet multi-pose", movenet_multipose, ("poses",),
           Preparation("letterbox", "RGB", (0.0,), (1.0,), size=(256, 256), why="MoveNet: padded to a square, RGB, 0…255"),
           {"threshold": 0.3}),
    Family("yolov8-pose", "keypoints", "YOLOv8-pose, YOLO11-pose", yolov8_pose, ("predictions",), _YOLO,
           {"threshold": 0.25, "iou": 0.45}),
    Family("yolov8-seg", "segmentation", "YOLOv8-seg, YOLO11-seg", yolov8_seg, ("predictions", "prototypes"), _YOLO,
           {"threshold": 0.25, "iou": 0.45}),
    Family("yolov5-seg", "segmentation", "YOLOv5-seg", yolov5_seg, ("predictions", "prototypes"), _YOLO,
           {"threshold": 0.25, "iou": 0.45}),
    Family("classification", "classification", "anything with one number a class", classification, ("scores",)),
    Family("heatmaps", "keypoints", "HRNet, SimpleBaseline: a map for each point", heatmaps, ("heatmaps",),
           defaults={"threshold": 0.3}),
    Family("deeplab", "segmentation", "a class for each pixel: DeepLab, FCN, SegFormer", deeplab, ("map",)),
    Family("image-to-image", "image-to-image", "a picture in, a picture out", image_to_image, ("picture",)),
)  # fmt: skip
"""Rows in the order in which they are tried, after some of detection's; see :mod:`farshore.formats.families`."""

TENSORS = Family("tensors", "tensors", "anything else, by tensors", tensors, ())
