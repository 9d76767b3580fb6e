"""Both runtimes through the one interface: same answers alone and together, in many threads; refusals by name."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from farshore.core.errors import Invalid, Unavailable
from farshore.serve import engine

from .conftest import colours_model, shared


@pytest.fixture(params=["onnxruntime", "litert"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "onnxruntime":
        data, name, shape, dtype = colours_model(16, work=2), "x", (1, 3, 16, 16), np.float32
    else:
        data, name = shared("models/mobilenet_v1_0.25_128_quant.tflite"), "input"
        shape, dtype = (1, 128, 128, 3), np.uint8
    path = tmp_path / "model"
    path.write_bytes(data)
    feeds = {name: np.random.default_rng(1).integers(0, 255, shape).astype(dtype)}
    return engine.load(request.param, path, 2), feeds


def test_alone_and_together_agree(loaded):
    model, feeds = loaded
    alone, together = model.run(feeds, alone=True), model.run(feeds, alone=False)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert np.allclose(value.astype(float), together[name].astype(float), atol=1e-3)


def test_many_threads_get_their_own_answers(loaded):
    model, feeds = loaded
    ((name, value),) = feeds.items()
    inputs = [np.full_like(value, n * 25) for n in range(8)]
    expected = [next(iter(model.run({name: each}, alone=False).values())) for each in inputs]
    wrong = []

    def run(number: int) -> None:
        for turn in range(20):
            found = next(iter(model.run({name: inputs[number]}, alone=turn % 5 == 0).values()))
            if not np.allclose(found.astype(float), expected[number].astype(float), atol=1e-3):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_does_not_fit_is_told_and_the_next_is_answered(loaded):
    model, feeds = loaded
    ((name, value),) = feeds.items()
    with pytest.raises(Unavailable):
        model.run({name: value.astype(np.float64)}, alone=True)
    assert model.run(feeds, alone=True)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_garbage_is_refused(runtime, tmp_path: Path):
    for data in (b"", b"garbage" * 100):
        (tmp_path / "m").write_bytes(data)
        with pytest.raises(Invalid, match="refuses m"):
            engine.load(runtime, tmp_path / "m", 1)


def test_a_size_that_is_refused_leaves_nothing_behind(loaded):
    made, feeds = loaded
    name, good = next(iter(feeds.items()))
    expected = made.run(feeds, alone=True)
    for alone in (True, False, False):  # every interpreter once
        with pytest.raises(Unavailable):
            made.run({name: good[:, :7, :5]}, alone=alone)
    for alone in (True, False, False):
        for key, value in made.run(feeds, alone=alone).items():
            np.testing.assert_allclose(value, expected[key], atol=1e-4)
