"""Sessions of onnxruntime: the form that it optimised itself answers the same, and is never needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from farshore.serve.onnx import OnnxModel, without_initializers

from .conftest import colours_model, shared

FEEDS = {"x": np.random.default_rng(2).random((1, 3, 16, 16), np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(colours_model(16, work=2))
    return path


def test_the_optimised_form_answers_the_same(path: Path, tmp_path: Path) -> None:
    expected = OnnxModel(path).context(1).run(FEEDS)
    kept = tmp_path / "kept.onnx"
    kept.write_bytes(OnnxModel(path).optimised())
    plain, optimised = onnx.load(path), onnx.load(kept)
    assert [n.op_type for n in optimised.graph.node] != [n.op_type for n in plain.graph.node], "it was rewritten"
    path.write_bytes(b"not needed any more")
    for threads in (1, 2):
        found = OnnxModel(path, kept).context(threads).run(FEEDS)
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)


@pytest.mark.parametrize("kept", [b"", b"spoiled" * 100])
def test_a_spoiled_optimised_form_is_done_without(path: Path, tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "kept.onnx").write_bytes(kept)
    model = OnnxModel(path, tmp_path / "kept.onnx")
    assert model.context(1).run(FEEDS)["scores"].shape == (1, 3)


def test_weights_in_files_beside_it_have_no_optimised_form_or_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.load_from_string(colours_model(16, work=2)),
        path,
        save_as_external_data=True,
        location="w",
        size_threshold=0,
    )
    expected = OnnxModel(path).context(1).run(FEEDS)
    kept = tmp_path / "elsewhere" / "kept.onnx"
    kept.parent.mkdir()
    kept.write_bytes(OnnxModel(path).optimised())
    np.testing.assert_allclose(OnnxModel(path, kept).context(1).run(FEEDS)["scores"], expected["scores"], atol=1e-5)


def test_a_file_is_loaded_as_it_is_unless_its_weights_are_inputs(path: Path, tmp_path: Path) -> None:
    assert without_initializers(path) is None
    (tmp_path / "empty").write_bytes(b"")
    assert without_initializers(tmp_path / "empty") is None
    (tmp_path / "old").write_bytes(shared("models/version-RFB-320.onnx"))
    assert without_initializers(tmp_path / "old")
