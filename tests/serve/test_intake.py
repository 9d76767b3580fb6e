"""What all doors hold together."""

from __future__ import annotations

import pytest

from farshore.core.errors import Invalid, Unavailable
from farshore.serve.intake import Intake


def test_what_was_too_much_is_held_until_it_is_given_back() -> None:
    intake = Intake(100)
    intake.take(100)
    with pytest.raises(Unavailable, match="try again"):
        intake.take(1)
    assert intake.buffered == 101
    intake.give_back(101)
    intake.take(100)


def test_refusals_are_counted_by_door_and_code() -> None:
    intake = Intake(1)
    for door in ("http", "v2", "v2"):
        intake.refuse(door, Invalid("no"))
    assert dict(intake.refused) == {("http", "invalid"): 1, ("v2", "invalid"): 2}
