"""Weights in a file beside an ONNX model: `patch make` knows what they are."""

import json

import pytest
from tests.cli.conftest import Shell

from farshore.cli import beside
from farshore.core.errors import Invalid, NotFound
from farshore.store.views import view


@pytest.fixture
def farshore(monkeypatch, capsys):
    return Shell(None, None, monkeypatch, capsys)


@pytest.fixture
def save(tmp_path):
    """Writes a version of a model: ``save("v1", moved=0.0, location="net.data")``, all in one file without a location."""
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def save(folder, moved=0.0, location=None):
        values = np.random.default_rng(1).standard_normal((128, 256)) * 0.1
        values += np.random.default_rng(2).standard_normal(values.shape) * moved
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 128])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 256])],
            [numpy_helper.from_array(values.astype(np.float32), "w")],
        )
        path = tmp_path / folder / "net.onnx"
        path.parent.mkdir()
        onnx.save_model(
            helper.make_model(graph), path, save_as_external_data=location is not None, location=location, size_threshold=0
        )  # fmt: skip
        return path.with_name(location) if location else path

    return save


def test_the_patch_is_as_small_as_for_weights_inside(farshore, save, tmp_path):
    sizes = {}
    for name, location in (("inside", None), ("beside", "net.data")):
        old, new = save(f"{name} 1", location=location), save(f"{name} 2", 1e-4, location)
        sizes[name] = json.loads(farshore.ok("patch", "make", old, new, "-o", tmp_path / name, "--json"))["size"]
        farshore.ok("patch", "apply", old, tmp_path / name, "-o", tmp_path / "out", "--force")
        assert (tmp_path / "out").read_bytes() == new.read_bytes()
    for path in (old, new):
        path.with_name("net.onnx").rename(path.with_name("net.txt"))
    unknown = json.loads(farshore.ok("patch", "make", old, new, "-o", tmp_path / "bytes", "--json"))["size"]
    assert sizes["beside"] <= sizes["inside"] < 0.9 * unknown
    model = ("--model", new.with_name("net.txt"))
    told = json.loads(farshore.ok("patch", "make", old, new, "-o", tmp_path / "told", "--json", *model))["size"]
    assert told == sizes["beside"]


def test_what_tensors_cost_is_told_by_name(farshore, save, tmp_path):
    old, new = save("v1", location="net.data"), save("v2", 1e-4, "net.data")
    farshore.ok("patch", "make", old, new, "-o", tmp_path / "p")
    said = json.loads(farshore.ok("patch", "info", tmp_path / "p", "--base", old, "--target", new, "--json"))
    assert said["names"] == {"0": "w"}


def test_one_model_beside_must_name_the_file(save):
    path = save("v1", location="net.data")
    data = view(path)

    def named():
        return any(part.name == "w" for part in beside.maps([path], [data], [])[0].segments)

    assert named()
    path.with_name("broken.onnx").write_bytes(b"no model")
    assert named()
    model = path.with_name("net.onnx")
    model.with_name("twin.onnx").write_bytes(model.read_bytes())
    assert not named(), "two models name it: which one is not known"
    assert beside.maps([path], [data], [model])[0].segments[0].name == "w"


def test_the_target_comes_first_and_models_know_themselves(save):
    inside, outside = save("v1"), save("v2", location="net.data")
    target, base = beside.maps([inside, outside], [view(inside), view(outside)], [outside.with_name("net.onnx")])
    assert sum(part.length for part in target.segments) == outside.stat().st_size
    assert sum(part.length for part in base.segments) == inside.stat().st_size
    assert [part.name for part in base.segments if part.name] == ["w"]


def test_what_cannot_be_is_refused(save):
    inside, outside = save("v1"), save("v2", location="net.data")
    model, data = outside.with_name("net.onnx"), view(outside)
    with pytest.raises(Invalid, match="once for each"):
        beside.maps([outside] * 3, [data] * 3, [model] * 2)
    with pytest.raises(Invalid, match="keeps no weights"):
        beside.maps([outside], [data], [inside])
    with pytest.raises(NotFound, match=r"none\.onnx"):
        beside.maps([outside], [data], [model.with_name("none.onnx")])
