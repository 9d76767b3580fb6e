"""From a model's outputs to an answer: one decoder for each row of ``docs/formats/recognition.md``.

A decoder is made once for a loaded version, from what the manifest says about it, and then called for every picture. Its
answer is the members of ``/score``'s JSON that belong to the task: ``detections``, ``classes``, ``poses`` …
"""

from __future__ import annotations

from collections.abc import Callable

from farshore.core.errors import Invalid
from farshore.serve.tasks import classification, dense, detection, image, keypoints, masks, segmentation, tensors
from farshore.serve.tasks.subject import Decoder, Subject

DECODERS: dict[str, Callable[[Subject], Decoder]] = {
    "classification": classification.Classification,
    "deeplab": segmentation.ClassMap,
    "detr": dense.Detr,
    "efficient-nms": detection.Final,
    "heatmaps": keypoints.HeatMaps,
    "image-to-image": image.ImageToImage,
    "movenet": keypoints.MoveNet,
    "movenet-multipose": keypoints.MoveNetMultiPose,
    "nanodet": dense.NanoDet,
    "nanodet-heads": dense.NanoDetHeads,
    "rtdetr": dense.RtDetr,
    "rtdetr-final": detection.Final,
    "scores-boxes": dense.ScoresBoxes,
    "tensors": tensors.Tensors,
    "tf-detection": detection.TfliteSsd,
    "tflite-ssd": detection.TfliteSsd,
    "tiny-yolov3": detection.TinyYoloV3,
    "yolo-end-to-end": detection.Rows,
    "yolo-heads": dense.YoloHeads,
    "yolov5": dense.YoloV5,
    "yolov5-seg": masks.YoloV5Seg,
    "yolov7-end-to-end": detection.RowsOfYoloV7,
    "yolov8": dense.YoloV8,
    "yolov8-seg": masks.YoloV8Seg,
    "yolov8-pose": keypoints.YoloPose,
    "yolox": dense.Yolox,
    "yunet": dense.YuNet,
}


def decoder(subject: Subject) -> Decoder:
    """The decoder that the manifest names.

    Raises:
        Invalid: this server has none of that name, or the manifest lacks what it needs.

    """
    name = subject.pipeline.decoder
    if name not in DECODERS:
        raise Invalid(f"this server has no decoder {name!r}; it has {', '.join(sorted(DECODERS))}")
    return DECODERS[name](subject)
