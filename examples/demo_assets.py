"""Lay out what the demo ships: three versions of a detector in two forms, pictures, acceptance cases.

    v1/ v2/ v3/           detector.onnx  detector.tflite  labels.txt  acceptance/{*.jpg, expected.json}
    pictures/             scene-*.jpg    expected.json (what v2 answers)

Acceptance cases hold for both forms of a version, so a picture becomes one only if both forms find everything in it,
agree about it, and are sure enough that another processor's rounding cannot tip them over the threshold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from export_litert import to_litert
from export_onnx import to_onnx
from measure import Answer, Detect, found, litert_detector, onnx_detector, overlap
from network import Weights
from PIL import Image
from scenes import LABELS, Thing, Weather, draw_scene

THRESHOLD = 0.5
DOUBT = (0.4, 0.57)  # no answer of an acceptance case may have a score in here
BOX_AGREEMENT = 0.7  # IoU of the two forms' boxes
SCORE_AGREEMENT = 0.12
JPEG_QUALITY = 75
SEARCHED = 10_000  # seeds looked through for pictures of one kind
HELD_OUT_FROM = 50_000  # seeds of the shipped pictures; training starts at 1 000 000
HOW = (
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
    (folder / "detector.onnx").write_bytes(to_onnx(weights, LABELS, description))
    (folder / "detector.tflite").write_bytes(to_litert(weights, len(LABELS), description))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")


def write_pictures(into: Path) -> None:
    """Choose pictures for the versions already in `into`, and write them with the answers that they must give.

    v1 is asked about a calm scene. v2 is asked about the same one and about one in which v1 misses something; so is v3,
    which cannot answer. The pictures to show around are one calm scene and three in rough weather.
    """
    v1, v2 = Forms.of(into / "v1"), Forms.of(into / "v2")
    small, large = (480, 360), (640, 480)
    elsewhere = HELD_OUT_FROM + SEARCHED  # so that no picture to show around is also an acceptance case
    (fair,) = _first(1, (case for case in _cases(v1, "fair", 3, HELD_OUT_FROM, small) if _finds_all(v2, case)))
    (rough,) = _first(1, (case for case in _cases(v2, "rough", 3, HELD_OUT_FROM, small) if not _finds_all(v1, case)))
    _write_cases(into / "v1" / "acceptance", v1, [fair])
    for version in ("v2", "v3"):
        _write_cases(into / version / "acceptance", v2, [fair, rough])
    calm = _first(1, _cases(v2, "fair", 4, elsewhere, large))
    storms = _first(3, _cases(v2, "rough", 4, elsewhere, large))
    _write_cases(into / "pictures", v2, calm + storms)


def _first(count: int, cases: Iterable[Case]) -> list[Case]:
    chosen = list(islice(cases, count))
    if len(chosen) < count:
        raise SystemExit(f"only {len(chosen)} of {SEARCHED} scenes are answered well enough to ship: train longer")
    return chosen


@dataclass(frozen=True, slots=True)
class Forms:
    """Both forms of one version, opened."""

    onnx: Detect
    litert: Detect

    @classmethod
    def of(cls, folder: Path) -> Forms:
        return cls(onnx_detector(folder / "detector.onnx"), litert_detector(folder / "detector.tflite"))


@dataclass(frozen=True, slots=True)
class Case:
    """A scene as a JPEG file, and from what it was drawn."""

    seed: int
    weather: Weather
    things: tuple[Thing, ...]
    jpeg: bytes

    @property
    def picture(self) -> Image.Image:
        return Image.open(BytesIO(self.jpeg)).convert("RGB")


def _cases(forms: Forms, weather: Weather, fewest: int, first_seed: int, size: tuple[int, int]) -> Iterator[Case]:
    """Held-out scenes with so many things or more, three classes among them, that both forms answer fully and alike."""
    for seed in range(first_seed, first_seed + SEARCHED):
        scene = draw_scene(seed, weather, size)
        if len(scene.things) < fewest or len({thing.label for thing in scene.things}) < 3:
            continue
        file = BytesIO()
        scene.picture.save(file, "JPEG", quality=JPEG_QUALITY)
        case = Case(seed, weather, scene.things, file.getvalue())
        if _finds_all(forms, case):
            yield case


def _finds_all(forms: Forms, case: Case) -> bool:
    """Whether both forms find all that was drawn, and nothing else."""
    answers = _agreed(forms, case.picture)
    return len(answers) == len(case.things) and all(found(thing, answers) for thing in case.things)


def _agreed(forms: Forms, picture: Image.Image) -> list[Answer]:
    """What both forms say, as the mean of the two, best first; nothing if they differ or hesitate."""
    first, second = forms.onnx(picture), forms.litert(picture)
    if any(DOUBT[0] < answer.score < DOUBT[1] for answer in (*first, *second)):
        return []
    sure, other = ([a for a in answers if a.score >= THRESHOLD] for answers in (first, second))
    together = [_mean(a, b) for a in sure for b in other if _alike(a, b)]
    return sorted(together, key=lambda a: -a.score) if len(sure) == len(other) == len(together) else []


def _alike(a: Answer, b: Answer) -> bool:
    return a.label == b.label and abs(a.score - b.score) <= SCORE_AGREEMENT and overlap(a.box, b.box) >= BOX_AGREEMENT


def _mean(a: Answer, b: Answer) -> Answer:
    top, left, bottom, right = ((p + q) / 2 for p, q in zip(a.box, b.box, strict=True))
    return Answer(a.label, (a.score + b.score) / 2, (top, left, bottom, right))


def _write_cases(folder: Path, forms: Forms, cases: Sequence[Case]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    answers, drawn = {}, {}
    for number, case in enumerate(cases, start=1):
        name = f"scene-{number}.jpg"
        (folder / name).write_bytes(case.jpeg)
        answers[name] = [
            {"class": a.label, "score": round(a.score, 3), "box": [round(edge, 1) for edge in a.box]}
            for a in _agreed(forms, case.picture)
        ]
        things = [{"class": thing.label, "box": list(thing.box)} for thing in case.things]
        drawn[name] = {"seed": case.seed, "weather": case.weather, "things": things}
    document = {
        "model": "detector",
        "threshold": THRESHOLD,
        "box": "[top, left, bottom, right] in pixels of the picture",
        "how": HOW,
        "answers": answers,
        "drawn": drawn,
    }
    (folder / "expected.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose the pictures and acceptance cases of trained versions anew.")
    parser.add_argument("into", type=Path, help="the folder with v1, v2 and v3")
    write_pictures(parser.parse_args().into)


if __name__ == "__main__":
    main()
