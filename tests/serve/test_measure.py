"""Measuring: in a process of its own, kept beside the version, followed by the worker that loads it."""

from __future__ import annotations

import os
import threading

import pytest

from farshore.core.errors import Unavailable
from farshore.serve import measure, tuning
from farshore.serve.tasks.subject import Want
from farshore.serve.tuning import Tuned
from farshore.serve.version import LoadedVersion

from .conftest import Client, Device, colours_model, picture, serve, shared

RED = picture((255, 51, 0))


@pytest.mark.parametrize(
    ("costs", "expected"),
    [({1: 10.0}, 1), ({1: 10.0, 2: 6.0}, 2), ({1: 10.0, 2: 9.8, 4: 9.6}, 1), ({1: 9.0, 2: 5.0, 4: 4.9}, 2)],
)
def test_no_more_threads_than_are_worth_it(costs, expected):
    assert measure.fewest(costs) == expected


def test_every_number_of_threads_is_tried():
    made, running, most = [], 0, 0
    changed = threading.Lock()

    def once(threads: int):
        made.append(threads)
        return lambda: None

    assert set(measure.lone(once, 6)) == {1, 2, 4, 6}
    assert made == [1, 2, 4, 6]

    def call() -> None:
        nonlocal running, most
        with changed:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with changed:
            running -= 1

    assert set(measure.together(lambda: call, 3, 0.05)) == {1, 2, 3}
    assert 1 <= most <= 3


def test_current_versions_are_measured_once_and_workers_follow(device: Device) -> None:
    device.colours(1, data=colours_model(16, work=2), activate=True)
    device.install("old", 1, device.slots.variant(device.slots.current("colours")))  # not current: nobody asks for it
    ((installed, tuned),) = measure.tune(device.root)
    assert isinstance(tuned, Tuned)
    assert installed.model == "colours"
    assert tuned.lone in tuned.milliseconds
    assert tuned.width in tuned.rates
    known, optimised = tuning.read(installed, "onnxruntime")
    assert known == tuned
    assert optimised is not None
    before = [path.stat().st_mtime_ns for path in tuning.paths(installed)]
    assert [found for _, found in measure.tune(device.root)] == [tuned]
    assert [path.stat().st_mtime_ns for path in tuning.paths(installed)] == before, "known already: not measured again"
    version = LoadedVersion(device.root, "colours", installed.digest, 7, 1 << 20)
    assert version.width == tuned.width
    assert LoadedVersion(device.root, "colours", installed.digest, 7, 1 << 20, tuned=False).width == 7
    assert b'"red1"' in version.answer(RED, Want(), alone=True)[0]

    async def talk(client: Client) -> None:
        await client.ready()
        (lane,) = client.server.pool.models["colours"].lanes.values()
        assert lane._window == tuned.width + 1
        assert (await client.score(RED))[0] == 200

    serve(device, talk, threads=0)


def test_a_lite_model_too_and_what_is_gone_is_forgotten(device: Device) -> None:
    digest = device.recognised("lite", 1, shared("models/mobilenet_v1_0.25_128_quant.tflite"))
    stale = device.root / "models" / "lite" / "tuned" / f"{'0' * 64}.json"
    stale.parent.mkdir()
    stale.write_bytes(b"{}")
    ((installed, tuned),) = measure.tune(device.root)
    assert installed.digest == digest
    assert isinstance(tuned, Tuned)
    assert tuned.optimised is None
    assert not stale.exists()
    assert os.listdir(stale.parent) == [tuning.paths(installed)[0].name]


def test_what_cannot_be_measured_is_told(device: Device, capfd: pytest.CaptureFixture[str]) -> None:
    device.colours(1, data=b"garbage", activate=True)
    ((_, why),) = measure.tune(device.root)
    assert isinstance(why, Unavailable)
    assert "refuses" in capfd.readouterr().err
