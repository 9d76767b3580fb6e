"""What was measured holds for one machine, one runtime and one version; anything else is passed over."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from farshore.core import digest as digests
from farshore.serve import tuning
from farshore.serve.tuning import Tuned
from farshore.store.slots import Installed

from .conftest import Device


@pytest.fixture
def installed(device: Device) -> Installed:
    return device.slots.find("colours", device.colours(1, activate=True))


def keep(installed: Installed, optimised: bytes | None = None, **what: object) -> Path:
    record, model = tuning.paths(installed)
    record.parent.mkdir(exist_ok=True)
    digest = None if optimised is None else digests.of(optimised)
    tuned = Tuned(
        machine=tuning.machine("onnxruntime"), lone=2, width=1, milliseconds={1: 9.0, 2: 5.0}, rates={1: 100.0},
        optimised=digest,
    )  # fmt: skip
    record.write_bytes(msgspec.json.encode(msgspec.structs.replace(tuned, **what)))
    if optimised is not None:
        model.write_bytes(optimised)
    return model


def test_what_was_measured_here_is_read(installed: Installed) -> None:
    assert tuning.read(installed, "onnxruntime") is None
    keep(installed)
    tuned, model = tuning.read(installed, "onnxruntime")
    assert (tuned.lone, tuned.width, model) == (2, 1, None)
    path = keep(installed, b"optimised")
    assert tuning.read(installed, "onnxruntime")[1] == path


def test_another_machine_runtime_or_form_is_passed_over(installed: Installed) -> None:
    for what in ({"machine": "x86_64 of another kind"}, {"form": 99}, {"lone": 0}, {"width": -1}):
        keep(installed, **what)
        assert tuning.read(installed, "onnxruntime") is None
    keep(installed)
    assert tuning.read(installed, "litert") is None
    tuning.paths(installed)[0].write_bytes(b"{torn")
    assert tuning.read(installed, "onnxruntime") is None


def test_an_optimised_model_that_is_not_what_was_kept_is_not_trusted(installed: Installed) -> None:
    path = keep(installed, b"optimised")
    path.write_bytes(b"optimisee")
    tuned, model = tuning.read(installed, "onnxruntime")
    assert (tuned.lone, model) == (2, None)
    path.unlink()
    assert tuning.read(installed, "onnxruntime") is None
