"""Keys through the command line: a hub taken out of development, every key changed, and a device that follows all the way."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from tests.cli.conftest import Shell

from farshore.cli.world import READY, Process, answers, free_port, wait_for
from farshore.client import Hub
from farshore.core.digest import Digest
from farshore.core.errors import Denied
from farshore.trust import releases
from farshore.trust.chain import Chain
from farshore.trust.metadata import moment
from farshore.trust.refresh import Refresh


class World:
    """A hub of its own, the shell, and a device that believed the hub's very first root."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.port = folder, free_port()
        arguments = ["hub", "--data", str(folder / "data"), "--port", str(self.port)]
        self.process = Process(arguments, folder / "log")
        self.start()
        self.token = (folder / "data" / "admin.token").read_text().strip()
        url = f"http://127.0.0.1:{self.port}"
        self.hub, self.ring = Hub(url, self.token), folder / "ring"
        self.shell = Shell(url, self.token, monkeypatch, capsys)
        self.chain = Chain.begin(bytes(self.hub.trust().roots[0]))

    def start(self):
        self.process.start()
        wait_for(lambda: answers(self.port, "/healthz"), READY, "the hub", self.process)

    def restart(self):
        self.process.stop()
        self.start()

    def keys(self, *arguments, **more):
        return self.shell.ok("keys", *arguments, "--ring", self.ring, **more)

    def push(self, path, name="detector", **more):
        return json.loads(self.shell.ok("model", "push", name, path, "--json", FARSHORE_KEYS=str(self.ring), **more))

    def follow(self, *models):
        """The device refreshes from what the hub has, as a sync would bring it."""
        published = self.hub.trust()

        def drive(asking):
            answer = None
            try:
                while True:
                    want = asking.send(answer)
                    if want.role == "root":
                        answer = (
                            bytes(published.roots[want.version - 1]) if want.version <= len(published.roots) else None
                        )
                    else:
                        raw = published.documents.get(want.role)
                        answer = None if raw is None else bytes(raw)
            except StopIteration:
                return

        once = Refresh(self.chain)
        drive(once.top())
        for model in models:
            drive(once.find(f"{model}/1"))
        self.chain = once.chain
        return self.chain

    def trusts(self, made):
        now = moment(time.time())
        releases.check(self.follow(made["model"]), made["model"], made["version"], Digest(made["digest"]), now)


@pytest.fixture
def world(tmp_path, monkeypatch, capsys):
    made = World(tmp_path, monkeypatch, capsys)
    yield made
    made.process.stop()


def test_a_hub_is_taken_over_and_every_key_is_changed_while_a_device_follows(world, classifier):
    one = world.push(classifier(weight=1.0))  # the development hub signs it by itself
    world.trusts(one)
    assert "development" in world.keys("status")

    text = world.keys("init")
    assert "root-1" in text
    assert not (world.folder / "data" / "keys" / "development").exists()
    assert all(path.stat().st_mode & 0o077 == 0 for path in world.ring.glob("*.key"))
    assert "development" not in world.keys("status")
    world.trusts(one)
    assert world.chain.root.version == 2

    path = classifier("two.onnx", weight=2.0)
    code, _, err = world.shell("model", "push", "detector", path, FARSHORE_KEYS=None)
    assert code == Denied.exit_code
    assert "--keys" in err
    assert json.loads(world.shell.ok("model", "list", "detector", "--json"))[0]["version"] == 1  # nothing was published
    two = world.push(path)
    assert two["version"] == 2
    world.trusts(two)
    pose = world.push(classifier("pose.onnx", weight=3.0), "pose")  # a new model: the targets key is in the ring
    world.trusts(pose)

    for what in ("publisher", "targets", "hub", "root"):
        world.keys("rotate", what)
        world.trusts(two)
        world.trusts(pose)
    assert world.push(classifier("three.onnx", weight=4.0))["version"] == 3
    world.restart()
    three = json.loads(world.shell.ok("model", "show", "detector@3", "--json"))
    world.trusts(three)
    world.keys("renew")
    world.trusts(three)


def test_a_stolen_publisher_key_is_revoked_and_old_versions_are_withdrawn(world, classifier):
    world.keys("init", "--roots", "1", "--threshold", "1")
    one, two = (world.push(classifier(f"{n}.onnx", weight=float(n))) for n in (1, 2))
    stolen = world.folder / "stolen"
    shutil.copytree(world.ring, stolen)
    for name in ("root-1.key", "targets.key"):
        (stolen / name).unlink()
    rows = json.loads(world.keys("status", "--json"))["roles"]
    [keyid] = next(row["keys"] for row in rows if row["role"] == "model/detector")
    assert "model/detector" in world.keys("revoke", keyid)
    world.trusts(two)
    code, _, err = world.shell(
        "model", "push", "detector", classifier("evil.onnx", weight=9.0), FARSHORE_KEYS=str(stolen)
    )
    assert code == Denied.exit_code
    assert "must sign" in err

    world.keys("withdraw", "detector", "--below", "2")
    world.trusts(two)
    with pytest.raises(Denied, match="withdrew"):
        world.trusts(one)
    code, _, err = world.shell("deployment", "create", "old", "--model", "detector@1", "--to", "*")
    assert code != 0
    assert "withdrew" in err
    code, _, err = world.shell("keys", "revoke", "0" * 16, "--ring", world.ring)
    assert "no key" in err


def test_sealed_keys_threshold_and_the_wrong_ring(world, classifier, tmp_path):
    world.keys("init", FARSHORE_KEYS_PASSPHRASE="a long one")
    assert b"ENCRYPTED" in (world.ring / "root-1.key").read_bytes()
    path = classifier()
    code, _, err = world.shell(
        "model", "push", "detector", path, FARSHORE_KEYS=str(world.ring), FARSHORE_KEYS_PASSPHRASE="wrong"
    )
    assert code == Denied.exit_code
    assert "passphrase" in err
    assert world.push(path, FARSHORE_KEYS_PASSPHRASE="a long one")["version"] == 1
    for name in ("root-2.key", "root-3.key"):
        (world.ring / name).rename(tmp_path / name)
    code, _, err = world.shell("keys", "rotate", "root", "--ring", world.ring, FARSHORE_KEYS_PASSPHRASE="a long one")
    assert code == Denied.exit_code
    assert "2 of its 3 keys must sign, 1 of them" in err
    code, _, err = world.shell("keys", "init", "--ring", tmp_path / "another")
    assert "somebody's ring" in err
