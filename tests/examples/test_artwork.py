"""Artwork is one unit large, stands on the waterline and varies."""

import numpy as np
import pytest
from artwork import ARTISTS, hill, rock, seagull


def extent(shapes):
    points = np.array([point for _, outline in shapes for point in outline])
    return points.min(axis=0), points.max(axis=0)


@pytest.mark.parametrize("label", ARTISTS)
def test_things_are_one_unit_in_their_longer_side_and_stand_on_the_waterline(label):
    for seed in range(20):
        low, high = extent(ARTISTS[label].draw(np.random.default_rng(seed)))
        assert low[1] == pytest.approx(0, abs=0.04)
        assert max(high - low) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("draw", [*(artist.draw for artist in ARTISTS.values()), hill, rock, seagull])
def test_every_seed_draws_its_own(draw):
    drawn = [draw(np.random.default_rng(seed)) for seed in range(5)]
    assert drawn[0] == draw(np.random.default_rng(0))
    assert all(one != other for i, one in enumerate(drawn) for other in drawn[:i])
    for shapes in drawn:
        for colour, outline in shapes:
            assert len(outline) >= 3
            assert all(0 <= channel <= 255 for channel in colour)
