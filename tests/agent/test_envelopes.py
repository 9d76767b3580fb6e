from __future__ import annotations

import base64
import json

import pytest
from tests.sim.releases import KEY, SigningKey, release

from farshore.agent.envelopes import Envelopes, believe
from farshore.core import digest as digests
from farshore.core import trust
from farshore.core.errors import Corrupt

KEYS = {KEY.public.id: KEY.public}


@pytest.fixture
def version():
    return release(version=3)


@pytest.fixture
def envelopes(tmp_path):
    return Envelopes(tmp_path / "envelopes", KEYS)


def test_a_good_one_is_believed_and_kept(envelopes, version):
    envelopes.keep(version.envelope, "detector", version.digest, 3)
    found = envelopes.find("detector", version.digest, 3)
    assert found.manifest == version.manifest
    assert found.envelope == version.envelope


def test_it_must_be_what_was_asked_for(version):
    other = release(version=4)
    for model, digest, number in (
        ("pose", version.digest, 3), ("detector", other.digest, 3), ("detector", version.digest, 4),
    ):  # fmt: skip
        with pytest.raises(Corrupt):
            believe(version.envelope, KEYS, model, digest, number)


def test_another_key_is_not_believed_whatever_it_calls_itself(version):
    forged = release(version=3, key=SigningKey(bytes(32)))
    with pytest.raises(Corrupt, match="not signed by a key that this device trusts"):
        believe(forged.envelope, KEYS, "detector", forged.digest, 3)
    renamed = json.loads(forged.envelope)
    renamed["signatures"][0]["keyid"] = KEY.public.id
    with pytest.raises(Corrupt):
        believe(json.dumps(renamed).encode(), KEYS, "detector", forged.digest, 3)


def test_a_signed_document_of_another_kind_is_not_a_manifest(version):
    for payload in (b"{}", b"[]", b"\xff", b'{"format": "farshore.manifest/9"}'):
        sealed = trust.seal(payload, [KEY])
        digest = digests.of(payload)
        with pytest.raises(Corrupt):
            believe(sealed, KEYS, "detector", digest, 3)
    other_type = trust.seal(base64.b64decode(json.loads(version.envelope)["payload"]), [KEY], "text/plain")
    with pytest.raises(Corrupt):
        believe(other_type, KEYS, "detector", version.digest, 3)


def test_every_flipped_byte_is_noticed_or_changes_nothing(version):
    data = bytearray(version.envelope)
    for at in range(len(data)):
        data[at] ^= 1
        try:
            found = believe(bytes(data), KEYS, "detector", version.digest, 3)
        except Corrupt:
            pass
        else:
            assert found.manifest == version.manifest
        data[at] ^= 1


def test_what_lies_on_the_disk_is_checked_again(envelopes, version, tmp_path):
    envelopes.keep(version.envelope, "detector", version.digest, 3)
    (path,) = (tmp_path / "envelopes").iterdir()
    path.write_bytes(version.envelope.replace(b"A", b"B"))
    assert envelopes.find("detector", version.digest, 3) is None
    path.unlink()
    assert envelopes.find("detector", version.digest, 3) is None


def test_what_is_not_wanted_is_deleted(envelopes, version, tmp_path):
    other = release(version=4)
    for one in (version, other):
        envelopes.keep(one.envelope, "detector", one.digest, one.manifest.version)
    envelopes.retain([other.digest])
    assert envelopes.find("detector", version.digest, 3) is None
    assert envelopes.find("detector", other.digest, 4) is not None
