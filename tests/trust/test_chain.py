"""The chain of metadata, step by step: what is believed, what is not, and what a new root drops."""

from __future__ import annotations

import json

import pytest
from tests.sim.repository import NOW, ROOTS, Repository, key

from farshore.core.errors import Corrupt, Denied, TooLarge
from farshore.trust import repository
from farshore.trust.chain import Chain
from farshore.trust.metadata import Expired, moment


@pytest.fixture
def repo():
    made = Repository()
    made.publish("detector", 1, b"manifest 1")
    return made


def test_a_whole_chain_is_believed_and_read_back(repo):
    chain = repo.refresh(models=("detector",))
    assert chain.gap() is None
    chain.check_current(moment(NOW))
    assert chain.held() == {**repo.versions, "root": 1}
    again = Chain.load(chain.documents())
    assert again.documents() == chain.documents() == repo.documents


def test_a_root_must_vouch_for_itself(repo):
    data = json.loads(repo.roots[0])
    data["signatures"] = data["signatures"][:1]
    with pytest.raises(Denied, match="signed by 1 trusted keys, 2 are needed"):
        Chain.begin(json.dumps(data).encode())
    with pytest.raises(Corrupt, match="says that it is targets"):
        Chain.begin(repo.documents["targets"])
    for damaged in (b"", b"[]", b"{}", b"\xff", b'{"signed":{"_type":"root"}}', b"[" * 100_000):
        with pytest.raises(Corrupt):
            Chain.begin(damaged)
    with pytest.raises(TooLarge):
        Chain.begin(b" " * 600_000)


def test_the_next_root_is_signed_by_the_old_and_the_new_keys(repo):
    chain = repo.refresh()
    stranger = key("stranger")
    repo.root_keys = [stranger, key("stranger 2")]
    alone = repo.new_root()
    with pytest.raises(Denied):
        chain.with_root(alone)
    repo.roots.pop()
    together = repo.new_root(*ROOTS[:2])
    assert chain.with_root(together).root.version == 2
    repo.roots.pop()
    with pytest.raises(Denied):  # by the old ones alone
        chain.with_root(repository.sign(json_root(together), ROOTS))


def json_root(data):
    from tuf.api.metadata import Metadata

    return Metadata.from_bytes(data).signed


@pytest.mark.parametrize("version", [1, 3])
def test_roots_come_one_by_one(repo, version):
    chain = repo.refresh()
    with pytest.raises(Denied, match="after 1"):
        chain.with_root(repo.new_root(version=version))


def test_going_back_is_refused(repo):
    old = dict(repo.documents)
    chain = repo.refresh(models=("detector",))
    repo.now += 100
    repo.publish("detector", 2, b"manifest 2")
    newer = repo.refresh(chain, models=("detector",))
    with pytest.raises(Denied, match="way back"):
        newer.with_timestamp(old["timestamp"])
    with pytest.raises(Denied):
        newer.with_snapshot(old["snapshot"])
    with pytest.raises(Denied):
        newer.with_role("model/detector", old["model/detector"])


def test_a_snapshot_may_not_lose_a_role(repo):
    chain = repo.refresh()
    del repo.versions["model/detector"]
    repo.new_snapshot()
    with pytest.raises(Denied, match="missing from version"):
        repo.refresh(chain)


def test_fast_forward_by_stolen_online_keys_is_cured_by_a_new_root(repo):
    repo.now += 10 * 365 * 86400  # numbers count seconds: years ahead
    repo.new_snapshot()
    chain = repo.refresh(models=("detector",))
    repo.now = NOW + 1000
    repo.versions.update(snapshot=1, timestamp=1)
    repo.snapshot_key, repo.timestamp_key = key("new snapshot"), key("new timestamp")
    repo.new_root()
    repo.new_snapshot()
    cured = repo.refresh(chain, models=("detector",))
    assert cured.held() == {**repo.versions, "root": 2}
    assert cured.gap() is None


def test_a_publisher_who_lost_the_model_is_dropped(repo):
    chain = repo.refresh(models=("detector",))
    repo.publishers["detector"] = key("another publisher")
    repo.new_targets()
    repo.new_snapshot()
    after = repo.refresh(chain)
    assert "model/detector" not in after.roles
    with pytest.raises(Denied, match="signed by 0 trusted keys"):
        repo.refresh(after, models=("detector",))


def test_two_ids_of_one_key_are_one_signature(repo):
    data = json.loads(repo.documents["timestamp"])
    root = json.loads(repo.roots[0])
    [keyid] = root["signed"]["roles"]["timestamp"]["keyids"]
    root["signed"]["keys"]["other"] = dict(
        root["signed"]["keys"][keyid], keyval=dict(root["signed"]["keys"][keyid]["keyval"])
    )
    root["signed"]["roles"]["timestamp"] = {"keyids": [keyid, "other"], "threshold": 2}
    from tuf.api.metadata import Root

    signed = Root.from_dict(root["signed"])
    chain = Chain.begin(repository.sign(signed, ROOTS))
    data["signatures"].append({"keyid": "other", "sig": data["signatures"][0]["sig"]})
    with pytest.raises(Denied, match="signed by 1 trusted keys, 2 are needed"):
        chain.with_timestamp(json.dumps(data).encode())


def test_only_ed25519_counts(repo):
    from cryptography.hazmat.primitives.asymmetric import ec
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Role

    signer = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
    root = Metadata.from_bytes(repo.roots[0]).signed
    root.keys[signer.public_key.keyid] = signer.public_key
    root.roles["timestamp"] = Role([signer.public_key.keyid], 1)
    chain = Chain.begin(repository.sign(root, ROOTS))
    stamp = Metadata.from_bytes(repo.documents["timestamp"])
    stamp.sign(signer)
    with pytest.raises(Denied, match="signed by 0 trusted keys"):
        chain.with_timestamp(stamp.to_bytes())
    wide = Chain.begin(chain.root.raw, chain.kinds | {("ecdsa", "ecdsa-sha2-nistp256")})
    assert wide.with_timestamp(stamp.to_bytes()).timestamp is not None


def test_expiry_is_a_question_of_time(repo):
    chain = repo.refresh()
    chain.check_current(moment(NOW + 7 * 86400 - 1))
    with pytest.raises(Expired, match="metadata of timestamp expired on 2027-01-22"):
        chain.check_current(moment(NOW + 7 * 86400))
    with pytest.raises(Expired, match="timestamp"):
        repo.refresh(now=moment(NOW + 8 * 86400))
    repo.now += 8 * 86400
    repo.new_timestamp()
    with pytest.raises(Expired, match="snapshot"):
        repo.refresh(now=moment(NOW + 8 * 86400))


def test_damaged_files_on_the_disk_are_left_out(repo):
    documents = repo.refresh(models=("detector",)).documents()
    for role in ("timestamp", "snapshot", "targets", "model/detector"):
        found = Chain.load({**documents, role: documents[role][:-7]})
        assert role not in found.held()
        assert repo.refresh(found, models=("detector",)).documents() == documents
    with pytest.raises(Corrupt):
        Chain.load({**documents, "root": b"{"})
