"""What a path to push stands for."""

import pytest

from farshore.client.upload import collect, measure
from farshore.core import digest as digests
from farshore.core.errors import Invalid, NotFound


def test_folders_are_walked_and_hidden_files_left_out(tmp_path):
    for name in ("v2/model.onnx", "v2/labels.txt", "v2/acceptance/a.jpg", "v2/.git/config", "v2/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [path.name for path in collect([tmp_path / "v2"])] == ["a.jpg", "labels.txt", "model.onnx"]


def test_what_cannot_be_pushed_is_said(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(Invalid, match="nothing to push"):
        collect([tmp_path])
    for name in ("a/x.txt", "b/x.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    with pytest.raises(Invalid, match=r"two files are named 'x.txt'"):
        collect([tmp_path])


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("farshore.client.upload.MAX_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).write_text("")
    with pytest.raises(Invalid, match="more than 3"):
        collect([tmp_path])


def test_measure_hashes_and_tells_how_far_it_is(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_000)
    seen = []
    found = measure(path, seen.append)
    assert (found.name, found.size, found.digest) == ("f", 3_000_000, digests.of(path.read_bytes()))
    assert sum(seen) == 3_000_000
    assert len(seen) > 1
    with pytest.raises(Invalid, match="cannot be read"):
        measure(tmp_path / "gone", seen.append)
