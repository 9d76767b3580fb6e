"""``farshore device`` and ``farshore deployment`` against a real hub, with an agent that runs once."""

import json

import pytest


def enrol(farshore, tmp_path, name, *tags):
    token = farshore.ok("device", "token", "--device", name, *(f"--tag={tag}" for tag in tags)).split()[0]
    return token, [
        "agent",
        "--root",
        tmp_path / name,
        "--hub",
        farshore.hub,
        "--device",
        name,
        "--serve",
        "none",
        "--trial",
        "0",
        "--keep-free",
        "1MB",
        "--once",
    ]


def test_from_token_to_a_running_version(farshore, classifier, tmp_path):
    farshore.ok("model", "push", "delivered", classifier(weight=1.0), tmp_path / "labels.txt")
    token, agent = enrol(farshore, tmp_path, "edge-1", "site=oslo")
    farshore.ok("deployment", "create", "to-oslo", "--model", "delivered@1", "--to", "tags.site = 'oslo'")
    farshore.ok(*agent, "--enrol", token)
    found = json.loads(farshore.ok("device", "show", "edge-1", "--json"))
    assert found["reported"]["delivered"]["current"]["version"] == 1
    assert "delivered@1" in farshore.ok("device", "list", "--where", "tags.site = 'oslo'")
    assert "no devices match" in farshore.ok("device", "list", "--where", "tags.site = 'bergen'")
    assert "to-oslo" in farshore.ok("deployment", "list")
    assert json.loads(farshore.ok("deployment", "show", "to-oslo", "--json"))["devices"]["current"] == 1
    current = tmp_path / "edge-1" / "models" / "delivered" / "current" / "files" / "model.onnx"
    assert current.read_bytes() == (tmp_path / "model.onnx").read_bytes()
    status, _, _ = farshore("model", "delete", "delivered@1", "--yes")
    assert status == 4
    # a tag moves it out of the selector's reach: the model goes
    assert "site=bergen" in farshore.ok("device", "tag", "edge-1", "site=bergen")
    farshore.ok(*agent)
    assert "reported" not in json.loads(farshore.ok("device", "show", "edge-1", "--json"))
    farshore.ok("deployment", "delete", "to-oslo")


def test_an_enrolment_token_is_good_once_and_for_its_device_only(farshore, tmp_path):
    token, agent = enrol(farshore, tmp_path, "edge-2")
    farshore.ok(*agent, "--enrol", token)
    farshore.ok(*agent, "--enrol", token)  # the same device asking again is not an error
    _, other = enrol(farshore, tmp_path, "edge-3")
    status, _, err = farshore(*other, "--enrol", token)
    assert status == 5
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "0", "10000"])
def test_a_token_lives_for_a_sensible_time(farshore, hours):
    status, _, err = farshore("device", "token", "--hours", hours)
    assert status == 2
    assert err.startswith("farshore: --hours ")
    assert len(err.splitlines()) == 1


def test_a_deleted_device_is_told_so(farshore, tmp_path):
    token, agent = enrol(farshore, tmp_path, "edge-4")
    farshore.ok(*agent, "--enrol", token)
    farshore.ok("device", "delete", "edge-4", "--yes")
    status, _, _ = farshore("device", "show", "edge-4")
    assert status == 3


def test_too_little_disk_is_refused_before_the_first_byte(farshore, classifier, tmp_path):
    farshore.ok("model", "push", "too-big", classifier(weight=7.0))
    token, agent = enrol(farshore, tmp_path, "edge-5", "disk=small")
    farshore.ok("deployment", "create", "full", "--model", "too-big@1", "--to", "tags.disk = 'small'")
    farshore.ok(*agent, "--enrol", token, "--keep-free", "1000TB")
    target = json.loads(farshore.ok("device", "show", "edge-5", "--json"))["reported"]["too-big"]["target"]
    assert target["state"] == "failed"
    assert "too little disk" in target["fault"]["message"]
    assert list((tmp_path / "edge-5" / "blobs" / "partial").iterdir()) == []
    assert "too little disk" in farshore.ok("device", "show", "edge-5")
    farshore.ok("device", "retry", "edge-5", "too-big")
    farshore.ok(*agent)
    running = lambda: json.loads(farshore.ok("device", "show", "edge-5", "--json"))["reported"]["too-big"]["current"]  # noqa: E731
    assert running()["version"] == 1
    farshore.ok("model", "push", "too-big", classifier(weight=8.0))
    farshore.ok("deployment", "create", "full", "--model", "too-big@2", "--to", "tags.disk = 'small'")
    farshore.ok(*agent)
    assert running()["version"] == 2  # trying again has not held it at version 1
    farshore.ok("deployment", "delete", "full")


