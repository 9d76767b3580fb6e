"""The atomic-write ritual, recorded call by call and replayed after every cut."""

import errno
import os

import pytest

from farshore.core.errors import Unavailable
from farshore.store import files


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_write_replaces_whole_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "a"
    files.write_atomic(path, b"one", mode=0o600)
    files.write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a"]


def test_the_order_of_calls_is_the_ritual(tmp_path, monkeypatch):
    """fsync of the file before the rename, fsync of the folder after it: the two calls whose absence loses data."""
    calls = []
    for name in ("fsync", "rename", "open"):
        real = getattr(os, name)

        def spy(*args, _real=real, _name=name, **kwargs):
            calls.append(_name)
            return _real(*args, **kwargs)

        monkeypatch.setattr(os, name, spy)
    files.write_atomic(tmp_path / "a", b"x")
    assert calls == ["open", "fsync", "rename", "open", "fsync"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_an_error_at_any_call_keeps_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a"
    files.write_atomic(path, b"old")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(Unavailable, match="disk full" if number == errno.ENOSPC else "write|disk error"):
            files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    files.write_atomic(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_publish_makes_read_only_and_moves_between_folders(tmp_path):
    (tmp_path / "in").mkdir()
    temp = tmp_path / "in" / "t"
    temp.write_bytes(b"x")
    files.publish(temp, tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o444
    assert names(tmp_path / "in") == []


def test_point_replaces_a_link_in_one_step_even_after_a_crash(tmp_path):
    link = tmp_path / "current"
    files.point(link, "versions/1")
    (tmp_path / ".tmp-left-by-a-crash").symlink_to("versions/0")
    files.point(link, "versions/2")
    assert str(link.readlink()) == "versions/2"
    files.sweep(tmp_path)
    assert names(tmp_path) == ["current"]


def test_remove_and_remove_tree_are_safe_to_ask_twice(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_bytes(b"x")
    (tmp_path / "g").write_bytes(b"x")
    for _ in range(2):
        files.remove_tree(tmp_path / "d")
        files.remove(tmp_path / "g")
    assert names(tmp_path) == []


def test_sweep_takes_only_temporaries(tmp_path):
    (tmp_path / ".tmp-a").mkdir()
    (tmp_path / ".tmp-a" / "x").write_bytes(b"x")
    (tmp_path / ".tmp-b").write_bytes(b"x")
    (tmp_path / "keep").write_bytes(b"x")
    files.sweep(tmp_path)
    files.sweep(tmp_path / "missing")
    assert names(tmp_path) == ["keep"]


def test_sweep_deletes_no_folder_whose_temporary_name_may_not_be_durable(tmp_path, monkeypatch):
    (tmp_path / ".tmp-a").mkdir()
    (tmp_path / ".tmp-a" / "x").write_bytes(b"x")
    calls = []
    monkeypatch.setattr(
        files, "sync_folder", lambda folder: calls.append((folder, (tmp_path / ".tmp-a" / "x").exists()))
    )
    files.sweep(tmp_path)
    assert calls == [(tmp_path, True)]
    assert names(tmp_path) == []

    def fail(folder):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / ".tmp-b").mkdir()
    monkeypatch.setattr(files, "sync_folder", fail)
    with pytest.raises(Unavailable):
        files.sweep(tmp_path)
    assert names(tmp_path) == [".tmp-b"]


def test_make_folder_makes_parents_and_refuses_a_file_in_the_way(tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(Unavailable):
        files.make_folder(tmp_path / "f" / "g")


def test_free_bytes_is_what_the_system_says(tmp_path):
    assert 0 < files.free_bytes(tmp_path) <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_what_cannot_be_discarded_now_is_left_to_the_next_sweep(tmp_path, monkeypatch):
    temp = files.temporary(tmp_path / "a")
    temp.write_bytes(b"x")

    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing)
        files.discard(temp)
    files.discard(tmp_path / "not there")
    files.sweep(tmp_path)
    assert not temp.exists()
