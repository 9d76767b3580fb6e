from __future__ import annotations

import pytest
from tests.sim.releases import release

from farshore.agent.manifests import Manifests, believe
from farshore.core import digest as digests
from farshore.core.errors import Corrupt


@pytest.fixture
def version():
    return release(version=3)


@pytest.fixture
def manifests(tmp_path):
    return Manifests(tmp_path / "manifests")


def test_a_good_one_is_believed_and_kept(manifests, version):
    manifests.keep(version.payload, "detector", version.digest, 3)
    found = manifests.find("detector", version.digest, 3)
    assert (found.manifest, found.payload) == (version.manifest, version.payload)


def test_it_must_be_what_was_asked_for(version):
    other = release(version=4)
    for model, digest, number in (
        ("pose", version.digest, 3), ("detector", other.digest, 3), ("detector", version.digest, 4),
    ):  # fmt: skip
        with pytest.raises(Corrupt):
            believe(version.payload, model, digest, number)


def test_a_document_of_another_kind_is_not_a_manifest():
    for payload in (b"{}", b"[]", b"\xff", b'{"format": "farshore.manifest/9"}'):
        with pytest.raises(Corrupt):
            believe(payload, "detector", digests.of(payload), 3)


def test_every_flipped_byte_is_noticed(version):
    data = bytearray(version.payload)
    for at in range(len(data)):
        data[at] ^= 1
        with pytest.raises(Corrupt):
            believe(bytes(data), "detector", version.digest, 3)
        data[at] ^= 1


def test_what_lies_on_the_disk_is_checked_again(manifests, version, tmp_path):
    manifests.keep(version.payload, "detector", version.digest, 3)
    (path,) = (tmp_path / "manifests").iterdir()
    path.write_bytes(version.payload.replace(b"a", b"b"))
    assert manifests.find("detector", version.digest, 3) is None
    path.unlink()
    assert manifests.find("detector", version.digest, 3) is None


def test_what_is_not_wanted_is_deleted(manifests, version):
    other = release(version=4)
    for one in (version, other):
        manifests.keep(one.payload, "detector", one.digest, one.manifest.version)
    manifests.retain([other.digest])
    assert manifests.find("detector", version.digest, 3) is None
    assert manifests.find("detector", other.digest, 4) is not None
