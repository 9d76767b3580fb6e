from __future__ import annotations

from farshore.agent.state import Attempt, Device, Local, ModelState, Note, Notes, Trial, Version, aim
from farshore.core import digest as digests
from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.wire import DesiredModel, Fault

A, B = digests.of(b"a"), digests.of(b"b")
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


def test_what_is_here_of_a_version():
    version = Version(1, A, "main", {A: 100, B: 50})
    assert Local(DEVICE).here(version) == 0
    assert Local(DEVICE, blobs={A: 100}, partials={B: 20}).here(version) == 120


def test_what_nobody_speaks_of_is_empty():
    assert Local(DEVICE).model("m") == ModelState()
    for server in ("none", "away", Status((), {})):
        assert Local(DEVICE, server=server).status("m") == ModelStatus()
    serving = ModelStatus(Serving(A, 1))
    assert Local(DEVICE, server=Status((), {"m": serving})).status("m") == serving
