"""Patches made on another day and another machine still lead to the same bytes, by the kernel and by its twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from farshore.delta import decode

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("twin", [False, True], ids=["kernel", "twin"])
@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_fixtures_decode(level, twin):
    base, target, patch = ((FIXTURES / name).read_bytes() for name in ("base", "target", f"{level}.patch"))
    assert b"".join(decode(patch, [base], twin=twin)) == target
