"""Settings are refused where they cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from farshore.core.errors import Invalid
from farshore.serve.settings import Settings


def test_defaults_work():
    settings = Settings(root=Path("/r"))
    assert settings.width >= 1
    assert settings.socket == Path("/r/serve.sock")
    assert Settings(root=Path("/r"), threads=3).width == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 70_000},
        {"queue": 0},
        {"threads": -1},
        {"max_pixels": 0},
        {"wait_seconds": 0},
        {"memory": -1},
    ],
)
def test_out_of_range(wrong):
    with pytest.raises(Invalid, match=next(iter(wrong))):
        Settings(root=Path("/r"), **wrong)
