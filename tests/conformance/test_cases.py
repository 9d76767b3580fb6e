"""The classes of cases of tuf-conformance, rebuilt: the client over real HTTP against a repository that is played here."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

CLIENT = Path(__file__).with_name("tuf-client")
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
PAST = LATER - timedelta(days=60)


def client_module():
    loader = importlib.machinery.SourceFileLoader("tuf_client", str(CLIENT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("tuf_client", loader))
    loader.exec_module(module)
    return module


class Repo:
    """A repository over HTTP, and a client's folders."""

    def __init__(self, folder):
        self.folder, self.files, self.asked = folder, {}, []
        self.metadata_dir, self.target_dir = folder / "metadata", folder / "targets"
        self.metadata_dir.mkdir()
        self.target_dir.mkdir()
        self.signers = {
            role: [CryptoSigner.generate_ed25519()] for role in ("root", "timestamp", "snapshot", "targets")
        }
        self.signed = {
            "root": Root(expires=LATER), "timestamp": Timestamp(expires=LATER), "snapshot": Snapshot(expires=LATER),
            "targets": Targets(expires=LATER),
        }  # fmt: skip
        for role, signers in self.signers.items():
            for signer in signers:
                self.signed["root"].add_key(signer.public_key, role)
        self.hashes = False
        self.publish("targets", "snapshot", "timestamp", "root", bump=False)
        self.first = self.files["/metadata/1.root.json"]
        self.main = client_module().main

    def publish(self, *roles, bump=True):
        for role in roles:
            signed = self.signed[role]
            signed.version += bump
            metadata = Metadata(signed)
            for signer in self.signers[role]:
                metadata.sign(signer, append=True)
            data = metadata.to_bytes()
            name = quote(role, "")
            if role != "timestamp":
                self.files[f"/metadata/{signed.version}.{name}.json"] = data
            self.files[f"/metadata/{name}.json"] = data
            about = {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}} if self.hashes else {}
            if role == "snapshot":
                self.signed["timestamp"].snapshot_meta = MetaFile(signed.version, **about)
            elif role not in ("root", "timestamp"):
                self.signed["snapshot"].meta[f"{role}.json"] = MetaFile(signed.version, **about)

    def all(self, *roles):
        self.publish(*roles, "targets", "snapshot", "timestamp")

    def delegate(self, parent, name, paths=("*",), *, terminating=False, targets=()):
        signer = CryptoSigner.generate_ed25519()
        delegator = self.signed[parent]
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, {})
        delegator.delegations.roles[name] = DelegatedRole(name, [], 1, terminating, list(paths))
        delegator.add_key(signer.public_key, name)
        self.signers.setdefault(name, []).append(signer)
        if name not in self.signed:
            self.signed[name] = Targets(expires=LATER)
            for path in targets:
                self.add(name, path, f"{path} by {name}".encode())
            self.publish(name, bump=False)

    def add(self, role, path, data):
        digest = hashlib.sha256(data).hexdigest()
        self.signed[role].targets[path] = TargetFile.from_data(path, data, ["sha256"])
        folder, slash, last = path.rpartition("/")
        self.files[f"/targets/{folder}{slash}{digest}.{last}"] = data
        self.files[f"/targets/{path}"] = data

    def rotate(self, role, signer=None):
        old, new = self.signers[role], signer or CryptoSigner.generate_ed25519()
        for one in old:
            self.signed["root"].revoke_key(one.public_key.keyid, role)
        self.signed["root"].add_key(new.public_key, role)
        self.signers[role] = [new]
        return old

    def run(self, *command):
        self.asked.clear()
        options = ["--metadata-dir", str(self.metadata_dir), "--metadata-url", f"{self.url}/metadata"]
        return self.main([*options, *command])

    def init(self):
        root = self.folder / "first.json"
        root.write_bytes(self.first)
        return self.main(["--metadata-dir", str(self.metadata_dir), "init", str(root)])

    def refresh(self):
        return self.run("refresh")

    def download(self, name):
        return self.run(
            "--target-name", name, "--target-base-url", f"{self.url}/targets", "--target-dir", str(self.target_dir), "download",
        )  # fmt: skip

    def version(self, role):
        path = self.metadata_dir / f"{quote(role, '')}.json"
        return Metadata.from_bytes(path.read_bytes()).signed.version if path.exists() else None

    def versions(self):
        return [self.version(role) for role in ("root", "timestamp", "snapshot", "targets")]


