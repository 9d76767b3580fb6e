from __future__ import annotations

import pytest
from tests.sim.world import World


@pytest.fixture
def make_world(tmp_path):
    """Worlds in folders of their own."""
    count = 0

    def make(**settings):
        nonlocal count
        count += 1
        return World(tmp_path / f"device-{count}", **settings)

    return make


@pytest.fixture
def world(make_world):
    return make_world()
