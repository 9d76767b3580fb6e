"""From a model's outputs to an answer: one decoder for each row of ``docs/formats/recognition.md``.

A decoder is made once for a loaded version, from what the manifest says about it, and then called for every picture. Its
answer is the members of ``/score``'s JSON that belong to the task: ``detections``, ``classes``, ``poses`` …
"""

from __future__ import annotations

from collections.abc import Callable

from farshore.core.errors import Invalid
from farshore.serve.tasks import classification, detection, keypoints, segmentation, tensors
from farshore.serve.tasks.subject import Decoder, Subject

DECODERS: dict[str, Callable[[Subject], Decoder]] = {
    "tflite-ssd": detection.TfliteSsd,
    "tiny-yolov3": detection.TinyYoloV3,
    "classification": classification.Classification,
    "movenet": keypoints.MoveNet,
    "deeplab": segmentation.ClassMap,
    "tensors": tensors.Tensors,
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
