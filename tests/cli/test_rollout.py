"""``farshore rollout``, ``ledger``, ``link`` and ``device why`` as a user runs them."""

import json
import re
import threading
import time

import pytest

from farshore.client import Hub


@pytest.fixture
def fleet(farshore, classifier, tmp_path, request):
    """Two versions of a model of this test's own, the first of them deployed."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:50].strip("-")
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        classifier(f"{number}/model.onnx", float(number))
        farshore.ok("model", "push", name, folder, "--set", "input.mean=0", "--set", "input.std=1")
    farshore.ok("deployment", "create", name, "--model", f"{name}@1", "--to", f"tags.fleet = '{name}'")
    return name


def test_from_start_to_rollback(farshore, fleet):
    out = farshore.ok("rollout", "start", f"{fleet}@2", "--waves", "1,10%,100%", "--soak", "1m", "--agreement", "0.9")
    assert f"{fleet}@1 → @2" in out and "running" in out and "10%" in out
    found = json.loads(farshore.ok("rollout", "status", f"{fleet}-2", "--json"))
    assert found["gate"] == {"soak": 60.0, "agreement": 0.9}
    assert "wave 2 is open" in farshore.ok("rollout", "advance", f"{fleet}-2")
    assert "nobody else gets it" in farshore.ok("rollout", "pause", f"{fleet}-2", "--reason", "for lunch")
    assert "for lunch" in farshore.ok("rollout", "status", f"{fleet}-2", "--devices", "all")
    assert "running" in farshore.ok("rollout", "resume", f"{fleet}-2")
    code, _, err = farshore("deployment", "delete", fleet)
    assert code == 4 and f"rollout {fleet}-2 is changing" in err
    assert "rolled back" in farshore.ok("rollout", "rollback", f"{fleet}-2")
    assert "rolled back" in farshore.ok("rollout", "list")


def test_watching_when_piped_prints_a_line_for_each_change(farshore, fleet):
    farshore.ok("rollout", "start", f"{fleet}@2", "--waves", "1,100%")
    hub = Hub(farshore.hub, farshore.token)

    def steer():
        time.sleep(1.5)
        hub.steer_rollout(f"{fleet}-2", "abort", "seen enough")

    thread = threading.Thread(target=steer)
    thread.start()
    lines = farshore.ok("rollout", "watch", f"{fleet}-2").splitlines()
    thread.join()
    assert lines[0] == f"{fleet}-2 running: wave 1 of 2 (1), 0 given, 0 confirmed, 0 failed"
    assert lines[-1].endswith("seen enough") and len(lines) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--waves", "5%"], 2, "the last one must be 100%"),
        (["--waves", "x = 1,100%"], 2, "column 1: unknown property 'x'"),
        (["--soak", "soon"], 2, "write 90s, 10m, 2h or 1d"),
        (["--agreement", "2"], 2, "agreement"),
        (["--to", "tags.a = 1"], 2, "leave --to away"),
    ],
)
def test_wrong_use_is_told_in_one_line(farshore, fleet, arguments, code, said):
    found, _, err = farshore("rollout", "start", f"{fleet}@2", *arguments)
    assert found == code and said in err and "Traceback" not in err


def test_a_plan_without_devices(farshore, fleet):
    out = farshore.ok("rollout", "plan", f"{fleet}@2", "--deployment", fleet)
    assert f"{fleet}@2" in out and "0 devices" in out


def test_links_and_the_ledger(farshore):
    assert "6.5 EUR a megabyte" in farshore.ok(
        "link", "set", "iridium", "--price", "6.5", "--currency", "EUR", "--rate", "16kB"
    )
    assert "16.0 kB/s" in farshore.ok("link", "list")
    assert json.loads(farshore.ok("link", "list", "--json"))[0]["rate"] == 16000
    code, _, err = farshore("link", "set", "iridium", "--price", "6.5")
    assert code == 2 and "--currency EUR" in err
    farshore.ok("link", "delete", "iridium")
    assert "nothing was moved yet" in farshore.ok("ledger", "--device", "nobody")
    assert farshore.ok("ledger", "--device", "nobody", "--csv").strip() == "model,version,bytes,money,currency"
    code, _, err = farshore("ledger", "--by", "colour")
    assert code == 2 and "colour" in err


def test_why_asks_for_a_device(farshore):
    code, _, err = farshore("device", "why", "nobody")
    assert code == 3 and "no device 'nobody'" in err


def test_blue_green_with_a_budget_and_a_window(farshore, fleet):
    farshore.ok(
        "rollout", "start", f"{fleet}@2", "--blue-green", "--activate-in", "02:00-04:00", "--budget", "50MB", "--budget-money", "300"
    )  # fmt: skip
    out = farshore.ok("rollout", "status", f"{fleet}-2")
    assert "before the switch" in out and "0 B of 50.0 MB, 0.00 of 300.00" in out
    assert "02:00-04:00" in farshore.ok("deployment", "show", fleet)
    farshore.ok("rollout", "pause", f"{fleet}-2")
    farshore.ok("rollout", "resume", f"{fleet}-2", "--budget", "80MB")
    assert "80.0 MB" in farshore.ok("rollout", "status", f"{fleet}-2")
    farshore.ok("rollout", "advance", f"{fleet}-2")
    assert "before the switch" not in farshore.ok("rollout", "status", f"{fleet}-2")


def test_settings_in_layers(farshore):
    said = farshore.ok("settings", "set", "layer-one", "rate=64kB", "windows=22:00-06:00", "--to", "tags.a = 'b'")
    assert said.strip() == "layer-one: rate=64000 windows=22:00-06:00 for tags.a = 'b', priority 0"
    assert "layer-one" in farshore.ok("settings", "list")
    found = [one for one in json.loads(farshore.ok("settings", "list", "--json")) if one["id"] == "layer-one"]
    assert found[0]["settings"] == {"rate": 64000, "windows": ["22:00-06:00"]}
    for wrong, text in (("colour=red", "no setting 'colour'"), ("rate", "write SETTING=VALUE")):
        code, _, err = farshore("settings", "set", "layer-two", wrong)
        assert code == 2 and text in err
    farshore.ok("settings", "delete", "layer-one")


@pytest.mark.parametrize(
    "verb", ["plan", "start", "list", "status", "watch", "pause", "resume", "advance", "abort", "rollback"]
)
def test_every_verb_has_an_example(farshore, verb):
    assert (
        f"farshore rollout {verb}" in farshore.ok("rollout", verb, "--help").partition("Usage:")[2].partition("\n")[2]
    )
