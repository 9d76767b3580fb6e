"""From the link that a hub prints at its start to an operator with roles, and what the audit log says of it."""

import json
import re
import sys

import pytest
from tests.cli.conftest import Shell

from farshore.cli import logins
from farshore.cli.world import READY, Process, free_port, wait_for

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def beyond(tmp_path_factory):
    """A hub that listens beyond this machine, as its own authority; with its log."""
    folder, port = tmp_path_factory.mktemp("beyond"), free_port()
    arguments = ["hub", "--data", str(folder / "data"), "--port", str(port), "--host", "0.0.0.0", "--name", "127.0.0.1"]
    process = Process(arguments, folder / "log")
    process.start()
    try:
        wait_for(lambda: "/setup#" in (folder / "log").read_text(), READY, "the hub", process)
        yield f"https://127.0.0.1:{port}", folder / "log"
    finally:
        process.stop()


@pytest.fixture
def farshore(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("FARSHORE_CONFIG", str(tmp_path / "config"))
    answers = []
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _text: answers.pop(0))
    shell = Shell(None, None, monkeypatch, capsys)
    shell.answers = answers
    return shell


def test_from_the_first_link_to_an_operator_with_a_role(beyond, farshore, tmp_path):
    url, log = beyond
    link = re.findall(r"https://\S+/setup#\S+", log.read_text())[-1]
    assert link.startswith(url) and ".ca=" in link

    status, _, err = farshore("device", "list", "--hub", url, "--token", "x" * 43)
    assert (status, len(err.splitlines())) == (7, 1)  # its authority is not known here yet
    farshore.answers += [PASSWORD, PASSWORD]
    assert "Logged in" in farshore.ok("login", link)
    assert (tmp_path / "config" / "login.json").stat().st_mode & 0o077 == 0
    assert "no devices" in farshore.ok("device", "list")  # hub, token and authority are remembered

    made = farshore.ok("operator", "add", "kari", "--role", "operator:north", "--role", "viewer").split()[0]
    assert "kari" in farshore.ok("operator", "list") and "invited" in farshore.ok("operator", "list")
    told = json.loads(farshore.ok("operator", "token", "ci", "--role", "publisher:north", "--days", "30", "--json"))
    assert told["grants"] == [{"role": "publisher", "fleet": "north"}]
    assert "ci" in farshore.ok("operator", "token")
    farshore.ok("operator", "token", "--revoke", told["id"])
    booked = farshore.ok("audit")
    assert all(word in booked for word in ("operator.added", "token.created", "token.revoked", "admin"))
    lines = json.loads(farshore.ok("audit", "--json", "--after", "0", "--limit", "1000"))
    assert [line["serial"] for line in lines] == list(range(1, len(lines) + 1))

    farshore.answers += [PASSWORD + "!", PASSWORD + "!"]
    farshore.ok("login", made)
    status, _, err = farshore("operator", "list")
    assert status == 5 and "admin" in err
    farshore.ok("device", "token", "--tag", "fleet=north")
    status, _, err = farshore("device", "token", "--tag", "fleet=south")
    assert status == 5 and "south" in err

    assert "Logged out" in farshore.ok("logout")
    assert logins.present() is None
    assert farshore("logout")[0] == 2
    farshore.answers += ["wrong password"]
    status, _, err = farshore("login", url, "--name", "kari")
    assert (status, err) == (5, "farshore: wrong name or password\n")
    farshore.answers += [PASSWORD + "!"]
    farshore.ok("login", url, "--name", "kari", "--days", "1")


def test_another_authoritys_pin(beyond, farshore):
    status, _, err = farshore("login", beyond[0], "--name", "kari", "--pin", "p" * 43)
    assert status == 5 and "in between" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["login", "https://hub.example/setup#short"], "setup link"),
        (["login", "https://hub.example/elsewhere#farshore1." + "s" * 43], "setup link"),
        (["login", "http://hub.example", "--name", "x"], "--insecure-http"),
        (["login", "hub.example", "--name", "x"], "bad hub URL"),
        (["operator", "add", "kari", "--role", "king", "--token", "x" * 16], "king"),
        (["operator", "add", "kari", "--role", "viewer:", "--token", "x" * 16], "viewer:"),
    ],
)
def test_mistakes_get_one_line(farshore, arguments, says):
    farshore.answers += [PASSWORD] * 2
    status, _, err = farshore(*arguments)
    assert (status, len(err.splitlines())) == (2, 1)
    assert says in err
    assert sys.argv[0] == "farshore"
