"""The recorder misses nothing, and its replay ends where the program did."""

from __future__ import annotations

import os
import shutil

import pytest
from tests.crash import stories
from tests.crash.recorder import Recording
from tests.crash.replay import final, states
from tests.crash.stories import tell

from farshore.store import files


def on_disk(root):
    """path → folder (None), link (its target) or file (bytes, mode)."""

    def what(path):
        if path.is_symlink():
            return os.readlink(path)
        return None if path.is_dir() else (path.read_bytes(), path.stat().st_mode & 0o777)

    return {str(path.relative_to(root)): what(path) for path in root.rglob("*")}


def plain(tree):
    """A state's tree without its inodes."""
    return {path: what[:2] if isinstance(what, tuple) else what for path, what in tree.items()}


@pytest.mark.parametrize("make", stories.ALL, ids=lambda make: make.__name__)
def test_what_was_recorded_is_all_that_was_done(make, scratch):
    plot = make(scratch / "device")
    assert plain(final(tell(plot))) == on_disk(plot.world.settings.root)


def test_the_patched_story_moves_little_more_than_its_patch(scratch):
    plot = stories.patched(scratch / "device")
    world, moved = plot.world, plot.world.link.moved
    tell(plot)
    [[patch]] = world.hub.patches.values()
    assert world.link.moved - moved == patch.size < 2000


def after(root, act):
    """All states of what ``act`` does to ``root``, as sets of (path, bytes)."""
    recording = Recording(root)
    with recording.running():
        act()
    found = [plain(state.tree) for state in states(recording, at_each=1000)]
    return [{path: what[0] if isinstance(what, tuple) else what for path, what in tree.items()} for tree in found]


def test_a_file_that_is_not_synced_may_be_empty_torn_zero_or_whole(scratch):
    data = b"x" * 1000

    def act():
        fd = os.open(scratch / "a", os.O_WRONLY | os.O_CREAT)
        os.write(fd, data)
        os.close(fd)

    seen = {tree.get("a") for tree in after(scratch, act)}
    assert seen == {None, b"", data[:512], bytes(1000), data}


def test_after_both_fsyncs_there_is_one_state_left(scratch):
    files.write_atomic(scratch / "a", b"old")
    trees = after(scratch, lambda: files.write_atomic(scratch / "a", b"new"))
    assert {tree["a"] for tree in trees} == {b"old", b"new"}
    recording = Recording(scratch)
    with recording.running():
        files.write_atomic(scratch / "a", b"newer")
    cuts = [state for state in states(recording, at_each=1000) if state.at == len(recording.operations) - 1]
    assert all(plain(state.tree)["a"][0] == b"newer" for state in cuts)


def test_names_of_one_folder_come_and_go_independently_until_it_is_synced(scratch):
    def act():
        for name in "ab":
            os.mkdir(scratch / name)

    assert {frozenset(tree) for tree in after(scratch, act)} == {frozenset(some) for some in ("", "a", "b", "ab")}


def test_a_file_moved_to_another_folder_may_be_in_both_or_in_neither(scratch):
    (scratch / "from").mkdir()
    (scratch / "to").mkdir()
    (scratch / "from" / "a").write_bytes(b"x")
    trees = after(scratch, lambda: os.rename(scratch / "from" / "a", scratch / "to" / "a"))
    assert {("from/a" in tree, "to/a" in tree) for tree in trees} == {
        (True, False),
        (False, True),
        (True, True),
        (False, False),
    }


def test_bytes_written_over_may_be_old_in_part_and_new_in_part(scratch):
    (scratch / "a").write_bytes(b"o" * 8192)

    def act():
        fd = os.open(scratch / "a", os.O_RDWR)
        os.write(fd, b"n" * 4096)
        os.write(fd, b"m" * 4096)
        os.ftruncate(fd, 100)
        os.close(fd)

    seen = {tree["a"] for tree in after(scratch, act)}
    assert {b"o" * 8192, b"n" * 512 + b"o" * 7680, b"o" * 4096 + b"m" * 4096, b"n" * 100, b"o" * 100} <= seen


def test_a_state_is_laid_as_it_was_with_its_links(scratch):
    root = scratch / "device"
    root.mkdir()
    (root / "d").mkdir()
    (root / "d" / "a").write_bytes(b"x")
    os.link(root / "d" / "a", root / "b")
    (root / "l").symlink_to("d/a")
    [state] = states(Recording(root), at_each=1)
    laid = state.lay(scratch / "copy")
    assert on_disk(laid) == on_disk(root)
    assert (laid / "b").stat().st_ino == (laid / "d" / "a").stat().st_ino
    shutil.rmtree(laid)
