"""Watching goes on while the hub is away, and says what changed."""

from __future__ import annotations

import pytest

from farshore.cli import following
from farshore.core.errors import NotFound, Unavailable


def test_the_first_look_that_fails_is_an_error_and_a_refusal_ends_it(monkeypatch, capsys):
    monkeypatch.setattr(following, "POLL", 0.0)

    def look(*found):
        turns = iter(found)

        def ask():
            turn = next(turns)
            if isinstance(turn, Exception):
                raise turn
            return {"n": turn}

        following.follow(ask, lambda one: one["n"] == 9, lambda one: f"n is {one['n']}", lambda one: "")

    with pytest.raises(Unavailable):
        look(Unavailable("away"))
    with pytest.raises(NotFound):
        look(1, NotFound("it was deleted"))
    capsys.readouterr()
    look(1, 1, Unavailable("away"), Unavailable("away"), 1, 2, 9)
    assert capsys.readouterr().out.splitlines() == ["n is 1", "away", "n is 1", "n is 2", "n is 9"]
