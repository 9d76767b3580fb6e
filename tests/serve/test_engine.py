"""Both runtimes through the one interface: same answers alone and together, in many threads; refusals by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farshore.core.errors import Invalid, Unavailable
from farshore.serve import engine
from farshore.serve.litert import LiteRtModel
from farshore.serve.onnx import OnnxModel

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
    return engine.load(request.param, path, lone=2, width=2), feeds


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
            engine.load(runtime, tmp_path / "m", lone=1, width=1)


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


def wait_until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture(params=["onnxruntime", "litert"])
def kept(request: pytest.FixtureRequest, tmp_path: Path):
    """A model for two requests at once that lets unused contexts go soon; how many each kind has at most."""
    path = tmp_path / "model"
    if request.param == "onnxruntime":
        path.write_bytes(colours_model(16, work=2))
        return OnnxModel(path), {"x": np.ones((1, 3, 16, 16), np.float32)}, (1,), path
    path.write_bytes(shared("models/mobilenet_v1_0.25_128_quant.tflite"))
    return LiteRtModel(path), {"input": np.ones((1, 128, 128, 3), np.uint8)}, (1, 1), path


def crowd(made: engine.Engine, feeds, times: int, gaps: int = 0) -> None:
    """Two clients at once; ``gaps`` in a hundred requests happen to be alone."""

    def ask() -> None:
        for turn in range(times):
            made.run(feeds, alone=turn % 100 < gaps)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_memory_holds_what_the_traffic_uses(kept):
    model, feeds, crowded, _ = kept
    made = engine.Engine(model, 2, 2, keep=0.3)
    made.warm(feeds)
    assert made.contexts == (2,)
    for _ in range(20):
        made.run(feeds, alone=True)
    assert made.contexts == (2,), "a lone client never pays for a crowd"

    def grown() -> bool:
        crowd(made, feeds, 20)
        return made.contexts.count(1) == len(crowded)

    wait_until(grown)
    wait_until(lambda: crowd(made, feeds, 20, gaps=1) or 2 not in made.contexts)
    # Alone again; one gap between two is not solitude.
    made.run(feeds, alone=True)
    made.run(feeds, alone=False)
    assert 2 not in made.contexts
    wait_until(lambda: bool(made.run(feeds, alone=True)) and 2 in made.contexts)
    wait_until(lambda: bool(made.run(feeds, alone=True)) and made.contexts == (2,))


def test_a_candidate_for_a_crowd_is_made_for_it(kept):
    model, feeds, crowded, _ = kept
    made = engine.Engine(model, 2, 2, crowded=True)
    assert made.contexts == crowded
    assert made.warm(feeds).keys() == made.run(feeds, alone=True).keys()


def test_a_context_that_cannot_be_made_is_done_without(kept):
    model, feeds, _, path = kept
    made = engine.Engine(model, 2, 2)
    path.write_bytes(b"garbage")  # another file, from now on
    expected = made.run(feeds, alone=True)
    crowd(made, feeds, 50)
    assert made.contexts == (2,)
    assert made.run(feeds, alone=False).keys() == expected.keys()