def test_announced_by_its_key_revoked_and_let_in_again(farshore, tmp_path):
    _, agent = enrol(farshore, tmp_path, "edge-unused")
    agent = [str(part).replace("edge-unused", "edge-6") for part in agent]
    key = farshore.ok("agent", "--root", tmp_path / "edge-6", "--print-key").strip()
    assert key == farshore.ok("agent", "--root", tmp_path / "edge-6", "--print-key").strip()
    status, _, err = farshore(*agent)
    assert status == 5 and "announced" in err
    assert "farshore agent" in farshore.ok("device", "announce", "edge-6", "--key", key, "--tag", "site=oslo")
    farshore.ok(*agent)
    assert "revoked" in farshore.ok("device", "revoke", "edge-6", "--reason", "stolen")
    assert "revoked: stolen" in farshore.ok("device", "list")
    seen = json.loads(farshore.ok("device", "show", "edge-6", "--json"))["seen"]
    farshore.ok(*agent)  # what runs there goes on; the hub does not listen
    assert json.loads(farshore.ok("device", "show", "edge-6", "--json"))["seen"] == seen
    assert "accepted" in farshore.ok("device", "approve", "edge-6")
    farshore.ok(*agent)
    assert "accepted" in farshore.ok("device", "show", "edge-6")


def test_a_device_waits_for_approval(farshore, tmp_path):
    _, agent = enrol(farshore, tmp_path, "edge-7")
    token = farshore.ok("device", "token", "--device", "edge-7", "--approval").split()[0]
    farshore.ok(*agent, "--enrol", token)
    waiting = json.loads(farshore.ok("device", "show", "edge-7", "--json"))
    assert waiting["state"] == "pending" and "seen" not in waiting
    farshore.ok("device", "approve", "edge-7")
    farshore.ok(*agent)
    assert "seen" in json.loads(farshore.ok("device", "show", "edge-7", "--json"))


def test_a_twin_is_edited_as_it_was_read(farshore, tmp_path):
    token, agent = enrol(farshore, tmp_path, "edge-9", "site=oslo")
    farshore.ok(*agent, "--enrol", token)
    read = json.loads(farshore.ok("device", "twin", "edge-9"))
    path = tmp_path / "twin.json"
    path.write_text(json.dumps({"properties": {"desired": {"interval": 30}}}))
    farshore.ok("device", "twin", "edge-9", "--merge", path)
    path.write_text(json.dumps(read | {"tags": {"site": "bergen"}}))
    status, _, err = farshore("device", "twin", "edge-9", "--replace", path)
    assert status != 0
    assert "changed meanwhile" in err
    again = json.loads(farshore.ok("device", "twin", "edge-9"))
    path.write_text(json.dumps(again | {"tags": {"site": "bergen"}}))
    farshore.ok("device", "twin", "edge-9", "--replace", path)
    after = json.loads(farshore.ok("device", "twin", "edge-9"))
    assert (after["tags"], after["properties"]["desired"]["interval"]) == ({"site": "bergen"}, 30)


def test_tokens_are_listed_and_made_useless(farshore):
    farshore.ok("device", "token", "--device", "edge-10", "--qr")
    [one] = [row for row in json.loads(farshore.ok("device", "tokens", "--json")) if row.get("device") == "edge-10"]
    assert one["id"] in farshore.ok("device", "tokens")
    farshore.ok("device", "tokens", "--delete", one["id"])
    assert "edge-10" not in farshore.ok("device", "tokens")


def test_a_device_is_kept_out_and_let_in(farshore, tmp_path):
    token, agent = enrol(farshore, tmp_path, "edge-11")
    farshore.ok(*agent, "--enrol", token)
    farshore.ok("device", "quarantine", "edge-11", "--reason", "odd")
    assert "edge-11" in farshore.ok("device", "list", "--state", "quarantined")
    farshore.ok("device", "approve", "edge-11")
    told = farshore.ok("device", "timeline", "edge-11")
    assert "device.approved" in told
    assert "odd" in told
    assert "accepted" in farshore.ok("device", "summary")
