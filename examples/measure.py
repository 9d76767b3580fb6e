"""Ask an exported detector what is in pictures, and measure how good its answers are.

Needs NumPy, Pillow and the model's runtime (onnxruntime or ai-edge-litert).

    python examples/measure.py src/farshore/cli/demo_assets/v2/detector.onnx --scenes 200
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scenes import LABELS, Scene, Thing, draw_scene

Box = tuple[float, float, float, float]  # top, left, bottom, right
Floats = NDArray[np.float32]

PADDING = 128  # grey around a letterboxed picture


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that a detector says it sees. `box` is (top, left, bottom, right) in pixels of the picture."""

    label: str
    score: float
    box: Box


Detect = Callable[[Image.Image], list[Answer]]


def letterbox(picture: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    """The whole picture in the middle of a grey square, its shape kept."""
    scale = side / max(picture.size)
    inner = picture.resize((round(picture.width * scale), round(picture.height * scale)), resample)
    square = Image.new("RGB", (side, side), (PADDING, PADDING, PADDING))
    square.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
    return square


def onnx_detector(model: Path, labels: Sequence[str] = LABELS, threads: int = 1) -> Detect:
    """Open an ONNX detector with Tiny YOLOv3's inputs and outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[2]

    def detect(picture: Image.Image) -> list[Answer]:
        pixels = np.asarray(letterbox(picture, side), np.float32).transpose(2, 0, 1)[None] / 255
        shape = np.array([[picture.height, picture.width]], np.float32)
        boxes, scores, indices = session.run(None, {"input_1": pixels, "image_shape": shape})
        return [
            Answer(labels[label], float(scores[0, label, box]), _box(boxes[0, box])) for _, label, box in indices[0]
        ]

    return detect


def litert_detector(model: Path, labels: Sequence[str] = LABELS, threads: int = 1) -> Detect:
    """Open a LiteRT detector that ends in TFLite_Detection_PostProcess."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=threads)
    interpreter.allocate_tensors()
    picture_in = interpreter.get_input_details()[0]
    side = picture_in["shape"][1]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def detect(picture: Image.Image) -> list[Answer]:
        stretched = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
        interpreter.set_tensor(picture_in["index"], stretched[None])
        interpreter.invoke()
        boxes, classes, scores, count = (interpreter.get_tensor(index) for index in outputs)
        whole = np.array([picture.height, picture.width] * 2, np.float32)
        return [
            Answer(labels[int(classes[0, i])], float(scores[0, i]), _box(np.clip(boxes[0, i], 0, 1) * whole))
            for i in range(int(count[0]))
        ]

    return detect


def open_detector(model: Path, labels: Sequence[str] = LABELS) -> Detect:
    """Open a detector by the kind of its file."""
    return (onnx_detector if model.suffix == ".onnx" else litert_detector)(model, labels)


def _box(edges: Floats) -> Box:
    top, left, bottom, right = (float(edge) for edge in edges)
    return (top, left, bottom, right)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total if total > 0 else 0.0


def found(thing: Thing, answers: Iterable[Answer], score: float = 0.5, iou: float = 0.5) -> bool:
    """Whether one of the answers names the thing and boxes it well enough."""
    return any(a.label == thing.label and a.score >= score and overlap(a.box, thing.box) >= iou for a in answers)


def average_precision(truth: Sequence[Sequence[Thing]], answers: Sequence[Sequence[Answer]], label: str) -> float:
    """Area under the precision-recall curve of one class at IoU 0.5, every point interpolated as Pascal VOC 2010 does.

    Args:
        truth: the things of each picture.
        answers: what the detector said of each picture, in the same order.
        label: the class.

    Returns:
        0..1; NaN if the class is in none of the pictures.

    """
    total = sum(thing.label == label for things in truth for thing in things)
    if not total:
        return float("nan")
    ranked = sorted(
        ((a.score, picture, a.box) for picture, said in enumerate(answers) for a in said if a.label == label),
        key=lambda row: -row[0],
    )
    taken: set[tuple[int, int]] = set()
    hits = np.zeros(len(ranked))
    for rank, (_, picture, box) in enumerate(ranked):
        rivals = [(overlap(box, t.box), i) for i, t in enumerate(truth[picture]) if t.label == label]
        best, index = max(rivals, default=(0.0, -1))
        if best >= 0.5 and (picture, index) not in taken:
            taken.add((picture, index))
            hits[rank] = 1
    recall = np.concatenate([[0.0], np.cumsum(hits) / total])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope))


def mean_average_precision(detect: Detect, scenes: Sequence[Scene]) -> dict[str, float]:
    """Average precision by class, and the mean of the classes that occur as `mean`."""
    answers = [detect(scene.picture) for scene in scenes]
    truth = [scene.things for scene in scenes]
    by_label = {label: average_precision(truth, answers, label) for label in LABELS}
    return {**by_label, "mean": float(np.nanmean(list(by_label.values())))}


def held_out(count: int) -> list[Scene]:
    """The first scenes of the held-out set: no training picture comes from these seeds. One in four is fair."""
    return [draw_scene(seed, "fair" if seed % 4 == 0 else "rough") for seed in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure exported detectors on scenes they have never seen.")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--scenes", type=int, default=200)
    arguments = parser.parse_args()
    scenes = held_out(arguments.scenes)
    for model in arguments.models:
        detect = open_detector(model)
        detect(scenes[0].picture)
        start = time.process_time()
        quality = mean_average_precision(detect, scenes)
        each = (time.process_time() - start) / len(scenes) * 1000
        row = "  ".join(f"{label} {value:.3f}" for label, value in quality.items())
        print(f"{model}: AP@0.5  {row}  ({each:.1f} ms of CPU per picture, resizing included)")


if __name__ == "__main__":
    main()
