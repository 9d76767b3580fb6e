"""The command line as a whole: help, and one clear line with a sensible exit code for every wrong use."""

import click
import pytest

from farshore.cli import COMMANDS
from farshore.cli import farshore as root


def leaves(command=root, path=()):
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"), list(leaves()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_explains_itself(path, command, farshore):
    text = farshore.ok(*path, "--help")
    assert len(command.help.split(".")[0]) > 10
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.name} has no help"
    assert "Usage: farshore " + " ".join(path) in text


def test_every_read_command_prints_json_too():
    reads = {path for path, command in leaves() if path[-1] in {"list", "show", "diff"}}
    assert len(reads) >= 7
    for path, command in leaves():
        if path in reads:
            assert any("--json" in parameter.opts for parameter in command.params), path


def test_the_bare_command_and_bare_nouns_show_help(farshore):
    assert "Commands:" in farshore.ok()
    assert "Commands:" in farshore.ok("model")
    assert set(COMMANDS) <= set(farshore.ok("--help").split())
    assert farshore.ok("--version").startswith("farshore, version ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("modle",), 2, "No such command 'modle'"),
        (("model", "list", "--nonsense"), 2, "nonsense"),
        (("model", "push"), 2, "Missing argument"),
        (("model", "push", "detector", "missing.onnx"), 3, "no file or folder 'missing.onnx'"),
        (("model", "push", "Bad Name", "LABELS"), 2, "bad name"),
        (("model", "push", "detector", "LABELS"), 2, "no model among"),
        (("model", "push", "detector", "EMPTY"), 2, "nothing to push"),
        (("model", "push", "detector", "LABELS", "--tag", "x"), 2, "--tag key=value"),
        (("model", "push", "detector", "LABELS", "--toml", "missing.toml"), 3, "missing.toml"),
        (("model", "show", "nothing"), 3, "nothing"),
        (("model", "show", "nothing@"), 2, "name@3"),
        (("model", "diff", "a@1", "b@1"), 2, "two models"),
        (("model", "diff", "a@1", "a@2"), 3, "a"),
        (("model", "pull", "nothing@1"), 3, "nothing"),
        (("model", "delete", "nothing@1", "--yes"), 3, "nothing"),
        (("model", "alias", "nothing@1", "champion"), 3, "nothing"),
        (("model", "tag", "nothing@1", "a=b"), 3, "nothing"),
        (("device", "show", "nobody"), 3, "nobody"),
        (("device", "twin", "nobody"), 3, "nobody"),
        (("device", "list", "--where", "tags.site = "), 2, "column"),
        (("device", "token", "--device", "Bad Name"), 2, "device"),
        (("deployment", "create", "d", "--model", "nothing@1"), 3, "nothing"),
        (("deployment", "show", "nothing"), 3, "nothing"),
        (("deployment", "delete", "nothing"), 3, "nothing"),
        (("agent", "--root", "ROOT"), 3, "enrol"),
        (("agent", "--root", "ROOT", "--hub", "nowhere"), 2, "bad hub URL"),
        (("agent", "--root", "ROOT", "--window", "26:00-27:00"), 2, "26:00"),
        (("agent", "--root", "ROOT", "--rate", "fast"), 2, "fast"),
        (("serve", "--root", "ROOT", "--port", "70000"), 2, "70000"),
        (("serve", "--root", "ROOT", "--runtimes", "tensorflow"), 2, "tensorflow"),
        (("hub", "--data", "ROOT", "--port", "99999"), 2, "99999"),
        (("hub", "--data", "ROOT", "--certificate", "x.pem"), 2, "both"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_one_clear_line(farshore, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    (tmp_path / "empty").mkdir()
    places = {"LABELS": tmp_path / "labels.txt", "EMPTY": tmp_path / "empty", "ROOT": tmp_path / "root"}
    status, out, err = farshore(*(places.get(argument, argument) for argument in arguments))
    lines = [line for line in err.splitlines() if not line.startswith("Try '")]
    assert (status, out) == (code, "")
    assert len(lines) == 1
    assert lines[0].startswith("farshore: ")
    assert words in lines[0]


def test_without_a_hub_the_line_says_so(farshore):
    status, _, err = farshore("model", "list", FARSHORE_HUB="http://127.0.0.1:9")
    assert status == 7
    assert "no hub answers at http://127.0.0.1:9 (Connection refused)" in err
    assert len(err.splitlines()) == 1


def test_tokens_that_are_missing_or_wrong(farshore, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = farshore("model", "list", FARSHORE_TOKEN="wrong-token-0123456789")
    assert (status, len(err.splitlines())) == (5, 1)
    status, _, err = farshore("model", "list", FARSHORE_TOKEN=None)
    assert (status, len(err.splitlines())) == (5, 1)
    assert "FARSHORE_TOKEN" in err
    status, _, err = farshore("model", "list", FARSHORE_TOKEN="@missing")
    assert (status, len(err.splitlines())) == (2, 1)


def test_another_server_is_not_taken_for_a_hub(farshore, tmp_path):
    import http.server
    import threading

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, _, err = farshore("model", "list", FARSHORE_HUB=f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert status == 7
    assert "not as a Farshore hub" in err


def test_a_full_disk_is_one_clear_line(farshore, classifier, tmp_path, monkeypatch):
    farshore.ok("model", "push", "pulled", classifier())
    real = type(tmp_path).open

    def full(self, mode="r", *args, **kwargs):
        if "w" in mode:
            raise OSError(28, "No space left on device", str(self))
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(type(tmp_path), "open", full)
    status, _, err = farshore("model", "pull", "pulled", "-o", tmp_path / "out")
    assert status == 7
    assert "disk full" in err
    assert len(err.splitlines()) == 1
