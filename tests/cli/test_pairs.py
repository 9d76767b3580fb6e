"""Pairs are found, measured and put in classes by what is in them, not by their names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.delta.conftest import safetensors
from tests.delta.models import onnx_file, quantised, weights

from farshore import delta
from farshore.cli import pairs, rivals
from farshore.cli.pairs import Measured, Patched
from farshore.core.errors import FarshoreError, NotFound

BASE = weights(1, 40, 60)


def trained(step, dtype="float32"):
    rng = np.random.default_rng(3)
    return {n: (a + rng.normal(size=a.shape) * step * 0.1).astype(dtype) for n, a in BASE.items()}


def cast(tensors, dtype):
    return {name: array.astype(dtype) for name, array in tensors.items()}


CASES = {
    "no base": ([], safetensors(BASE)),
    "fine-tuned fp32": ([safetensors(BASE)], safetensors(trained(0.02))),
    "retrained fp32": ([safetensors(BASE)], safetensors(trained(3.0))),
    "fine-tuned fp16": ([safetensors(cast(BASE, "float16"))], safetensors(trained(0.02, "float16"))),
    "fine-tuned int8": ([onnx_file(cast({n: a * 300 for n, a in BASE.items()}, "int8"))],
                        onnx_file(cast({n: a * 300 for n, a in trained(0.1).items()}, "int8"))),
    "other precision, same weights": ([onnx_file(BASE)], quantised(BASE)),
    "other precision, fine-tuned": ([onnx_file(BASE)], quantised(trained(0.1))),
    "pruned": ([safetensors(BASE)], safetensors({n: np.where(np.abs(a) < 0.05, 0, a).astype("f4") for n, a in BASE.items()})),
    "metadata, re-export": ([safetensors(BASE)], safetensors(dict(reversed(BASE.items())), author="somebody else")),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_classes_come_from_the_contents(kind):
    bases, target = CASES[kind]
    assert pairs.kind_of(delta.info(b"".join(delta.encode(target, bases, level="fast")))) == kind


def test_a_head_alone_is_a_class_of_its_own():
    rng = np.random.default_rng(4)
    base = {"body": rng.normal(size=(300, 400)).astype("f4"), "head": rng.normal(size=(20, 60)).astype("f4")}
    target = base | {"head": base["head"] + np.float32(0.01) * rng.normal(size=(20, 60)).astype("f4")}
    assert (
        pairs.kind_of(delta.info(b"".join(delta.encode(safetensors(target), [safetensors(base)], level="fast"))))
        == "head"
    )


@pytest.fixture
def folder(tmp_path):
    for name, (bases, target) in {"tuned": CASES["fine-tuned fp32"], "new": CASES["no base"]}.items():
        for side, files in (("a", bases), ("b", [target])):
            (tmp_path / name / side).mkdir(parents=True)
            for number, data in enumerate(files):
                (tmp_path / name / side / f"model-{number}").write_bytes(data)
    return tmp_path


def test_pairs_are_found_with_what_is_held(folder):
    assert [(pair.name, len(pair.bases)) for pair in pairs.find(folder)] == [("new", 0), ("tuned", 1)]
    assert [pair.bases for pair in pairs.find(folder, ["tuned"], without_base=True)] == [()]
    (folder / "tuned" / "b" / "second").write_bytes(b"x")
    assert [pair.name for pair in pairs.find(folder, ["tuned"])] == ["tuned/model-0", "tuned/second"]
    with pytest.raises(NotFound):
        pairs.find(folder, ["other"])


def test_a_pair_is_measured_beside_the_tools(folder):
    [pair] = pairs.find(folder, ["tuned"])
    row = pairs.measure(pair, ["max", "fast"])
    bases, target = CASES["fine-tuned fp32"]
    assert row.kind == "fine-tuned fp32"
    assert row.ours["max"].size == len(b"".join(delta.encode(target, bases, level="max")))
    assert set(row.others) == set(rivals.tools())
    assert row.best[0] == min(size for tool, size in row.others.items() if tool not in rivals.NOT_GENERAL)
    assert row.ratio("max") < row.ratio("fast")
    assert row.ours["max"].made > 0 and row.ours["max"].applied > 0


def test_a_patch_that_leads_elsewhere_ends_the_measuring(folder, monkeypatch):
    [pair] = pairs.find(folder, ["tuned"])
    monkeypatch.setattr(pairs.delta, "decode", lambda *_: [b"something else"])
    with pytest.raises(FarshoreError, match="other bytes"):
        pairs.measure(pair, ["fast"])


def row(name, kind, ours, best):
    return Measured(name, kind, 0, 0, {"xz -9e": best, "zip": 1}, {"max": Patched(ours, 1.0, 1.0)})


def test_means_are_geometric_and_by_class():
    rows = [row("a", "head", 50, 100), row("b", "head", 200, 100), row("c", "pruned", 1000, 700)]
    found = {kind: (count, mean["max"]) for kind, count, mean in pairs.means(rows, ["max"])}
    assert found["head"] == (2, pytest.approx(1.0))
    assert found["pruned"] == (1, pytest.approx(10 / 7))
    assert found["all"] == (3, pytest.approx(math.exp((math.log(0.5) + math.log(2) + math.log(10 / 7)) / 3)))
    assert pairs.larger(rows, "max") == ["c"]
