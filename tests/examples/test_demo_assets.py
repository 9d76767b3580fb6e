"""What the demo ships holds what it promises: v2 sees what was drawn, v1 less of it, v3 nothing right."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from demo_assets import spoil, write_models, write_pictures
from measure import Answer, found, open_detector, overlap
from onnx import numpy_helper
from PIL import Image
from scenes import LABELS, Thing, draw_scene

ASSETS = Path(__file__).parents[2] / "src" / "farshore" / "cli" / "demo_assets"
FORMS = ("detector.onnx", "detector.tflite")
CASES = ["v1/acceptance", "v2/acceptance", "v3/acceptance", "pictures"]


def read(folder):
    """Of each picture in a folder: its name, the picture, the expected answers and how it was drawn."""
    document = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    for name, drawn in document["drawn"].items():
        expected = [Answer(a["class"], a["score"], tuple(a["box"])) for a in document["answers"][name]]
        yield name, Image.open(folder / name).convert("RGB"), expected, drawn


def things(drawn):
    return [Thing(thing["class"], tuple(thing["box"])) for thing in drawn["things"]]


def weights(version):
    graph = onnx.load(ASSETS / version / "detector.onnx").graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {name: value for name, value in tensors.items() if name.endswith(("/kernel", "/bias"))}


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize("form", FORMS)
def test_every_version_runs_in_both_forms(version, form):
    labels = (ASSETS / version / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(labels) == LABELS
    answers = open_detector(ASSETS / version / form, labels)(draw_scene(1).picture)
    assert all(0 < answer.score <= 1 for answer in answers)


@pytest.mark.parametrize("folder", CASES)
def test_pictures_are_what_their_seeds_draw(folder):
    for _, picture, expected, drawn in read(ASSETS / folder):
        scene = draw_scene(drawn["seed"], drawn["weather"], picture.size)
        apart = np.asarray(scene.picture, np.int16) - np.asarray(picture, np.int16)
        assert np.abs(apart).mean() < 12  # JPEG, and the noise that it smooths away
        assert [thing.label for thing in scene.things] == [thing.label for thing in things(drawn)]
        assert len(expected) == len(scene.things)
        for thing, told in zip(scene.things, things(drawn), strict=True):
            assert thing.box == pytest.approx(told.box, abs=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", ["v2/acceptance", "pictures"])
def test_v2_finds_what_was_drawn_and_nothing_else(folder, form):
    detect = open_detector(ASSETS / "v2" / form)
    for name, picture, _, drawn in read(ASSETS / folder):
        answers = [answer for answer in detect(picture) if answer.score >= 0.5]
        assert len(answers) == len(things(drawn)), name
        assert all(found(thing, answers) for thing in things(drawn)), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("version", "folder"), [("v1", "v1/acceptance"), ("v2", "v2/acceptance"), ("v2", "pictures")])
def test_expected_answers_hold_closely(version, folder, form):
    detect = open_detector(ASSETS / version / form)
    for name, picture, expected, _ in read(ASSETS / folder):
        answers = detect(picture)
        for wanted in expected:
            near = [a for a in answers if a.label == wanted.label and overlap(a.box, wanted.box) > 0.8]
            assert any(abs(a.score - wanted.score) < 0.07 for a in near), (name, wanted)


@pytest.mark.parametrize("form", FORMS)
def test_v1_passes_its_own_case_but_not_that_of_v2(form):
    detect = open_detector(ASSETS / "v1" / form)
    missed = {
        folder: sum(
            not found(t, detect(picture)) for _, picture, _, drawn in read(ASSETS / folder) for t in things(drawn)
        )
        for folder in ("v1/acceptance", "v2/acceptance")
    }
    assert missed["v1/acceptance"] == 0
    assert missed["v2/acceptance"] > 0


@pytest.mark.parametrize("form", FORMS)
def test_v3_fails_every_picture(form):
    detect = open_detector(ASSETS / "v3" / form)
    for folder in ("v2/acceptance", "v3/acceptance", "pictures"):
        for name, picture, _, drawn in read(ASSETS / folder):
            answers = detect(picture)
            assert not any(found(thing, answers) for thing in things(drawn)), name


def test_v3_carries_the_acceptance_case_of_v2():
    for file in sorted((ASSETS / "v2" / "acceptance").iterdir()):
        assert (ASSETS / "v3" / "acceptance" / file.name).read_bytes() == file.read_bytes()


def test_every_tensor_moved_from_v1_to_v2_and_only_the_last_layers_to_v3():
    first, second, third = weights("v1"), weights("v2"), weights("v3")
    assert set(first) == set(second) == set(third)
    for name, value in second.items():
        assert np.mean(value != first[name]) > 0.95, name
        assert np.array_equal(value, third[name]) != ("/out/" in name), name


def test_spoiling_keeps_shapes_and_numbers_but_not_their_places(random_weights, tmp_path):
    whole = random_weights(len(LABELS), seed=4)
    spoiled = spoil(whole)
    for name, held in whole.items():
        assert np.array_equal(np.sort(held.kernel, axis=None), np.sort(spoiled[name].kernel, axis=None))
        assert np.array_equal(held.kernel, spoiled[name].kernel) != name.endswith("/out")
    write_models(tmp_path, spoiled, "spoiled")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detector.onnx", "detector.tflite", "labels.txt"]


def test_the_package_stays_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 2_500_000


@pytest.mark.deep
def test_choosing_the_pictures_again_chooses_the_same(tmp_path):
    for version in ("v1", "v2", "v3"):
        shutil.copytree(ASSETS / version, tmp_path / version, ignore=shutil.ignore_patterns("acceptance"))
    write_pictures(tmp_path)
    for folder in CASES:
        before, after = ([drawn for *_, drawn in read(root / folder)] for root in (ASSETS, tmp_path))
        assert before == after
