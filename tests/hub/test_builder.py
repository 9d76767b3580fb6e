"""One patch in a process of its own."""

import subprocess
import sys
import time

import numpy as np
import pytest
from msgspec import json

from farshore import delta
from farshore.core import digest as digests
from farshore.core.errors import Invalid
from farshore.hub.builder import Base, Beside, Job, Result, build

OLD = bytes(i * i % 251 for i in range(50_000))
NEW = OLD[:20_000] + b"something else" + OLD[20_000:]


@pytest.fixture
def job(tmp_path):
    def make(*held, near=1, known=(), **more):
        (tmp_path / "target").write_bytes(NEW)
        bases = []
        for number, data in enumerate(held):
            (tmp_path / f"base{number}").write_bytes(data)
            bases.append(Base(digests.of(data), str(tmp_path / f"base{number}")))
        given = {"level": "default", "memory": 4 << 30, "seconds": 60, **more}
        return Job(str(tmp_path / "target"), tuple(bases), near, known, out=str(tmp_path / "out"), **given)

    return make


def run(job, wait=60):
    child = subprocess.Popen(
        [sys.executable, "-m", "farshore.hub.builder"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    child.stdin.write(json.encode(job) + b"\n")
    child.stdin.flush()
    status = child.wait(wait)
    child.stdin.close()
    return status


def test_the_patch_leads_to_the_target(job, tmp_path):
    result = build(job(OLD))
    patch = (tmp_path / "out").read_bytes()
    assert result == Result((digests.of(OLD),), digests.of(patch), len(patch))
    assert len(patch) < 1000
    assert b"".join(delta.decode(patch, [OLD])) == NEW


def test_strangers_are_not_chosen(job, tmp_path):
    result = build(job(b"x" * 50_000, near=0))
    assert result.bases == ()
    assert b"".join(delta.decode((tmp_path / "out").read_bytes(), [])) == NEW


def test_what_is_known_is_not_built_again(job, tmp_path):
    assert build(job(OLD, known=((digests.of(OLD),),))) == Result((digests.of(OLD),))
    assert not (tmp_path / "out").exists()


def test_a_bad_level_is_a_fault_and_no_crash(job, tmp_path):
    with pytest.raises(Invalid):
        build(job(OLD, level="most"))
    (tmp_path / "out").unlink()
    assert run(job(OLD, level="most")) == 0
    assert "level" in json.decode((tmp_path / "out.json").read_bytes(), type=Result).fault


def test_as_a_process(job, tmp_path):
    assert run(job(OLD)) == 0
    result = json.decode((tmp_path / "out.json").read_bytes(), type=Result)
    assert result.digest == digests.of((tmp_path / "out").read_bytes())


def test_memory_is_bounded(job, tmp_path):
    asked = job(OLD, memory=64 << 20)
    run(asked)
    result = tmp_path / "out.json"
    assert not result.exists() or json.decode(result.read_bytes(), type=Result).fault


def test_it_ends_with_the_hub(tmp_path):
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import farshore.hub.builder as b, threading; threading.Thread(target=b._end_with_the_hub).start()",
        ],
        stdin=subprocess.PIPE,
    )
    time.sleep(0.2)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(60) == 1


def weights_beside(seed):
    """A model and its external data; another seed moves every weight a little."""
    onnx = pytest.importorskip("onnx")
    values = np.random.default_rng(1).normal(size=(128, 256)) * 0.1
    values += np.random.default_rng(seed).normal(size=values.shape) * 1e-4
    outside = values.astype(np.float32).tobytes()
    tensor = onnx.TensorProto(name="w", data_type=1, dims=values.shape, data_location=1)
    tensor.external_data.add(key="location", value="net.data")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [], [tensor])
    return onnx.helper.make_model(graph, ir_version=8).SerializeToString(), outside


def test_external_data_is_patched_as_the_model_beside_it_tells(tmp_path):
    (model, old), (_, new) = weights_beside(2), weights_beside(3)
    for name, data in {"model": model, "old": old, "new": new, "stranger": b"no model"}.items():
        (tmp_path / name).write_bytes(data)
    beside = Beside("net.data", (str(tmp_path / "stranger"), str(tmp_path / "model")))
    sizes = []
    for out, one in (("as bytes", None), ("as weights", beside)):
        base = Base(digests.of(old), str(tmp_path / "old"), one)
        given = {"level": "default", "memory": 4 << 30, "seconds": 60, "beside": one}
        sizes.append(build(Job(str(tmp_path / "new"), (base,), 1, (), out=str(tmp_path / out), **given)).size)
        assert b"".join(delta.decode((tmp_path / out).read_bytes(), [old])) == new
    assert sizes[1] < 0.8 * sizes[0]
