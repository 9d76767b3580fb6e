from __future__ import annotations

import pytest

from farshore.formats.bounds import Budget, Malformed
from farshore.formats.wiring import Wiring

NODES = [
    ("Cast", ["x"], ["x1"]),
    ("Conv", ["x1", "w"], ["c"]),
    ("Sub", ["x1", "m"], ["s"]),
    ("Softmax", ["c"], ["p"]),
    ("Reshape", ["p"], ["q"]),
    ("DequantizeLinear", ["q"], ["y"]),
    ("Add", ["x", "c"], ["z"]),
]


def test_forms_are_looked_through():
    wiring = Wiring(NODES, Budget())
    assert wiring.maker("y") == "Softmax"
    assert wiring.maker("x") == ""
    assert set(wiring.readers("x")) == {"Conv", "Sub", "Add"}
    assert wiring.readers("nobody") == ()


def test_a_circle_of_forms_ends():
    wiring = Wiring([("Reshape", ["a"], ["b"]), ("Reshape", ["b"], ["a"])], Budget(1000))
    assert wiring.readers("a") == ()
    with pytest.raises(Malformed):
        wiring.maker("a")
