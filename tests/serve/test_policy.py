"""``next_action`` by rows: versions as they are → the one move that follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.core.digest import Digest
from farshore.serve.policy import (
    GIVE_UP,
    Drain,
    End,
    Load,
    Refuse,
    Resident,
    Switch,
    Version,
    give_way,
    next_action,
    should_answer,
)

ROOMY, TIGHT, TINY = 1000, 150, 50
NOW = 100.0
A, B, C = Digest("a"), Digest("b"), Digest("c")


def v(digest, role, state="absent", **more):
    return Version(digest, role, state, **{"memory": 100, **more})


ROWS = [
    # what it is about, versions, memory, expected
    ("nothing to do without versions", [], ROOMY, None),
    ("start: load the current version", [v(A, "lead")], ROOMY, Load(A)),
    ("while it loads, wait", [v(A, "lead", "loading")], ROOMY, None),
    ("ready: take traffic", [v(A, "lead", "ready")], ROOMY, Switch(A)),
    ("answering: nothing to do", [v(A, "lead", "ready", leads=True, leases=3)], ROOMY, None),
    ("the fallback is not kept loaded", [v(A, "lead", "ready", leads=True), v(B, "fallback")], ROOMY, None),
    # crashes
    ("crashed once: again at once", [v(A, "lead", leads=True, crashes=1)], ROOMY, Load(A)),
    ("crashed twice: after its pause", [v(A, "lead", leads=True, crashes=2, retry_at=NOW + 1)], ROOMY, None),
    ("the pause is over", [v(A, "lead", leads=True, crashes=2, retry_at=NOW)], ROOMY, Load(A)),
    ("no other version: goes on trying", [v(A, "lead", leads=True, crashes=9)], ROOMY, Load(A)),
    ("given up: load the previous one", [v(A, "lead", leads=True, crashes=GIVE_UP), v(B, "fallback")], ROOMY, Load(B)),
    ("the previous one takes over", [v(A, "lead", leads=True, crashes=GIVE_UP), v(B, "fallback", "ready")], ROOMY, Switch(B)),
    ("it goes on answering", [v(A, "lead", crashes=GIVE_UP), v(B, "fallback", "ready", leads=True)], ROOMY, None),
    ("both crash: whichever fared better", [v(A, "lead", crashes=3), v(B, "fallback", crashes=3)], ROOMY, Load(A)),
    ("files broken: the previous one at once", [v(A, "lead", broken=True), v(B, "fallback")], ROOMY, Load(B)),
    ("broken and alone: nothing can be done", [v(A, "lead", broken=True)], ROOMY, None),
    ("both broken", [v(A, "lead", broken=True), v(B, "fallback", broken=True)], ROOMY, None),
    # candidates
    ("candidate beside the lead", [v(A, "lead", "ready", leads=True), v(B, "candidate")], ROOMY, Load(B)),
    ("first the lead, then the candidate", [v(A, "lead"), v(B, "candidate")], ROOMY, Load(A)),
    ("one load at a time", [v(A, "lead", "loading"), v(B, "candidate")], ROOMY, None),
    ("the first version ever: nothing leads yet", [v(B, "candidate")], ROOMY, Load(B)),
    ("a probed candidate stays warm", [v(A, "lead", "ready", leads=True), v(B, "candidate", "ready", probed=True)], ROOMY, None),
    ("a candidate that crashed in its probe is over", [v(A, "lead", "ready", leads=True), v(B, "candidate", broken=True)], ROOMY, None),
    ("a broken candidate's worker ends", [v(A, "lead", "ready", leads=True), v(B, "candidate", "ready", broken=True, probed=True)], ROOMY, End(B)),
    ("a dropped candidate ends", [v(A, "lead", "ready", leads=True), v(B, "none", "ready")], ROOMY, End(B)),
    ("also while it loads", [v(A, "lead", "ready", leads=True), v(B, "none", "loading")], ROOMY, End(B)),
    # switching
    ("switch to the warm one", [v(A, "fallback", "ready", leads=True), v(B, "lead", "ready")], ROOMY, Switch(B)),
    ("the old one drains", [v(A, "fallback", "ready", leases=2), v(B, "lead", "ready", leads=True)], ROOMY, None),
    ("drained: end it", [v(A, "fallback", "ready"), v(B, "lead", "ready", leads=True)], ROOMY, End(A)),
    ("ending: wait", [v(A, "fallback", "ending"), v(B, "lead", "ready", leads=True)], ROOMY, None),
    ("switch to a cold one: load beside", [v(A, "fallback", "ready", leads=True), v(B, "lead")], ROOMY, Load(B)),
    ("the old one answers meanwhile", [v(A, "fallback", "ready", leads=True, leases=1), v(B, "lead", "loading")], ROOMY, None),
    ("the new one cannot live: the old one goes on", [v(A, "fallback", "ready", leads=True), v(B, "lead", broken=True)], ROOMY, None),
    ("dropped altogether", [v(A, "none", "ready")], ROOMY, End(A)),
    # break before make
    ("tight: let new requests wait", [v(A, "lead", "ready", leads=True, leases=1), v(B, "candidate")], TIGHT, Drain(A)),
    ("tight: its last requests", [v(A, "lead", "ready", leases=1), v(B, "candidate")], TIGHT, None),
    ("tight: make room", [v(A, "lead", "ready"), v(B, "candidate")], TIGHT, End(A)),
    ("tight: until it is really gone", [v(A, "lead", "ending"), v(B, "candidate")], TIGHT, None),
    ("tight: the candidate alone", [v(A, "lead"), v(B, "candidate")], TIGHT, Load(B)),
    ("tight: being probed", [v(A, "lead"), v(B, "candidate", "ready", leases=1)], TIGHT, None),
    ("tight: its probe went well: the switch is about to be ordered", [v(A, "lead"), v(B, "candidate", "ready", probed=True, expected=NOW + 1)], TIGHT, None),
    ("tight: the order did not come", [v(A, "lead"), v(B, "candidate", "ready", probed=True, expected=NOW)], TIGHT, End(B)),
    ("tight: the order came: nothing is loaded again", [v(A, "fallback"), v(B, "lead", "ready", probed=True, expected=NOW + 1)], TIGHT, Switch(B)),
    ("roomy: what leads is not waited with", [v(A, "lead"), v(B, "candidate", "ready", probed=True, expected=NOW + 1)], ROOMY, Load(A)),
    ("tight: it crashed while the order is expected", [v(A, "lead"), v(B, "candidate", probed=True, expected=NOW + 1, crashes=1)], TIGHT, Load(A)),
    ("tight: what leads crashed, and comes first", [v(A, "lead", leads=True, crashes=1), v(B, "candidate", "ready", probed=True, expected=NOW + 1)], TIGHT, End(B)),
    ("tight: probed, so it gives way", [v(A, "lead"), v(B, "candidate", "ready", probed=True)], TIGHT, End(B)),
    ("tight: the lead comes back", [v(A, "lead"), v(B, "candidate", probed=True)], TIGHT, Load(A)),
    ("tight: and answers", [v(A, "lead", "ready"), v(B, "candidate", probed=True)], TIGHT, Switch(A)),
    ("tight: the probed one waits on disk", [v(A, "lead", "ready", leads=True), v(B, "candidate", probed=True)], TIGHT, None),
    ("tight switch: drain", [v(A, "fallback", "ready", leads=True), v(B, "lead")], TIGHT, Drain(A)),
    ("tight switch: end", [v(A, "fallback", "ready"), v(B, "lead")], TIGHT, End(A)),
    ("tight switch: load", [v(A, "fallback"), v(B, "lead")], TIGHT, Load(B)),
    ("tight switch: new one fails, old one returns", [v(A, "fallback"), v(B, "lead", broken=True)], TIGHT, Load(A)),
    ("a warm candidate gives way to a lead that crashed", [v(A, "lead", leads=True, crashes=1), v(B, "candidate", "ready", probed=True)], TIGHT, End(B)),
    ("neither fits: refuse, leave the lead alone", [v(A, "lead", "ready", leads=True), v(B, "candidate", memory=2000)], ROOMY, Refuse(B)),
    ("seems not even to fit alone, but there is nothing to lose", [v(B, "candidate")], TINY, Load(B)),
]  # fmt: skip


@pytest.mark.parametrize(("versions", "memory", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_next_action(versions, memory, expected):
    assert next_action(tuple(versions), memory, NOW) == expected


def version_of(digest, role):
    return st.builds(
        Version,
        st.just(digest),
        st.just(role),
        st.just("absent"),
        crashes=st.integers(0, 4),
        broken=st.booleans(),
        probed=st.booleans(),
        memory=st.integers(1, 300),
    )


@given(
    st.tuples(version_of(A, "lead"), version_of(B, "fallback"), version_of(C, "candidate")),
    st.integers(300, 700),
)
def test_it_always_comes_to_rest_with_what_should_answer_answering(versions, memory):
    """Carry out every move as a world without accidents would; it ends, never loads past memory, and the right one leads.

    The switch that is expected after a probe never comes: what led before comes back.
    """
    now = NOW
    state = {version.digest: version for version in versions}

    def change(digest, **what):
        from dataclasses import replace

        state[digest] = replace(state[digest], **what)

    for _ in range(60):
        action = next_action(tuple(state.values()), memory, now)
        match action:
            case None:
                loading = [each for each in state.values() if each.state == "loading"]
                unprobed = [
                    each
                    for each in state.values()
                    if each.role == "candidate" and each.state == "ready" and not each.probed
                ]
                ending = [each for each in state.values() if each.state == "ending"]
                if loading:
                    change(loading[0].digest, state="ready")
                elif ending:
                    change(ending[0].digest, state="absent")
                elif unprobed:
                    change(unprobed[0].digest, probed=True, expected=now + 3)
                elif now < max(each.expected for each in state.values()):
                    now += 4
                else:
                    break
            case Load(digest):
                assert state[digest].state == "absent"
                assert not state[digest].broken
                change(digest, state="loading")
            case Switch(digest):
                for each in list(state):
                    change(each, leads=each == digest)
                assert state[digest].state == "ready"
            case Drain(digest):
                change(digest, leads=False)
            case End(digest):
                assert not state[digest].leads
                change(digest, state="ending")
            case Refuse(digest):
                change(digest, broken=True)
        held = sum(each.memory for each in state.values() if each.state != "absent")
        assert held <= memory or sum(each.state != "absent" for each in state.values()) == 1
    else:
        raise AssertionError("it never comes to rest")
    wanted = should_answer(tuple(state.values()))
    if wanted is not None:
        assert state[wanted.digest].leads
        assert state[wanted.digest].state == "ready"


OLD, NEW, BIG = Resident("old", 100, 1.0), Resident("new", 100, 9.0), Resident("big", 300, 5.0)
BUSY, AWAY = Resident("busy", 500, 0.0, stays=True), Resident("away", 0, 0.0)


@pytest.mark.parametrize(
    ("about", "residents", "short", "expected"),
    [
        ("nobody is here", (), 10, ()),
        ("asked longest ago goes first", (NEW, OLD), 50, ("old",)),
        ("as many as it takes", (NEW, OLD), 150, ("old", "new")),
        ("no more than it takes", (NEW, BIG, OLD), 350, ("old", "big")),
        ("what is asked now or pinned stays", (BUSY, NEW), 50, ("new",)),
        ("who holds nothing has nothing to give", (AWAY, NEW), 50, ("new",)),
        ("nobody goes in vain", (BUSY, NEW, OLD), 250, ()),
        ("nothing is short", (NEW,), 0, ()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_give_way(about, residents, short, expected):
    assert give_way(residents, short) == expected
