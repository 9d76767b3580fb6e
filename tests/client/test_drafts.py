"""What a publisher refuses to sign: a hub that drafts anything but the files that were pushed."""

from __future__ import annotations

import zipfile

import msgspec
import pytest
from tests.sim.releases import release

from farshore.client import drafts
from farshore.client.drafts import Draft
from farshore.client.upload import Upload
from farshore.core import digest as digests
from farshore.core import manifest as manifests
from farshore.core.errors import Corrupt, Denied
from farshore.core.manifest import Content, File, Manifest


@pytest.fixture
def pushed(tmp_path):
    """A release, and its files as they were pushed."""
    made, uploads = release(size=500), []
    names = {file.digest: file.path for variant in made.manifest.content.variants for file in variant.files}
    names |= {case.picture.digest: case.picture.path for case in made.manifest.content.acceptance}
    for digest, data in {**made.blobs, digests.of(b"not needed on devices"): b"not needed on devices"}.items():
        path = tmp_path / names[digest]
        path.write_bytes(data)
        uploads.append(Upload(path.name, path, digest, len(data)))
    return made.manifest, uploads


def draft_of(manifest, **changes):
    payload = manifests.encode(manifest)
    return Draft(**{
        "model": manifest.model, "version": manifest.version, "digest": digests.of(payload), "manifest": payload,
        "role": b"{}", **changes,
    })  # fmt: skip


def test_what_was_pushed_is_signed(pushed):
    manifest, uploads = pushed
    drafts.check(draft_of(manifest), "detector", uploads, "")


def test_also_out_of_a_zip(pushed, tmp_path):
    manifest, uploads = pushed
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for upload in uploads:
            archive.write(upload.path, f"folder/{upload.name}")
    data = (tmp_path / "all.zip").read_bytes()
    packed = Upload("all.zip", tmp_path / "all.zip", digests.of(data), len(data))
    drafts.check(draft_of(manifest), "detector", [packed], "")


@pytest.mark.parametrize("role", ["model", "labels", "picture"])
def test_a_file_that_was_put_in(pushed, role):
    manifest, uploads = pushed
    evil = digests.of(b"evil")

    def swapped(file: File) -> File:
        return msgspec.structs.replace(file, digest=evil, size=4) if file.role == role else file

    [variant], [case] = manifest.content.variants, manifest.content.acceptance
    content = Content(
        (msgspec.structs.replace(variant, files=tuple(swapped(file) for file in variant.files)),),
        (msgspec.structs.replace(case, picture=swapped(case.picture)),),
    )
    with pytest.raises(Denied, match="none of the files pushed here"):
        drafts.check(draft_of(Manifest(manifest.model, manifest.version, content)), "detector", uploads, "")


def test_another_model_number_or_digest(pushed):
    manifest, uploads = pushed
    with pytest.raises(Denied, match="for a push of pose"):
        drafts.check(draft_of(manifest), "pose", uploads, "")
    with pytest.raises(Denied):
        drafts.check(draft_of(manifest, version=7), "detector", uploads, "")
    with pytest.raises(Corrupt):
        drafts.check(draft_of(manifest, digest=digests.of(b"else")), "detector", uploads, "")
