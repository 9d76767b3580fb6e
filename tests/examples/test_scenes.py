"""Scenes are drawn the same from the same seed, and their boxes are where the things are."""

import numpy as np
import pytest
import scenes
from PIL import ImageChops
from scenes import LABELS, draw_scene


@pytest.mark.parametrize("weather", ["fair", "rough"])
def test_the_same_seed_draws_the_same_scene(weather):
    first, again, other = draw_scene(5, weather), draw_scene(5, weather), draw_scene(6, weather)
    assert first.picture.tobytes() == again.picture.tobytes()
    assert first.things == again.things
    assert first.picture.tobytes() != other.picture.tobytes()


@pytest.mark.parametrize("size", [(640, 480), (300, 500), (64, 64)])
def test_boxes_lie_inside_the_picture_and_labels_are_known(size):
    width, height = size
    for seed in range(6):
        scene = draw_scene(seed, "rough", size)
        assert scene.picture.size == size
        assert scene.picture.mode == "RGB"
        for thing in scene.things:
            top, left, bottom, right = thing.box
            assert thing.label in LABELS
            assert 0 <= top < bottom <= height
            assert 0 <= left < right <= width


def test_a_box_is_where_the_canvas_changed(monkeypatch):
    """What a thing's drawing changes above the waterline spans exactly its box; below lies its reflection."""
    drawn = []
    put = scenes._put

    def put_and_compare(canvas, *arguments):
        before = canvas.copy()
        box = put(canvas, *arguments)
        if box is not None:
            drawn.append((box, ImageChops.difference(before, canvas).getbbox()))
        return box

    monkeypatch.setattr(scenes, "_put", put_and_compare)
    things = [thing for seed in range(8) for thing in draw_scene(seed, "fair").things]
    changes = dict(drawn)
    assert len(things) > 10
    for thing in things:
        left, top, right, bottom = changes[thing.box]
        assert np.allclose((top, left, right), (thing.box[0], thing.box[1], thing.box[3]), atol=2)
        assert bottom >= thing.box[2] - 2


def test_every_class_is_drawn_often():
    seen = [thing.label for seed in range(40) for thing in draw_scene(seed, "fair", (160, 120)).things]
    assert {label: seen.count(label) >= 5 for label in LABELS} == dict.fromkeys(LABELS, True)


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="64×64"):
        draw_scene(0, "fair", (640, 63))
