from __future__ import annotations

import pytest

from farshore.agent.state import Attempt, Device, Local, ModelState, Note, Notes, Trial, Version, aim
from farshore.core import digest as digests
from farshore.core import wire
from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.wire import DesiredModel, Fault

A, B, C = (digests.of(name) for name in (b"a", b"b", b"c"))
DEVICE = Device(1, "x", None, 0, 1.0)


def test_aiming_keeps_what_is_about_the_same_wish():
    note = Note(digest=A, retry=1, probed=True, failed=Fault("x", "y"), attempt=Attempt("probe", 1.0), fetched=3)
    notes = Notes(models={"m": note})
    assert aim(notes, {"m": DesiredModel(1, A, 1)}) == notes


def test_aiming_elsewhere_keeps_only_what_is_true_whatever_is_desired():
    note = Note(
        digest=A, probed=True, failed=Fault("x", "y"), attempt=Attempt("probe", 1.0), fetched=3, trial=Trial(A, B)
    )
    notes = Notes(models={"m": note})
    assert aim(notes, {"m": DesiredModel(2, B)}).models["m"] == Note(digest=B, fetched=3, trial=Trial(A, B))
    assert aim(notes, {"m": DesiredModel(1, A, retry=1)}).models["m"].failed is None
    assert aim(notes, {}).models["m"] == Note(fetched=3, trial=Trial(A, B))
    assert aim(notes, {"n": DesiredModel(1, A)}).models["n"] == Note(digest=A)


def test_what_an_earlier_trial_has_shown_is_not_said_of_a_new_one():
    notes = Notes(models={"m": Note(digest=B, shown=wire.Trial(A, requests=9, errors=9))})
    assert aim(notes, {"m": DesiredModel(2, B)}).models["m"].shown is not None
    assert aim(notes, {"m": DesiredModel(2, B, retry=1)}).models["m"].shown is not None
    assert aim(notes, {"m": DesiredModel(1, A)}).models["m"].shown is None
    tried = Notes(models={"m": Note(digest=A, shown=wire.Trial(A))})
    assert aim(tried, {"m": DesiredModel(1, A)}) == tried
    assert aim(tried, {"m": DesiredModel(1, A, retry=1)}).models["m"].shown is None


def test_what_is_here_of_a_version():
    version = Version(1, A, "main", {A: 100, B: 50})
    assert Local(DEVICE).here(version) == 0
    assert Local(DEVICE, blobs={A: 100}, partials={B: 20}).here(version) == 120


@pytest.mark.parametrize(
    ("blobs", "partials", "reached", "done"),
    [
        ({}, {}, None, 0),
        ({}, {}, (A, 0.5), 50),  # half of a patch to it
        ({}, {A: 40}, (A, 0.5), 50),
        ({}, {A: 60}, (A, 0.5), 60),
        ({A: 100}, {}, (A, 0.5), 100),  # it was decoded
        ({A: 100}, {}, (B, 0.25), 150),
        ({}, {}, (C, 0.5), 0),  # of another version
    ],
)
def test_what_is_reached_counts_a_patch_for_what_it_stands_for(blobs, partials, reached, done):
    version = Version(1, A, "v", {A: 100, B: 200})
    assert Local(DEVICE, blobs=blobs, partials=partials, reached=reached).done(version) == done


def test_what_nobody_speaks_of_is_empty():
    assert Local(DEVICE).model("m") == ModelState()
    for server in ("none", "away", Status((), {})):
        assert Local(DEVICE, server=server).status("m") == ModelStatus()
    serving = ModelStatus(Serving(A, 1))
    assert Local(DEVICE, server=Status((), {"m": serving})).status("m") == serving
