"""Lay out what the demo ships: three versions of a detector in two forms, pictures, acceptance cases.

    v1/ v2/ v3/           detector.onnx  detector.tflite  labels.txt  acceptance/{*.jpg, expected.json}
    pictures/             scene-*.jpg    expected.json (what v2 answers)

Acceptance cases hold for both forms of a version, so a picture becomes one only if both forms find everything in it,
agree about it, and are sure enough that another processor's rounding cannot tip them over the threshold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from export_litert import to_litert
from export_onnx import to_onnx
from measure import Answer, Detect, found, litert_detector, onnx_detector, overlap
from network import Weights
from PIL import Image
from scenes import LABELS, Scene, Weather, draw_scene

THRESHOLD = 0.5
DOUBT = (0.35, 0.6)  # no answer of an acceptance case may have a score in here
AGREEMENT = 0.8  # IoU of the two forms' boxes
HELD_OUT_FROM = 50_000  # seeds of the shipped pictures; training starts at 1 000 000
NOTE = (
    "picture decoded to RGB; ONNX: letterboxed bilinearly on grey 128, 0..1; LiteRT: stretched bilinearly, uint8; "
    "score and box are the mean of the two forms on x86-64"
)


def spoil(weights: Mapping[str, Weights]) -> dict[str, Weights]:
    """The accident of v3: the output channels of the last layers move on by one, so every class and edge is another."""
    return {
        name: replace(held, kernel=np.roll(held.kernel, 1, axis=0), bias=np.roll(held.bias, 1))
        if name.endswith("/out")
        else held
        for name, held in weights.items()
    }


def write_models(folder: Path, weights: Mapping[str, Weights], description: str) -> None:
    """Write both forms of a version and its labels."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "detector.onnx").write_bytes(to_onnx(weights, LABELS, {"description": description}))
    (folder / "detector.tflite").write_bytes(to_litert(weights, len(LABELS), description))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")


def write_pictures(into: Path) -> None:
    """Choose pictures for the versions already in `into`, and write them with the answers that they must give."""
    v1, v2 = _forms(into / "v1"), _forms(into / "v2")
    fair = next(_cases(v1, "fair", 3, HELD_OUT_FROM, (480, 360)))
    rough = next(case for case in _cases(v2, "rough", 4, HELD_OUT_FROM, (480, 360)) if not _finds_all(v1, *case[:2]))
    calm = next(case for case in _cases(v2, "fair", 4, HELD_OUT_FROM + 1000, (640, 480)))
    storms = _cases(v2, "rough", 4, HELD_OUT_FROM + 1000, (640, 480))
    shown = [calm[1], *(next(storms)[1] for _ in range(3))]
    _write_cases(into / "v1" / "acceptance", v1, [fair[1]])
    both = [fair[1], rough[1]] if _agreed(v2, _open(fair[1])) else [rough[1]]
    for version in ("v2", "v3"):
        _write_cases(into / version / "acceptance", v2, both)
    _write_cases(into / "pictures", v2, shown)


Forms = tuple[Detect, Detect]
Case = tuple[Scene, bytes]  # a scene and its JPEG file


def _forms(folder: Path) -> Forms:
    return onnx_detector(folder / "detector.onnx"), litert_detector(folder / "detector.tflite")


def _open(jpeg: bytes) -> Image.Image:
    return Image.open(BytesIO(jpeg)).convert("RGB")


def _cases(forms: Forms, weather: Weather, fewest: int, first_seed: int, size: tuple[int, int]) -> Iterator[Case]:
    """Held-out scenes with at least so many things, three classes among them, that both forms answer fully and alike."""
    for seed in range(first_seed, first_seed + 1000):
        scene = draw_scene(seed, weather, size)
        if len(scene.things) < fewest or len({thing.label for thing in scene.things}) < 3:
            continue
        file = BytesIO()
        scene.picture.save(file, "JPEG", quality=88)
        jpeg = file.getvalue()
        answers = _agreed(forms, _open(jpeg))
        if len(answers) == len(scene.things) and all(found(thing, answers) for thing in scene.things):
            yield scene, jpeg


def _finds_all(forms: Forms, scene: Scene, jpeg: bytes) -> bool:
    answers = _agreed(forms, _open(jpeg))
    return all(found(thing, answers) for thing in scene.things)


def _agreed(forms: Forms, picture: Image.Image) -> list[Answer]:
    """What both forms say, as the mean of the two, best first; nothing if they differ or hesitate."""
    first, second = (detect(picture) for detect in forms)
    if any(DOUBT[0] < answer.score < DOUBT[1] for answer in (*first, *second)):
        return []
    sure, other = ([a for a in answers if a.score >= THRESHOLD] for answers in (first, second))
    together = []
    for a in sure:
        b = max(other, key=lambda b: overlap(a.box, b.box) if a.label == b.label else -1.0, default=None)
        if b is None or a.label != b.label or overlap(a.box, b.box) < AGREEMENT or abs(a.score - b.score) > 0.1:
            return []
        top, left, bottom, right = ((p + q) / 2 for p, q in zip(a.box, b.box, strict=True))
        together.append(Answer(a.label, (a.score + b.score) / 2, (top, left, bottom, right)))
    return sorted(together, key=lambda answer: -answer.score) if len(sure) == len(other) else []


def _write_cases(folder: Path, forms: Forms, pictures: Sequence[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, list[dict[str, object]]] = {}
    for number, jpeg in enumerate(pictures, start=1):
        name = f"scene-{number}.jpg"
        (folder / name).write_bytes(jpeg)
        expected[name] = [
            {"class": a.label, "score": round(a.score, 3), "box": [round(edge, 1) for edge in a.box]}
            for a in _agreed(forms, _open(jpeg))
        ]
    document = {
        "model": "detector", "threshold": THRESHOLD, "box": "[top, left, bottom, right] in pixels of the picture",
        "how": NOTE, "answers": expected,
    }  # fmt: skip
    (folder / "expected.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