@pytest.fixture
def repo(tmp_path):
    made = Repo(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path if self.path.startswith("/metadata") else unquote(self.path)
            made.asked.append(path.rsplit("/", 1)[1] if path.startswith("/metadata") else path)
            data = made.files.get(path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        assert made.init() == 0
        yield made
        server.shutdown()
        thread.join()


# -- basic workflow ----------------------------------------------------------------------------------------------------


def test_as_a_process_of_its_own(repo):
    command = [
        sys.executable,
        str(CLIENT),
        "--metadata-dir",
        str(repo.metadata_dir),
        "--metadata-url",
        f"{repo.url}/metadata",
    ]
    assert subprocess.run([*command, "refresh"], check=False).returncode == 0
    assert repo.versions() == [1, 1, 1, 1]
    repo.files.clear()
    assert subprocess.run([*command, "refresh"], check=False, capture_output=True).returncode == 1


def test_init_asks_for_nothing_and_refresh_for_each_once(repo):
    assert repo.asked == []
    assert repo.refresh() == 0
    assert repo.asked == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert repo.refresh() == 0
    assert repo.asked == ["2.root.json", "timestamp.json"]
    for role in ("root", "timestamp", "snapshot", "targets"):
        assert (repo.metadata_dir / f"{role}.json").read_bytes() == repo.files[f"/metadata/{role}.json"]


def test_a_line_of_roots(repo):
    for _ in range(4):
        repo.publish("root")
    assert repo.refresh() == 0
    assert repo.asked[:5] == [f"{number}.root.json" for number in range(2, 7)]
    assert repo.version("root") == 5


@pytest.mark.parametrize("consistent", [True, False])
def test_names_with_and_without_versions(repo, consistent):
    repo.signed["root"].consistent_snapshot = consistent
    repo.publish("root")
    repo.add("targets", "dir/file.txt", b"data")
    repo.all()
    assert repo.download("dir/file.txt") == 0
    assert ("2.snapshot.json" in repo.asked) is consistent
    assert ("snapshot.json" in repo.asked) is not consistent


def test_a_local_root_that_is_no_root(repo):
    (repo.metadata_dir / "root.json").write_bytes(b"{}")
    assert repo.refresh() == 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_local_files_that_are_damaged_are_fetched_again(repo, role):
    assert repo.refresh() == 0
    (repo.metadata_dir / f"{role}.json").write_bytes(b'{"signed": 1}')
    assert repo.refresh() == 0
    assert repo.versions() == [1, 1, 1, 1]


def test_members_that_nobody_knows(repo):
    for signed in repo.signed.values():
        signed.unrecognized_fields["later"] = {"a": [1, "ü"]}
    repo.all("root")
    assert repo.refresh() == 0
    assert repo.versions() == [2, 2, 2, 2]


# -- expiry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "versions"),
    [("root", [2, 1, 1, 1]), ("timestamp", [2, 1, 1, 1]), ("snapshot", [2, 2, 1, 1]), ("targets", [2, 2, 2, 1])],
)
def test_what_has_expired_is_not_adopted(repo, role, versions):
    assert repo.refresh() == 0
    repo.signed[role].expires = PAST
    repo.all("root")
    assert repo.refresh() == 1
    assert repo.versions() == versions
    repo.signed[role].expires = LATER
    repo.all("root")
    assert repo.refresh() == 0
    assert repo.versions() == [3, 3, 3, 3]


def test_a_root_in_the_middle_may_have_expired(repo):
    repo.signed["root"].expires = PAST
    repo.publish("root")
    repo.signed["root"].expires = LATER
    repo.publish("root")
    assert repo.refresh() == 0
    assert repo.version("root") == 3


def test_what_expired_on_the_disk_still_forbids_the_way_back(repo):
    repo.signed["timestamp"].expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    repo.publish("timestamp")
    assert repo.refresh() == 0
    import time

    time.sleep(2.1)
    assert repo.refresh() == 1
    repo.files["/metadata/timestamp.json"], newer = repo.files["/metadata/timestamp.json"], None
    repo.signed["timestamp"].expires, repo.signed["timestamp"].version = LATER, 0
    repo.publish("timestamp")
    assert repo.refresh() == 1
    assert repo.version("timestamp") == 2
    repo.signed["timestamp"].version = 2
    repo.publish("timestamp")
    assert repo.refresh() == 0
    assert newer is None


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_no_document_goes_back(repo):
    repo.all("root")
    assert repo.refresh() == 0
    for role in ("timestamp", "snapshot", "targets"):
        repo.signed[role].version = 0
        others = {"timestamp": (), "snapshot": ("timestamp",), "targets": ("snapshot", "timestamp")}[role]
        repo.publish(role, *others)
        assert repo.refresh() == 1
        repo.signed[role].version = 5
        repo.publish(role, *others)
        assert repo.refresh() == 0, role


def test_a_snapshot_that_loses_or_lowers_a_role(repo):
    repo.delegate("targets", "role1", targets=["a"])
    repo.all()
    assert repo.download("a") == 0
    kept = repo.signed["snapshot"].meta.pop("role1.json")
    repo.publish("snapshot", "timestamp")
    assert repo.refresh() == 1
    repo.signed["snapshot"].meta["role1.json"] = kept
    repo.publish("role1", "snapshot", "timestamp")
    assert repo.refresh() == 0
    repo.signed["snapshot"].meta["role1.json"] = kept
    repo.publish("snapshot", "timestamp")
    assert repo.refresh() == 1


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_out_of_line(repo, version):
    repo.signed["root"].version = version
    metadata = Metadata(repo.signed["root"])
    metadata.sign(repo.signers["root"][0])
    repo.files["/metadata/2.root.json"] = metadata.to_bytes()
    assert repo.refresh() == 1
    assert repo.versions() == [1, None, None, None]


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_hashes_and_lengths_that_are_named(repo, role):
    repo.hashes = True
    repo.all()
    assert repo.refresh() == 0
    repo.all()
    name = f"/metadata/{repo.signed[role].version}.{role}.json"
    repo.files[name] = repo.files[name].replace(b'{"signatures"', b'{ "signatures"')
    assert repo.refresh() == 1


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_another_version_than_the_one_named(repo, role):
    assert repo.refresh() == 0
    repo.all()
    repo.files[f"/metadata/2.{role}.json"] = repo.files[f"/metadata/1.{role}.json"]
    assert repo.refresh() == 1
    assert repo.version(role) == 1


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_unsigned_and_signed_by_a_stranger(repo, role):
    for signers in ([], [CryptoSigner.generate_ed25519()]):
        right, repo.signers[role] = repo.signers[role], signers
        repo.all("root")
        assert repo.refresh() == 1
        repo.signers[role] = right
        for one in repo.signed.values():
            one.version = 0
        repo.files = {name: data for name, data in repo.files.items() if "2." not in name}
        for one in ("root", "targets", "snapshot", "timestamp"):
            repo.publish(one)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_key_types_of_the_suite(repo, kind):
    for role in ("timestamp", "snapshot", "targets"):
        repo.rotate(role, getattr(CryptoSigner, f"generate_{kind}")())
    repo.all("root")
    assert repo.refresh() == 0
    assert repo.versions() == [2, 2, 2, 2]


def test_a_threshold_needs_as_many_different_keys(repo):
    [one] = repo.signers["snapshot"]
    two = CryptoSigner.generate_ed25519()
    repo.signed["root"].add_key(two.public_key, "snapshot")
    repo.signed["root"].roles["snapshot"].threshold = 2
    repo.all("root")
    assert repo.refresh() == 1
    repo.signers["snapshot"] = [one, two]
    repo.all("root")
    assert repo.refresh() == 0
    from copy import deepcopy

    twin = deepcopy(two.public_key)
    twin.keyid = "another name of the same key"
    repo.signed["root"].add_key(twin, "snapshot")
    repo.signed["root"].roles["snapshot"].threshold = 3
    repo.signers["snapshot"] = [one, two, CryptoSigner(two._private_key, twin)]
    repo.all("root")
    assert repo.refresh() == 1


def test_roots_are_signed_by_the_old_and_the_new(repo):
    old = repo.rotate("root")
    repo.publish("root")
    assert repo.refresh() == 1
    repo.signers["root"] += old
    repo.signed["root"].version = 1
    repo.publish("root")
    assert repo.refresh() == 0
    repo.signers["root"] = repo.signers["root"][:1]
    repo.publish("root")
    assert repo.refresh() == 0
    assert repo.version("root") == 3


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rotated_keys_count_and_the_old_do_not(repo, role):
    assert repo.refresh() == 0
    old = repo.rotate(role)
    new, repo.signers[role] = repo.signers[role], old
    repo.all("root")
    assert repo.refresh() == 1
    repo.signers[role] = new
    repo.all()
    assert repo.refresh() == 0


def test_fast_forward_is_cured_by_new_keys(repo):
    repo.signed["timestamp"].version = repo.signed["snapshot"].version = 99_999
    repo.publish("snapshot", "timestamp")
    assert repo.refresh() == 0
    repo.rotate("timestamp")
    repo.rotate("snapshot")
    repo.signed["timestamp"].version = repo.signed["snapshot"].version = 1
    repo.publish("root", "snapshot", "timestamp")
    assert repo.refresh() == 0
    assert repo.versions() == [2, 2, 2, 1]


# -- delegations -------------------------------------------------------------------------------------------------------

GRAPHS = {
    "two in a row": ([("targets", "A"), ("A", "B")], ["A", "B"]),
    "pre-order": ([("targets", "A"), ("targets", "C"), ("A", "B")], ["A", "B", "C"]),
    "no way twice": ([("targets", "A"), ("targets", "B"), ("A", "C"), ("B", "C")], ["A", "C", "B"]),
    "a circle": ([("targets", "A"), ("A", "B"), ("B", "A")], ["A", "B"]),
    "itself": ([("targets", "A"), ("A", "A")], ["A"]),
}


@pytest.mark.parametrize("edges", GRAPHS.values(), ids=GRAPHS)
def test_the_order_in_which_roles_are_asked(repo, edges):
    drawn, order = edges
    for parent, child in drawn:
        repo.delegate(parent, child)
    repo.all(*order)
    assert repo.download("nowhere") == 1
    assert [name.split(".")[1] for name in repo.asked[4:]] == order


def test_a_terminating_role_ends_the_search(repo):
    repo.delegate("targets", "A", terminating=True)
    repo.delegate("targets", "B", targets=["file"])
    repo.all()
    assert repo.download("file") == 1
    assert [name.split(".")[1] for name in repo.asked[4:]] == ["A"]


@pytest.mark.parametrize(
    ("path", "there"), [("a/x.txt", True), ("a/b/x.txt", False), ("x.txt", False), ("a/x.tar", False)]
)
def test_paths_that_a_role_may_speak_for(repo, path, there):
    repo.delegate("targets", "A", paths=["a/*.txt"], targets=[path])
    repo.all()
    assert repo.download(path) == (0 if there else 1)


def test_a_delegated_role_signed_by_a_stranger_or_expired(repo):
    repo.delegate("targets", "A", targets=["file"])
    repo.all()
    right = repo.signers["A"]
    repo.signers["A"] = [CryptoSigner.generate_ed25519()]
    repo.publish("A", "snapshot", "timestamp")
    assert repo.download("file") == 1
    repo.signers["A"] = right
    repo.signed["A"].expires = PAST
    repo.publish("A", "snapshot", "timestamp")
    assert repo.download("file") == 1
    repo.signed["A"].expires = LATER
    repo.publish("A", "snapshot", "timestamp")
    assert repo.download("file") == 0


def test_a_chain_of_delegations_too_long(repo):
    parent = "targets"
    for number in range(40):
        repo.delegate(parent, f"r{number}", targets=["deep"] if number == 39 else [])
        parent = f"r{number}"
    repo.all(*(f"r{number}" for number in range(40)))
    assert repo.download("deep") == 1
    assert len(repo.asked) < 40


@pytest.mark.parametrize("name", ["?", "#", "/delegatedrole", "../delegatedrole", "ü %2F", "a b"])
def test_names_of_roles_that_must_be_quoted(repo, name):
    repo.delegate("targets", name, targets=["file"])
    repo.all()
    assert repo.download("file") == 0
    assert repo.version(name) == 1
    assert {path.parent for path in repo.folder.rglob("*.json")} == {repo.folder, repo.metadata_dir}


# -- downloads ---------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once_and_again_when_it_changed(repo):
    repo.add("targets", "dir/file", b"one")
    repo.all()
    assert repo.download("dir/file") == 0
    [path] = repo.target_dir.iterdir()
    assert path.read_bytes() == b"one"
    assert repo.download("dir/file") == 0
    assert not any(name.startswith("/targets") for name in repo.asked)
    repo.add("targets", "dir/file", b"two")
    repo.all()
    assert repo.download("dir/file") == 0
    assert [one.read_bytes() for one in repo.target_dir.iterdir()] == [b"two"]


@pytest.mark.parametrize("bad", [b"twp", b"two and more", b"tw", None])
def test_other_bytes_than_signed_for(repo, bad):
    repo.add("targets", "file", b"two")
    repo.all()
    for name in [name for name in repo.files if name.startswith("/targets")]:
        repo.files.pop(name) if bad is None else repo.files.update({name: bad})
    assert repo.download("file") == 1
    assert not list(repo.target_dir.iterdir())


def test_a_hash_that_nobody_knows(repo):
    repo.add("targets", "file", b"two")
    repo.signed["targets"].targets["file"].hashes = {"crc99": "00"}
    repo.all()
    assert repo.download("file") == 1


def test_no_such_target(repo):
    assert repo.download("absent") == 1
