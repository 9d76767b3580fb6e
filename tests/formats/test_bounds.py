from __future__ import annotations

import pytest

from farshore.formats.bounds import Budget, Malformed


def test_a_budget_is_spent_once():
    budget = Budget(5)
    budget.spend(3)
    budget.spend(2)
    assert budget.left == 0
    with pytest.raises(Malformed, match="more than a parser should follow"):
        budget.spend(1)
