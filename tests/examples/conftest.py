"""The examples are scripts, not a package: they import each other by the names of their files."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


@pytest.fixture
def random_weights():
    """Weights for the plan of `classes` classes that keep values in range, so that every layer shows in the answer."""
    import numpy as np
    from network import Weights, plan

    def make(classes: int, seed: int) -> dict[str, Weights]:
        rng = np.random.default_rng(seed)
        channels, made = {"input": 3}, {}
        for node in plan(classes):
            channels[node.name] = node.channels
            if not node.weights or node.weights in made:
                continue
            source = 1 if node.op == "depthwise" else channels[node.inputs[0]]
            shape = (node.channels, source, node.kernel, node.kernel)
            spread = (1.2 if node.relu else 0.3) / np.sqrt(source * node.kernel**2)
            kernel = rng.normal(0, spread, shape).astype(np.float32)
            made[node.weights] = Weights(kernel, rng.normal(0, 0.1, node.channels).astype(np.float32))
        return made

    return make
