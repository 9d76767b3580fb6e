"""Versions side by side; a crash at any step leaves a whole current version."""

import errno
import os
from pathlib import Path

import pytest

from farshore.core import manifest as manifests
from farshore.core.errors import Conflict, Corrupt, NotFound, Unavailable
from farshore.core.manifest import AcceptanceCase, Content, File, Manifest, Pipeline, Tensor, Variant
from farshore.store import files
from farshore.store.blobs import Blobs
from farshore.store.slots import Slots


class Device:
    def __init__(self, root):
        self.blobs, self.slots = Blobs(root / "blobs"), Slots(root)

    def make(self, number, *, model="detector"):
        weights = self.blobs.add(b"weights %d" % number)
        picture = self.blobs.add(b"picture")
        files_ = (File("model.onnx", weights, 9), File("notes.md", "sha256:" + "0" * 64, 3, "other"))
        variant = Variant(
            "onnx-fp32",
            "onnxruntime",
            "fp32",
            files_,
            (Tensor("x", "float32", (1,)),),
            (),
            Pipeline("tensors", "tensors"),
        )
        case = AcceptanceCase("one", File("p.jpg", picture, 7, "picture"), {})
        payload = manifests.encode(Manifest(model, number, Content((variant,), (case,))))
        return payload, variant

    def install(self, number, **kwargs):
        return self.slots.install(*self.make(number, **kwargs), self.blobs)


@pytest.fixture
def device(tmp_path):
    return Device(tmp_path)


def test_install_lays_everything_beside_the_others(device):
    one, two = device.install(1), device.install(2)
    assert device.install(1) == one
    assert [entry.version for entry in device.slots.installed("detector")] == [1, 2]
    assert one.file("model.onnx").read_bytes() == b"weights 1"
    assert one.case("p.jpg").read_bytes() == b"picture"
    assert not one.file("notes.md").exists()
    assert (
        one.file("model.onnx").stat().st_ino
        == device.blobs.path(
            manifests.decode((one.path / "manifest.json").read_bytes()).content.variants[0].files[0].digest
        )
        .stat()
        .st_ino
    )
    assert device.slots.current("detector") is None
    assert device.slots.models() == ["detector"]
    device.slots.verify(two)
    assert device.slots.variant(two).name == "onnx-fp32"


def test_activate_moves_current_and_previous(device):
    one, two = device.install(1), device.install(2)
    device.slots.activate("detector", one.digest)
    assert (device.slots.current("detector"), device.slots.previous("detector")) == (one, None)
    for _ in range(2):
        device.slots.activate("detector", two.digest)
        assert (device.slots.current("detector"), device.slots.previous("detector")) == (two, one)
    device.slots.activate("detector", one.digest)
    assert (device.slots.current("detector"), device.slots.previous("detector")) == (one, two)


def test_what_is_not_installed_cannot_be_activated(device):
    with pytest.raises(NotFound):
        device.slots.activate("detector", device.blobs.add(b"x"))


def test_the_current_version_cannot_be_removed(device):
    one, two = device.install(1), device.install(2)
    device.slots.activate("detector", one.digest)
    device.slots.activate("detector", two.digest)
    with pytest.raises(Conflict):
        device.slots.remove("detector", two.digest)
    for _ in range(2):
        device.slots.remove("detector", one.digest)
    assert device.slots.installed("detector") == [two]
    assert device.slots.previous("detector") is None


def test_a_missing_blob_leaves_nothing_visible(device):
    made = device.make(1)
    for digest in device.blobs.digests():
        device.blobs.remove(digest)
    with pytest.raises(NotFound):
        device.slots.install(*made, device.blobs)
    assert device.slots.installed("detector") == []
    assert list((device.slots.folder / "detector" / "versions").iterdir()) == []


