from __future__ import annotations

import pytest

from farshore.agent.journal import MOST_TRIES, TRIES_KEPT, Journal, Tries
from farshore.agent.state import Note, Trial
from farshore.core import digest as digests
from farshore.core.errors import Invalid, Unavailable
from farshore.core.wire import Fault
from farshore.store import files

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FAULT = Fault("corrupt", "wrong")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.json"


@pytest.fixture
def journal(path):
    return Journal(path)


def desired(digest=A, **more):
    return {"models": {"m": {"version": 1, "digest": digest, **more}}, "$version": 5}


def test_what_is_written_is_there_after_a_restart(journal, path):
    journal.accept(desired(), 5)
    journal.write("m", probed=True, fetched=7)
    journal.saw_runtimes(("litert",))
    again = Journal(path)
    assert again.notes == journal.notes
    assert again.desired()["m"].digest == A
    assert again.note("m") == Note(digest=A, probed=True, fetched=7)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_does_not_change_costs_no_write(journal, path):
    journal.write("m", probed=True)
    before = path.stat().st_ino
    journal.write("m", probed=True)
    journal.saw_runtimes(())
    assert path.stat().st_ino == before


def test_attempts_are_counted_until_they_get_on(journal):
    for count in (1, 2, 3):
        journal.begin("m", "download", 100.0 + count, done=10, strike=False)
        assert (journal.note("m").attempt.count, journal.note("m").attempt.strikes) == (count, 0)
    journal.end("m", FAULT, strike=True)
    assert (journal.note("m").attempt.strikes, journal.note("m").attempt.fault) == (1, FAULT)
    journal.begin("m", "download", 110.0, done=11, strike=False)
    assert (journal.note("m").attempt.count, journal.note("m").attempt.strikes) == (1, 0)
    journal.begin("m", "probe", 120.0, strike=True)
    journal.begin("m", "probe", 121.0, strike=True)
    assert (journal.note("m").attempt.count, journal.note("m").attempt.strikes) == (2, 2)


def test_a_new_desired_version_begins_with_a_clean_slate(journal):
    journal.accept(desired(A), 1)
    journal.write("m", failed=FAULT, probed=True, fetched=3, trial=Trial(B))
    journal.accept(desired(A), 2)
    assert journal.note("m").failed == FAULT
    journal.accept(desired(A, retry=1), 3)
    assert journal.note("m") == Note(digest=A, retry=1, fetched=3, trial=Trial(B))
    journal.write("m", failed=FAULT)
    journal.accept(desired(B), 4)
    assert journal.note("m").failed is None
    journal.write("m", failed=FAULT)
    journal.accept({"models": {}}, 5)
    assert journal.note("m") == Note(fetched=3, trial=Trial(B))


@pytest.mark.parametrize(
    "models", [{"m": {"version": "x"}}, [], {"../m": desired()["models"]["m"]}, {"M": desired()["models"]["m"]}]
)
def test_desired_that_is_malformed_is_not_kept_but_remembered_as_seen(journal, path, models):
    journal.accept(desired(), 5)
    with pytest.raises(Invalid):
        journal.accept({"models": models}, 6)
    assert journal.desired()["m"].digest == A
    assert Journal(path).notes.seen == 6


def test_a_start_of_the_machine_is_told_from_a_start_of_the_agent(journal, path):
    journal.write("m", trial=Trial(A))
    assert journal.started("one")
    assert not Journal(path).started("one")
    again = Journal(path)
    assert again.started("two")
    assert again.note("m").trial.boots == 2
    assert Journal(path).started("")  # unknown counts as a start


def test_a_disk_that_takes_nothing_changes_nothing(journal, monkeypatch):
    journal.write("m", fetched=1)

    def full(*_args, **_kwargs):
        raise Unavailable("disk full")

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(Unavailable):
        journal.write("m", fetched=2)
    assert journal.note("m").fetched == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"seen": -1}', b'{"models": {"../x": {}}}', b'{"desired": {"models": 5}}', b"\xff" * 99],
)
def test_a_damaged_journal_is_begun_anew(path, data):
    path.write_bytes(data)
    journal = Journal(path)
    assert journal.desired() is None
    journal.write("m", fetched=1)
    assert Journal(path).note("m").fetched == 1


def test_forgetting(journal, path):
    journal.write("m", fetched=1)
    journal.forget("m")
    assert Journal(path).notes.models == {}


def test_applications_that_never_end_are_counted_over_restarts(path):
    for count in range(MOST_TRIES):
        tries = Tries(Journal(path), "m")
        assert not tries.spent(A), count
        tries.begin(A)
    tries = Tries(Journal(path), "m")
    assert tries.spent(A)
    assert not tries.spent(B)
    tries.begin(B)
    assert tries.spent(A), "another patch does not wipe it"


@pytest.mark.parametrize(("cut", "left"), [(False, {}), (True, {A: 2})])
def test_an_end_wipes_the_count_and_an_order_to_stop_takes_one_back(journal, cut, left):
    tries = Tries(journal, "m")
    for _ in range(3):
        tries.begin(A)
    tries.end(A, cut=cut)
    assert journal.note("m").applying == left


def test_only_the_last_few_patches_are_remembered(journal, path):
    every = [digests.of(bytes([k])) for k in range(40)]
    for patch in every:
        Tries(journal, "m").begin(patch)
    assert list(journal.note("m").applying) == every[-TRIES_KEPT:]
    assert Journal(path).notes == journal.notes  # within what is read back
