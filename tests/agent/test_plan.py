"""What next? Rows of snapshot and answer."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.agent import plan
from farshore.agent.limits import Shut
from farshore.agent.plan import (
    Activate,
    CollectGarbage,
    Confirm,
    Download,
    Drop,
    FetchManifest,
    Hold,
    Install,
    Park,
    Probe,
    RollBack,
    next_step,
    verdicts,
)  # fmt: skip
from farshore.agent.state import Attempt, Device, Local, ModelState, Note, Trial, Version
from farshore.core import digest as digests
from farshore.core.control import ModelStatus, Serving, Status
from farshore.core.wire import Conditions, DesiredModel, Fault

NOW = 1_800_000_000.0
FAULT = Fault("corrupt", "wrong bytes")
SOON, NOW_OPEN = ("09:00-10:00Z",), ("08:00-09:00Z",)
SHUT = Shut(NOW + 60, "window", "the download window is closed")


def name(text):
    return digests.of(text.encode())


V1, V2, V3 = name("v1"), name("v2"), name("v3")
WEIGHTS = {V1: name("w1"), V2: name("w2"), V3: name("w3")}
LABELS = name("labels")
NUMBER = {V1: 1, V2: 2, V3: 3}


def version(digest, *, variant="main", size=1000):
    return Version(NUMBER[digest], digest, variant, {WEIGHTS[digest]: size, LABELS: 10})


def want(digest, model="m", **more):
    return {model: DesiredModel(NUMBER[digest], digest, **more)}


def have(*held, current=None, previous=None, wanted=None, **note):
    note = Note(digest=wanted.digest if wanted else None) if not note else Note(**note)
    return ModelState(current, previous, {entry: version(entry) for entry in held}, wanted, note)


def local(state, *, server="none", blobs=(), model="m", quota=None, keep_free=0, **more):
    sizes = {WEIGHTS[V1]: 1000, WEIGHTS[V2]: 1000, WEIGHTS[V3]: 1000, LABELS: 10}
    held = {file: sizes[file] for entry in state.installed.values() for file in entry.files} | {
        b: sizes[b] for b in blobs
    }
    device = Device(memory=1 << 30, machine="x86_64", quota=quota, keep_free=keep_free, trial=60.0)
    more = {"runtimes": ("onnxruntime",), **more}
    return Local(device, {model: state}, blobs=held, server=server, **more)


def serving(digest, *, model="m", candidate=None, **counts):
    warm = None if candidate is None else Serving(candidate, NUMBER[candidate])
    now = None if digest is None else Serving(digest, NUMBER[digest], **counts)
    return Status(("onnxruntime",), {model: ModelStatus(now, warm)})


def trial(digest, back=None, **more):
    return Trial(digest, back, **{"switched": True, **more})


BOTH = (WEIGHTS[V2], LABELS)
UP = serving(V1)

ROWS = {
    # The way to a new version.
    "nothing desired, nothing here": ({}, have(), {}, None),
    "a model is desired": (want(V1), have(), {}, FetchManifest("m", 1, V1)),
    "its manifest is here": (want(V1), have(wanted=version(V1)), {}, Download("m", WEIGHTS[V1], 1000)),
    "a begun file goes first": (
        want(V1), have(wanted=version(V1)), {"partials": {LABELS: 5}}, Download("m", LABELS, 10),
    ),
    "the open transfer goes before a begun one": (
        want(V1), have(wanted=version(V1)), {"partials": {LABELS: 5}, "active": WEIGHTS[V1]}, Download("m", WEIGHTS[V1], 1000),
    ),
    "what another version brought is not fetched again": (
        want(V2), have(V1, current=V1, wanted=version(V2)), {}, Download("m", WEIGHTS[V2], 1000),
    ),
    "all files are here": (want(V2), have(wanted=version(V2)), {"blobs": BOTH}, Install("m", V2)),
    "installed": (want(V2), have(V1, V2, current=V1, digest=V2), {"server": UP}, Probe("m", V2)),
    "installed, no server": (want(V2), have(V1, V2, current=V1, digest=V2), {}, Probe("m", V2)),
    "probed": (
        want(V2), have(V1, V2, current=V1, digest=V2, probed=True), {"server": UP}, Activate("m", V2, V1),
    ),
    "probed, the first of its model": (
        want(V2), have(V2, digest=V2, probed=True), {"server": serving(None)}, Activate("m", V2, None),
    ),
    "it runs": (want(V2), have(V2, current=V2), {"server": serving(V2)}, None),
    "back to the version before, which is still here": (
        want(V1), have(V1, V2, current=V2, previous=V1, digest=V1), {"server": serving(V2)}, Probe("m", V1),
    ),
    # The trial.
    "in its trial": (want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, seconds=10)}, None),
    "long enough": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, seconds=60)}, Confirm("m", V2),
    ),
    "long enough, but it does not answer now": (
        want(V2), have(V2, current=V2, trial=trial(V2)), {"server": serving(V2, seconds=99, ready=False)}, None,
    ),
    "nothing to watch it": (want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {}, Confirm("m", V2)),
    "the server is away for a while": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": "away"}, None,
    ),
    "cut off between link and switch": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1, switched=False), digest=V2), {"server": UP}, Activate("m", V2, V1),
    ),
    "cut off between note and link": (
        want(V2), have(V1, V2, current=V1, trial=trial(V2, V1, switched=False), digest=V2, probed=True), {"server": UP},
        Activate("m", V2, V1),
    ),
    "it crashes": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, crashes=3)},
        RollBack("m", V2, V1, Fault("unavailable", "its worker crashed 3 times in its trial")),
    ),
    "one crash is forgiven": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, crashes=1, seconds=1)}, None,
    ),
    "it answers with errors": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, requests=11, errors=6)},
        RollBack("m", V2, V1, Fault("unavailable", "6 of 11 requests failed in its trial")),
    ),
    "few errors among many answers": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, requests=12, errors=6)}, None,
    ),
    "errors beyond what its trial allows": (
        want(V2, trial=Conditions(errors=0.05)), have(V1, V2, current=V2, trial=trial(V2, V1)),
        {"server": serving(V2, requests=90, errors=5)},
        RollBack("m", V2, V1, Fault("unavailable", "in its trial 5 of 90 requests failed; at most 0.05 of them may")),
    ),
    "slower than its trial allows": (
        want(V2, trial=Conditions(latency=1.5)), have(V1, V2, current=V2, trial=trial(V2, V1, latency=0.1)),
        {"server": serving(V2, requests=90, latency=0.2)},
        RollBack("m", V2, V1, Fault(
            "unavailable", "in its trial it took 2 times as long as the version before; at most 1.5 is asked"
        )),
    ),
    "nothing to measure its time by": (
        want(V2, trial=Conditions(latency=1.5)), have(V1, V2, current=V2, trial=trial(V2, V1)),
        {"server": serving(V2, requests=90, latency=9.0)}, None,
    ),
    "conditions for another version than the one on trial": (
        want(V1, trial=Conditions(errors=0.0)), have(V1, V2, current=V2, trial=trial(V2, V1)),
        {"server": serving(V2, requests=90, errors=5)}, Probe("m", V1),
    ),
    "the server has gone back by itself": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": UP},
        RollBack("m", V2, V1, Fault("unavailable", "it could not live: the inference server went back to another version")),
    ),
    "it takes the machine down": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1, boots=2)), {"server": "away"},
        RollBack("m", V2, V1, Fault("unavailable", "the machine restarted 2 times in its trial")),
    ),
    "one power cut proves nothing": (
        want(V2), have(V1, V2, current=V2, trial=trial(V2, V1, boots=1)), {"server": serving(V2, seconds=60)}, Confirm("m", V2),
    ),
    "going back was cut off after the link turned": (
        want(V2), have(V1, V2, current=V1, trial=trial(V2, V1, fault=FAULT), digest=V2), {"server": UP}, RollBack("m", V2, V1, FAULT),
    ),
    "going back was cut off after the version was removed": (
        want(V2), have(V1, current=V1, trial=trial(V2, V1, fault=FAULT), digest=V2), {"server": UP}, RollBack("m", V2, V1, FAULT),
    ),
    "the first of its model fails": (
        want(V1), have(V1, current=V1, trial=trial(V1)), {"server": serving(V1, crashes=9)},
        RollBack("m", V1, None, Fault("unavailable", "its worker crashed 9 times in its trial")),
    ),
    "the version to go back to is gone, the previous one is not": (
        want(V3), have(V1, V3, current=V3, previous=V1, trial=trial(V3, V2)), {"server": serving(V3, crashes=9)},
        RollBack("m", V3, V1, Fault("unavailable", "its worker crashed 9 times in its trial")),
    ),
    "switching failed too often": (
        want(V2), have(V1, V2, current=V2, digest=V2, trial=trial(V2, V1, switched=False), attempt=Attempt("activate", NOW - 99, 3, 3)),
        {"server": UP}, RollBack("m", V2, V1, Fault("unavailable", "activate was cut off 3 times in a row")),
    ),
    "a trial ends without a hub": (None, have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2, seconds=60)}, Confirm("m", V2)),
    # Desired changes on the way.
    "to another version in mid-download": (
        want(V3), have(V1, current=V1, wanted=version(V3), digest=V3), {"partials": {WEIGHTS[V2]: 500}}, Download("m", WEIGHTS[V3], 1000),
    ),
    "back to the current one in mid-download: what was begun is garbage": (
        want(V1), have(V1, current=V1, digest=V1), {"partials": {WEIGHTS[V2]: 500}}, CollectGarbage((), (WEIGHTS[V2],)),
    ),
    "to a third during the trial: prepare it": (
        want(V3), have(V1, V2, current=V2, wanted=version(V3), trial=trial(V2, V1), digest=V3), {"server": serving(V2, seconds=1)},
        Download("m", WEIGHTS[V3], 1000),
    ),
    "to a third during the trial: but judge the second first": (
        want(V3), have(V1, V2, V3, current=V2, trial=trial(V2, V1), digest=V3), {"server": serving(V2, seconds=1)}, None,
    ),
    "back to the one before during the trial: at once": (
        want(V1), have(V1, V2, current=V2, trial=trial(V2, V1), digest=V1), {"server": serving(V2, seconds=1)}, Probe("m", V1),
    ),
    "no longer desired": ({}, have(V1, current=V1), {}, Drop("m")),
    "no longer desired in its trial": ({}, have(V1, V2, current=V2, trial=trial(V2, V1)), {"server": serving(V2)}, Drop("m")),
    "no longer desired, its files gone, but not yet what answers": ({}, have(), {"server": serving(V1)}, Drop("m")),
    "no longer desired, its files gone, but not yet forgotten": ({}, have(digest=V1), {}, Drop("m")),
    "no longer desired, and gone": ({}, have(), {}, None),
    "the hub was never heard": (None, have(V1, current=V1), {}, None),
    # What failed.
    "quarantined": (want(V2), have(V1, V2, current=V1, digest=V2, failed=FAULT), {"server": UP}, None),
    "three strikes": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW - 9999, 3, 3, fault=FAULT)), {}, None,
    ),
    "wait after a failed attempt": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW - 1, fault=FAULT)), {}, None,
    ),
    "and then try again": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW - 2, fault=FAULT)), {},
        Download("m", WEIGHTS[V2], 1000),
    ),
    "the wait doubles": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW - 31, 5, fault=FAULT)), {}, None,
    ),
    "but ends": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW - 900, 10**6, fault=FAULT)), {},
        Download("m", WEIGHTS[V2], 1000),
    ),
    "a clock set back must not prolong it": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW + 1e9, 3, fault=FAULT)), {},
        Download("m", WEIGHTS[V2], 1000),
    ),
    "another kind of step need not wait": (
        want(V2), have(V1, V2, current=V1, digest=V2, attempt=Attempt("install", NOW, fault=FAULT)), {"server": UP}, Probe("m", V2),
    ),
    "an open transfer need not wait": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW)), {"active": WEIGHTS[V2]},
        Download("m", WEIGHTS[V2], 1000),
    ),
    "a killed download that got on need not wait": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, attempt=Attempt("download", NOW, done=10)),
        {"partials": {WEIGHTS[V2]: 500}}, Download("m", WEIGHTS[V2], 1000),
    ),
    "no variant fits": (want(V2), have(V1, current=V1, wanted=version(V2, variant=None)), {}, None),
    "the server must be there for a probe": (want(V2), have(V1, V2, current=V1, digest=V2), {"server": "away"}, None),
    "but not for a download": (
        want(V2), have(V1, current=V1, wanted=version(V2)), {"server": "away"}, Download("m", WEIGHTS[V2], 1000),
    ),
    # Disk.
    "too little disk": (want(V2), have(V1, current=V1, wanted=version(V2)), {"free": 999}, None),
    "what runs makes no room, whatever else the links call it": (
        want(V2), have(V1, current=V1, previous=V1, wanted=version(V2)), {"free": 999}, None,
    ),
    "just enough": (want(V2), have(V1, current=V1, wanted=version(V2)), {"free": 1000}, Download("m", WEIGHTS[V2], 1000)),
    "some stays free": (want(V2), have(V1, current=V1, wanted=version(V2)), {"free": 1000, "keep_free": 1}, None),
    "what is begun needs no room twice": (
        want(V2), have(V1, current=V1, wanted=version(V2)), {"free": 400, "partials": {WEIGHTS[V2]: 600}}, Download("m", WEIGHTS[V2], 1000),
    ),
    "garbage makes room": (
        want(V2), have(V1, V3, current=V1, wanted=version(V2)), {"free": 0}, CollectGarbage((("m", V3),), (WEIGHTS[V3],)),
    ),
    "the previous version makes room when the quota demands it": (
        want(V2), have(V1, V3, current=V1, previous=V3, wanted=version(V2)), {"quota": 2500}, CollectGarbage((("m", V3),), (WEIGHTS[V3],)),
    ),
    "nothing is deleted when that would not be enough": (
        want(V2), have(V1, V3, current=V1, previous=V3, wanted=version(V2)), {"quota": 1500}, None,
    ),
    "the current version never makes room": (want(V2), have(V1, current=V1, wanted=version(V2)), {"quota": 1010}, None),
    "nor does the way back of a trial": (
        want(V3), have(V1, V2, current=V2, previous=V1, wanted=version(V3), trial=trial(V2, V1), digest=V3),
        {"quota": 2020, "server": serving(V2, seconds=1)}, None,
    ),
    "what is settled is tidied": (want(V1), have(V1, V3, current=V1), {}, CollectGarbage((("m", V3),), (WEIGHTS[V3],))),
    "the previous version is kept": (want(V1), have(V1, V3, current=V1, previous=V3), {}, None),
    "files of a quarantined version are kept while there is room": (
        want(V2), have(V1, current=V1, wanted=version(V2), digest=V2, failed=FAULT), {"blobs": (WEIGHTS[V2],)}, None,
    ),
    # Windows.
    "the window is closed": (want(V2), have(V1, current=V1, wanted=version(V2)), {"shut": SHUT}, None),
    "it is open": (want(V2), have(V1, current=V1, wanted=version(V2)), {}, Download("m", WEIGHTS[V2], 1000)),
    "what is here is installed at any time": (want(V2), have(wanted=version(V2)), {"shut": SHUT, "blobs": BOTH}, Install("m", V2)),
    # Held back: tried out, and not switched to.
    "it is tried out also when it is held": (want(V2, hold=True), have(V1, V2, current=V1, digest=V2), {"server": serving(V1)}, Probe("m", V2)),
    "and then lets its memory go": (
        want(V2, hold=True), have(V1, V2, current=V1, digest=V2, probed=True), {"server": serving(V1, candidate=V2)}, Park("m", V2),
    ),
    "and waits for its switch": (want(V2, hold=True), have(V1, V2, current=V1, digest=V2, probed=True), {"server": serving(V1)}, None),
    "outside its window, too": (want(V2, activate=SOON), have(V1, V2, current=V1, digest=V2, probed=True), {"server": serving(V1)}, None),
    "in its window it is switched to": (
        want(V2, activate=NOW_OPEN), have(V1, V2, current=V1, digest=V2, probed=True), {"server": serving(V1)}, Activate("m", V2, V1),
    ),
    "a local window goes by local time": (
        want(V2, activate=("09:00-10:00",)), have(V1, V2, current=V1, digest=V2, probed=True),
        {"server": serving(V1), "offset": 3600}, Activate("m", V2, V1),
    ),
    "going back waits for no window": (
        want(V1, activate=SOON), have(V1, V2, current=V2, previous=V1, digest=V1, probed=True), {"server": serving(V2)}, Activate("m", V1, V2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_next_step(row):
    desired, state, more, expected = row
    snapshot = local(state, **more)
    assert next_step(desired, snapshot, NOW) == expected
    assert next_step(desired, snapshot, NOW) == expected  # safe to ask twice


HOLDS = {
    "closed window: until it opens": ("waiting", NOW + 60, "window", want(V2), have(wanted=version(V2)), {"shut": SHUT}),
    "a cap: until it has room again": (
        "waiting", NOW + 60, "cap reached", want(V2), have(wanted=version(V2)), {"shut": Shut(NOW + 60, "cap", "cap reached: 5 MB a day")},
    ),
    "held: until it is told otherwise": (
        "ready", None, None, want(V2, hold=True), have(V1, V2, current=V1, digest=V2, probed=True), {"server": serving(V1)},
    ),
    "activation: until its window": (
        "ready", NOW + 3600, None, want(V2, activate=SOON), have(V1, V2, current=V1, digest=V2, probed=True), {"server": serving(V1)},
    ),
    "too little disk: until something else changes": ("failed", None, "too little disk", want(V2), have(wanted=version(V2)), {"free": 1}),
    "no variant": ("failed", None, "no variant fits", want(V2), have(wanted=version(V2, variant=None)), {}),
    "quarantine": ("failed", None, "wrong bytes", want(V2), have(digest=V2, failed=FAULT), {}),
    "pause": (
        "waiting", NOW + 1, "wrong bytes", want(V2), have(wanted=version(V2), digest=V2, attempt=Attempt("download", NOW - 1, fault=FAULT)), {},
    ),
    "the server has let another version answer": (
        "failed",
        None,
        "could not live",
        want(V2),
        have(V1, V2, current=V2, previous=V1),
        {"server": UP},
    ),
    "server away": ("waiting", NOW + 5, "inference server", want(V2), have(V2, digest=V2), {"server": "away"}),
    "server never seen": (
        "waiting", NOW + 5, "inference server", want(V2), have(wanted=version(V2, variant=None)), {"server": "away", "runtimes": ()},
    ),
    "trial": ("trial", NOW + 5, None, want(V2), have(V2, current=V2, trial=trial(V2)), {"server": serving(V2, seconds=2)}),
    "end of trial": ("trial", NOW + 2, None, want(V2), have(V2, current=V2, trial=trial(V2)), {"server": serving(V2, seconds=58)}),
    "going back, again": (
        "trial", NOW + 1, "wrong bytes", want(V2),
        have(V1, current=V1, trial=trial(V2, V1, fault=FAULT), attempt=Attempt("roll-back", NOW - 1, fault=FAULT)), {"server": "away"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", HOLDS.values(), ids=HOLDS.keys())
def test_reasons_to_hold(row):
    state_name, until, reason, desired, state, more = row
    hold = verdicts(desired, local(state, **more), NOW)["m"]
    assert isinstance(hold, Hold)
    assert (hold.state, hold.until) == (state_name, until)
    assert reason is None or reason in hold.fault.message


def two(first, second, **more):
    snapshot = local(first, model="a", **more)
    return replace(snapshot, models={"a": first, "b": second})


def test_danger_of_one_model_comes_before_the_downloads_of_another():
    failing = have(V1, V2, current=V2, trial=trial(V2, V1))
    snapshot = two(have(wanted=version(V3)), failing, server=serving(V2, model="b", crashes=5))
    step = next_step(want(V3, "a") | want(V2, "b"), snapshot, NOW)
    assert isinstance(step, RollBack) and step.model == "b"


def test_one_models_wait_does_not_keep_another_from_its_step():
    waiting = have(wanted=version(V1), digest=V1, attempt=Attempt("download", NOW, fault=FAULT))
    step = next_step(want(V1, "a") | want(V2, "b"), two(waiting, have(wanted=version(V2))), NOW)
    assert step == Download("b", WEIGHTS[V2], 1000)


def test_files_that_another_model_needs_are_not_garbage():
    snapshot = two(have(V1, current=V1), have(V1, current=V1))
    snapshot = replace(snapshot, blobs={WEIGHTS[V1]: 1000, LABELS: 10})
    assert next_step(want(V1, "a"), snapshot, NOW) == Drop("b")
    gone = replace(snapshot, models={"a": snapshot.models["a"], "b": ModelState()})
    assert next_step(want(V1, "a"), gone, NOW) is None


def test_a_quarantined_versions_files_make_room_for_another_model():
    spent = have(wanted=version(V2), digest=V2, failed=FAULT)
    snapshot = two(spent, have(wanted=version(V3)), free=0, blobs=(WEIGHTS[V2],))
    snapshot = replace(snapshot, blobs={WEIGHTS[V2]: 1000, LABELS: 10})
    assert next_step(want(V2, "a") | want(V3, "b"), snapshot, NOW) == CollectGarbage((), (WEIGHTS[V2],))


def test_every_step_has_a_kind_and_an_urgency():
    steps = set(plan.Step.__args__)
    assert set(plan._ORDER) == steps == set(plan._KINDS)


versions = st.sampled_from([V1, V2, V3])
maybe = st.none() | versions
counts = st.integers(0, 5)


@st.composite
def worlds(draw):
    held = draw(st.sets(versions))
    pick = st.none() | (st.sampled_from(sorted(held)) if held else st.none())
    current, previous = draw(pick), draw(pick)
    on_trial = draw(st.none() | st.builds(Trial, versions, maybe, st.booleans(), counts, st.none() | st.just(FAULT)))
    attempt = draw(
        st.none()
        | st.builds(Attempt, st.sampled_from(["download", "probe", "activate"]), st.just(NOW - 3), counts, counts)
    )
    goal = draw(maybe)
    wanted = version(goal) if goal and goal not in held and draw(st.booleans()) else None
    note = Note(goal, 0, draw(st.booleans()), draw(st.none() | st.just(FAULT)), attempt, on_trial)
    server = draw(st.sampled_from(["none", "away"]) | st.builds(
        lambda digest, crashes, seconds: serving(digest, crashes=crashes, seconds=seconds), maybe, counts, st.integers(0, 99)))  # fmt: skip
    state = have(*held, current=current, previous=previous, wanted=wanted)
    state = replace(state, note=note)
    blobs = draw(st.sets(st.sampled_from([*WEIGHTS.values(), LABELS])))
    snapshot = local(
        state, server=server, blobs=blobs, quota=draw(st.none() | st.integers(0, 4000)), free=draw(st.integers(0, 4000))
    )
    return (want(goal) if goal else {}), snapshot


@settings(deadline=None)
@given(worlds())
def test_whatever_the_state_what_runs_is_never_deleted_and_nothing_unproved_is_activated(world):
    desired, snapshot = world
    step, state = next_step(desired, snapshot, NOW), snapshot.model("m")
    if isinstance(step, CollectGarbage):
        safe = {state.current} | ({state.note.trial.back} if state.note.trial else set())
        assert not {digest for _, digest in step.versions} & safe
        running = state.installed.get(state.current)
        assert not set(step.blobs) & set(running.files if running else ())
        assert step.versions or step.blobs
    if isinstance(step, Activate):
        finishing = state.note.trial is not None and state.note.trial.digest == step.digest
        assert (state.note.probed and state.note.failed is None) or finishing
        assert step.back != step.digest
    if isinstance(step, Download):
        rest = step.size - snapshot.partials.get(step.digest, 0)
        assert rest <= snapshot.free
    msgspec.to_builtins(state.note)