def test_without_hard_links_files_are_copied(device, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    one = device.install(1)
    device.slots.verify(one)
    assert one.file("model.onnx").stat().st_nlink == 1


def test_harm_to_a_version_is_found(device):
    one = device.install(1)
    (one.path / "files" / "model.onnx").unlink()
    with pytest.raises(Corrupt):
        device.slots.verify(one)
    (one.path / "manifest.json").write_bytes(b"{}")
    assert device.slots.installed("detector") == []


def test_a_manifest_of_another_model_is_not_believed(device):
    one = device.install(1)
    (device.slots.folder / "other" / "versions").mkdir(parents=True)
    one.path.rename(device.slots.folder / "other" / "versions" / one.path.name)
    assert device.slots.installed("other") == []
    assert device.slots.models() == []


def test_remove_model(device):
    one = device.install(1)
    device.slots.activate("detector", one.digest)
    device.slots.remove_model("detector")
    assert device.slots.models() == []


def failing_once(monkeypatch, wanted):
    """Let the next fsync of that folder fail; what the kernel had for it is clean from then on, and durable or not."""
    real, left = files.sync_folder, [1]

    def sync(folder):
        if folder == wanted and left:
            left.pop()
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(files, "sync_folder", sync)


def test_after_a_failed_fsync_a_version_is_laid_anew(device, monkeypatch):
    made = device.make(1)
    failing_once(monkeypatch, device.slots.folder / "detector" / "versions")
    with pytest.raises(Unavailable):
        device.slots.install(*made, device.blobs)
    assert list((device.slots.folder / "detector" / "versions").iterdir()) == []
    device.slots.verify(device.slots.install(*made, device.blobs))


def test_after_a_failed_fsync_a_link_is_written_anew(device, monkeypatch):
    one = device.install(1)
    failing_once(monkeypatch, device.slots.folder / "detector")
    with pytest.raises(Unavailable):
        device.slots.activate("detector", one.digest)
    link = device.slots.folder / "detector" / "current"
    before = link.lstat().st_ino
    device.slots.activate("detector", one.digest)
    assert link.lstat().st_ino != before


def test_what_a_cut_left_of_a_removed_model_is_no_model(device):
    """The inference server may start before the agent has swept."""
    device.install(1)
    (device.slots.folder / "detector").rename(leftover := files.temporary(device.slots.folder / "detector"))
    assert (leftover / "versions").is_dir()
    assert device.slots.models() == []


CALLS = ("open", "write", "fsync", "rename", "link", "symlink", "mkdir", "fchmod")


class PowerCut(BaseException):
    pass


def cut_at(monkeypatch, step):
    """Let the machine stop before the ``step``-th call that changes the disk. Returns the count of calls seen."""
    seen = [0]
    for name in CALLS:
        real = getattr(os, name)

        def call(*args, _real=real, **kwargs):
            seen[0] += 1
            if seen[0] >= step:
                raise PowerCut
            return _real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)
    return seen


def test_a_cut_at_every_step_of_install_and_activate_leaves_a_whole_current_version(tmp_path, monkeypatch):
    step = 0
    while True:
        step += 1
        device = Device(tmp_path / str(step))
        one = device.install(1)
        device.slots.activate("detector", one.digest)
        made = device.make(2)
        with monkeypatch.context() as patched:
            seen = cut_at(patched, step)
            try:
                two = device.slots.install(*made, device.blobs)
                device.slots.activate("detector", two.digest)
            except (PowerCut, Unavailable):
                pass
        again = Slots(tmp_path / str(step))
        again.sweep()
        current = again.current("detector")
        assert current is not None
        again.verify(current)
        for entry in again.installed("detector"):
            again.verify(entry)
        leftovers = [p.name for p in (again.folder / "detector").rglob(files.TEMPORARY + "*")]
        assert leftovers == []
        if seen[0] < step:
            assert current.version == 2
            break
    assert step > 30


@pytest.mark.parametrize("harm", ["changed", "gone", "unreadable"])
def test_a_version_that_says_no_longer_what_it_is_is_collected(tmp_path, monkeypatch, harm):
    device = Device(tmp_path)
    damaged, current = device.install(1), device.install(2)
    device.slots.activate("detector", current.digest)
    path = damaged.path / "manifest.json"
    if harm == "changed":
        path.chmod(0o644)
        path.write_bytes(b"{}")
    elif harm == "gone":
        path.unlink()
    else:
        read = Path.read_bytes

        def failing(self):
            if self == path:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(self)

        monkeypatch.setattr(Path, "read_bytes", failing)
    Slots(tmp_path).sweep()
    assert not damaged.path.exists()
    assert device.slots.installed("detector") == [current]


def test_what_only_cannot_be_read_now_or_is_linked_to_stays(tmp_path, monkeypatch):
    device = Device(tmp_path)
    linked, other = device.install(1), device.install(2)
    device.slots.activate("detector", linked.digest)
    (linked.path / "manifest.json").unlink()
    read = Path.read_bytes

    def failing(self):
        if self == other.path / "manifest.json":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        Slots(tmp_path).sweep()
    assert linked.path.exists() and other.path.exists()


def test_what_somebody_laid_beside_the_models_keeps_nothing_from_starting(tmp_path):
    """A note of an operator, a link that leads nowhere, a file where versions should be."""
    device = Device(tmp_path)
    one = device.install(1)
    models = device.slots.folder
    (models / "README.txt").write_text("ours")
    (models / "broken").symlink_to(tmp_path / "nowhere")
    (models / "odd").mkdir()
    (models / "odd" / "versions").write_text("no folder")
    (models / "odd" / f"{files.TEMPORARY}left").write_text("an interrupted write")
    again = Slots(tmp_path)
    again.sweep()
    assert again.models() == ["detector"]
    assert again.installed("detector") == [one]
    assert (models / "README.txt").read_text() == "ours"
    assert not (models / "odd" / f"{files.TEMPORARY}left").exists()
