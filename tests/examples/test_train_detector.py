"""Scenes become samples with their boxes in the right place. Needs PyTorch, which only training does."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed; it is needed for training only")

import torch
from detector import Detector
from network import SIDE
from PIL import Image, ImageDraw
from scenes import LABELS, Scene, Thing
from train_detector import Course, batch, draw, learn, sample


@pytest.fixture
def red_box():
    picture = Image.new("RGB", (400, 300))
    ImageDraw.Draw(picture).rectangle((100, 150, 199, 199), fill=(255, 0, 0))
    return Scene(picture, (Thing("buoy", (150.0, 100.0, 200.0, 200.0)),))


def red_part(pixels):
    rows, columns = np.nonzero((pixels[0] > 0.5 * pixels.max()) & (pixels[1] < 0.25 * pixels.max()))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize("seed", range(8))
def test_boxes_follow_the_resizing_and_the_mirror(red_box, seed):
    made = sample(red_box, np.random.default_rng(seed))
    assert made.pixels.shape == (3, SIDE, SIDE)
    assert LABELS[made.labels[0]] == "buoy"
    assert np.allclose(made.boxes[0], red_part(made.pixels), atol=1.5)
    pictures, boxes, labels = batch([made], np.random.default_rng(seed))
    assert np.allclose(boxes[0][0], red_part(pictures[0].numpy()), atol=1.5)
    assert labels[0].tolist() == [LABELS.index("buoy")]


def test_both_ways_of_resizing_and_both_sides_occur(red_box):
    made = [sample(red_box, np.random.default_rng(seed)) for seed in range(12)]
    assert len({tuple(np.round(one.boxes[0])) for one in made}) == 2
    mirrored = [batch([made[0]], np.random.default_rng(seed))[1][0] for seed in range(12)]
    assert len({tuple(np.round(box[0].tolist())) for box in mirrored}) == 2


def test_the_same_seeds_draw_the_same_samples():
    first, again = draw(2, "rough", 9), draw(2, "rough", 9)
    assert all(
        np.array_equal(a.pixels, b.pixels) and np.array_equal(a.boxes, b.boxes)
        for a, b in zip(first, again, strict=True)
    )


def test_the_same_seed_learns_the_same_weights():
    torch.set_num_threads(1)

    def learned():
        torch.manual_seed(3)
        detector = Detector(len(LABELS)).to(memory_format=torch.channels_last)
        learn(detector, draw(16, "fair", 9), Course(fair=16, rough=0, epochs=2, rate=1e-3), seed=3)
        return detector.folded()

    first, again = learned(), learned()
    assert all(np.array_equal(held.kernel, again[name].kernel) for name, held in first.items())
    assert all(np.array_equal(held.bias, again[name].bias) for name, held in first.items())
