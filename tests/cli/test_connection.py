"""Where a command's token comes from."""

import pytest

from farshore.cli.connection import environment_hint, pairs
from farshore.core.errors import Invalid


def test_a_token_may_stand_in_a_file(farshore, hub_process):
    _, token = hub_process
    assert farshore("model", "list", FARSHORE_TOKEN=f"@{token}")[0] == 0


def test_the_hubs_own_folder_is_looked_into(farshore, hub_process, tmp_path, monkeypatch):
    _, token = hub_process
    (tmp_path / "farshore-hub").mkdir()
    (tmp_path / "farshore-hub" / "admin.token").write_text(token.read_text())
    monkeypatch.chdir(tmp_path)
    assert farshore("model", "list", FARSHORE_TOKEN=None)[0] == 0


def test_pairs():
    assert pairs(("a=1", "b=x=y", "c="), "--tag") == {"a": "1", "b": "x=y", "c": ""}
    for bad in ("a", "=1"):
        with pytest.raises(Invalid, match="--tag key=value"):
            pairs((bad,), "--tag")


def test_the_hint_is_a_line_for_the_shell(tmp_path):
    assert (
        environment_hint("http://h:1", tmp_path / "t") == f"export FARSHORE_HUB=http://h:1 FARSHORE_TOKEN=@{tmp_path}/t"
    )
