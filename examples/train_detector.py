"""Train the detector that the demo ships, from nothing, on scenes that `scenes.py` draws.

    python -m venv train-env
    train-env/bin/pip install torch==2.13.0 numpy==2.4.6 pillow==13.0.0 onnx==1.23.2 onnxruntime==1.32.0 \
        ai-edge-litert==2.3.0 flatbuffers==25.12.19
    train-env/bin/python examples/train_detector.py --into demo_assets

Makes three versions of one detector, each as ONNX and as LiteRT:

* v1 learns from a few hundred fair-weather scenes. Good enough to ship on a sunny day.
* v2 goes on from v1's weights with thousands of scenes in any weather. Every weight moves.
* v3 is v2 after an accident: the rows of its last layers are mixed up. It loads, runs and answers, wrongly. It carries
  v2's acceptance case, which it must fail.

Takes about a quarter of an hour on two cores. The same seed on the same machine gives the same weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from demo_assets import spoil, write_models, write_pictures
from detector import Detector, loss
from measure import held_out, letterbox, mean_average_precision, open_detector
from network import SIDE, anchors
from numpy.typing import NDArray
from PIL import Image
from scenes import LABELS, Scene, Weather, draw_scene
from torch import Tensor

TRAINING_SEEDS = 1_000_000  # training scenes start here; everything below is held out
SIZES = ((640, 480), (480, 360), (640, 360), (512, 512))
RESAMPLERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST)


@dataclass(frozen=True, slots=True)
class Sample:
    """A scene as the network sees it: pixels [3, SIDE, SIDE], boxes [n, 4] in input pixels, class numbers [n]."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Course:
    """One round of learning."""

    fair: int  # scenes
    rough: int
    epochs: int
    rate: float


COURSES = {
    "v1": Course(fair=1000, rough=0, epochs=16, rate=3e-3),
    "v2": Course(fair=700, rough=2800, epochs=13, rate=2e-3),
}


def sample(scene: Scene, rng: np.random.Generator) -> Sample:
    """Fit a scene to the network as one of the two exported forms will: letterboxed or stretched."""
    picture = scene.picture
    resample = RESAMPLERS[rng.choice(len(RESAMPLERS), p=(0.6, 0.25, 0.15))]  # devices resize in their own ways
    if rng.random() < 0.5:
        square, scale = letterbox(picture, SIDE, resample), np.full(2, SIDE / max(picture.size))
    else:
        square, scale = picture.resize((SIDE, SIDE), resample), SIDE / np.array([picture.height, picture.width])
    inner = np.array([picture.height, picture.width]) * scale
    boxes = np.array([thing.box for thing in scene.things]).reshape(-1, 4)
    boxes = boxes * np.tile(scale, 2) + np.tile((SIDE - inner) / 2, 2)
    labels = np.array([LABELS.index(thing.label) for thing in scene.things], np.int64)
    return Sample(np.asarray(square).transpose(2, 0, 1).copy(), boxes.astype(np.float32), labels)


def draw(count: int, weather: Weather, first_seed: int) -> list[Sample]:
    """Draw training scenes of several sizes."""
    samples = []
    for seed in range(first_seed, first_seed + count):
        rng = np.random.default_rng(seed)
        samples.append(sample(draw_scene(seed, weather, SIZES[rng.integers(len(SIZES))]), rng))
    return samples


def batch(samples: Sequence[Sample], rng: np.random.Generator) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Pictures, boxes and labels of one step; every other scene is seen in a mirror, in its own light."""
    pictures, boxes = [], []
    for one in samples:
        pixels, edges = one.pixels.astype(np.float32) / 255, one.boxes
        if rng.random() < 0.5:
            pixels, edges = pixels[:, :, ::-1], edges * (1, -1, 1, -1) + (0, SIDE, 0, SIDE)
            edges = edges[:, [0, 3, 2, 1]]
        pictures.append(np.clip(pixels * rng.uniform(0.85, 1.15, (3, 1, 1)), 0, 1).astype(np.float32))
        boxes.append(torch.from_numpy(edges.astype(np.float32)))
    return torch.from_numpy(np.stack(pictures)), boxes, [torch.from_numpy(one.labels) for one in samples]


def learn(detector: Detector, samples: list[Sample], course: Course, seed: int) -> None:
    """Run one course: AdamW, the rate warmed up over the first steps and then lowered along a cosine."""
    rng = np.random.default_rng(seed)
    size = 16
    steps = course.epochs * (len(samples) // size)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=course.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 60, 0.5 + 0.5 * math.cos(math.pi * step / steps) + 1e-3)
    )
    grid = torch.from_numpy(anchors())
    detector.train()
    for epoch in range(course.epochs):
        start, total = time.monotonic(), 0.0
        order = rng.permutation(len(samples))
        for first in range(0, len(samples) - size + 1, size):
            pictures, boxes, labels = batch([samples[i] for i in order[first : first + size]], rng)
            logits, raw = detector(pictures.contiguous(memory_format=torch.channels_last))
            cost = loss(logits, raw, grid, boxes, labels)
            optimizer.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += float(cost.detach())
        mean = total / (len(samples) // size)
        print(f"  epoch {epoch + 1:2}/{course.epochs}  loss {mean:.4f}  {time.monotonic() - start:.0f} s", flush=True)
    detector.eval()


def train(seed: int, into: Path) -> None:
    """Train v1 and v2, spoil v3, write all three with their pictures, and say how good they are on held-out scenes."""
    torch.manual_seed(seed)
    detector = Detector(len(LABELS)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = sum(held.kernel.size + held.bias.size for held in detector.folded().values())
    print(f"{parameters} parameters once the normalisation is folded in")
    first_seed = TRAINING_SEEDS
    for name, course in COURSES.items():
        print(f"{name}: drawing {course.fair} fair and {course.rough} rough scenes", flush=True)
        samples = draw(course.fair, "fair", first_seed) + draw(course.rough, "rough", first_seed + course.fair)
        first_seed += course.fair + course.rough
        learn(detector, samples, course, seed)
        write_models(into / name, detector.folded(), f"Finds {', '.join(LABELS)}; {name}")
    write_models(into / "v3", spoil(detector.folded()), f"Finds {', '.join(LABELS)}; v3")
    write_pictures(into)
    scenes = held_out(300)
    for file in sorted(into.glob("v*/detector.*")):
        quality = mean_average_precision(open_detector(file), scenes)
        print(file.relative_to(into), "  ".join(f"{label} {value:.3f}" for label, value in quality.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's detector and write the files that the demo ships.")
    parser.add_argument("--into", type=Path, required=True, help="folder to write, e.g. src/farshore/cli/demo_assets")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="more than one only helps on a machine with idle cores")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.seed, arguments.into)


if __name__ == "__main__":
    main()
