"""What docs/serving.md must say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from farshore.serve import front
from farshore.serve.intake import Intake
from farshore.serve.oip import rest, words
from farshore.serve.page import metrics_of
from farshore.serve.pool import Pool
from farshore.serve.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("path", [path.decode() for path in front._METHODS])
def test_every_route(path: str) -> None:
    assert any(f"`{method} {path}`" in PAGE for method in front._METHODS[path.encode()])


@pytest.mark.parametrize(("method", "route"), rest.ROUTES)
def test_every_route_for_tensors(method: str, route: str) -> None:
    assert f"`{method} {route}`" in PAGE


def test_every_limit_for_tensors() -> None:
    assert f"{words.MAX_TENSORS} tensors, {words.MAX_RANK} dimensions" in PAGE


def test_every_code() -> None:
    for code in ("invalid", "not_found", "too_large", "unavailable"):
        assert f"`{code}`" in PAGE


def test_every_family_of_metrics() -> None:
    pool = Pool(Settings(root=Path("/nonexistent")))
    page = metrics_of(pool, Intake(1)).decode()
    for name in re.findall(r"^# TYPE (\S+)", page, re.MULTILINE):
        assert f"`{name}`" in PAGE
