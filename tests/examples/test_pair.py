"""Two detectors in one file: it answers as the surer of the two, and its weights are theirs."""

import json
from pathlib import Path

import onnx
import pytest
from measure import found, open_detector, overlap
from onnx import numpy_helper
from pair import paired
from PIL import Image
from scenes import Thing

ASSETS = Path(__file__).parents[2] / "src" / "farshore" / "cli" / "demo_assets"
HALVES = [ASSETS / version / "detector.onnx" for version in ("v1", "v2")]


def weights(path):
    return {numpy_helper.to_array(t).tobytes() for t in onnx.load(path).graph.initializer if len(t.raw_data) >= 64}


def test_the_shipped_pair_is_what_the_two_make():
    assert paired(*map(onnx.load, HALVES)) == (ASSETS / "pair" / "detector.onnx").read_bytes()


def test_its_weights_are_those_of_its_halves():
    first, second = map(weights, HALVES)
    both = weights(ASSETS / "pair" / "detector.onnx")
    assert both <= first | second
    assert both & first - second and both & second - first


@pytest.mark.parametrize("folder", ["pair/acceptance", "v2/acceptance", "pictures"])
def test_it_finds_what_was_drawn(folder):
    detect = open_detector(ASSETS / "pair" / "detector.onnx")
    for name, drawn in json.loads((ASSETS / folder / "expected.json").read_text(encoding="utf-8"))["drawn"].items():
        answers = [a for a in detect(Image.open(ASSETS / folder / name).convert("RGB")) if a.score >= 0.5]
        assert all(found(Thing(t["class"], tuple(t["box"])), answers) for t in drawn["things"]), name


def test_it_is_as_sure_as_the_surer_half():
    pair, *halves = (open_detector(path) for path in (ASSETS / "pair" / "detector.onnx", *HALVES))
    picture = Image.open(ASSETS / "pictures" / "scene-1.jpg").convert("RGB")
    answers = pair(picture)
    for half in halves:
        for answer in half(picture):
            near = [a.score for a in answers if a.label == answer.label and overlap(a.box, answer.box) > 0.5]
            assert max(near) >= answer.score - 1e-4
