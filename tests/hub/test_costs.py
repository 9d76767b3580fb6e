"""What each tensor takes of a patch."""

import numpy as np
import pytest

from farshore import delta, formats
from farshore.hub.costs import costs


def test_shares_make_the_whole_and_what_changed_costs(make_model):
    held, wanted = make_model(0.0), make_model(0.01)
    patch = b"".join(delta.encode(wanted, [held]))
    found = costs(delta.info(patch), formats.segment(wanted))
    assert set(found) - {""} <= {"still", "moved"}
    assert sum(found.values()) == pytest.approx(len(patch), abs=3)
    assert found["moved"] > 20 * found.get("still", 0)


def test_with_the_base_what_moved_bears_what_was_spent_on_it(make_model):
    held, wanted = make_model(0.0), make_model(0.01)
    patch = b"".join(delta.encode(wanted, [held]))
    found = costs(delta.info(patch, [held]), formats.segment(wanted))
    assert sum(found.values()) == pytest.approx(len(patch), abs=3)
    assert found["moved"] > 20 * found.get("still", 0)


def test_an_empty_file_costs_its_header():
    patch = b"".join(delta.encode(b"", []))
    assert costs(delta.info(patch), formats.segment(b"")) == {"": len(patch)}


@pytest.fixture
def make_model():
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def make(step):
        random = np.random.default_rng(1)
        still = random.standard_normal((64, 64)).astype(np.float32)
        moved = random.standard_normal((64, 64)).astype(np.float32)
        moved += (random.standard_normal((64, 64)) * step).astype(np.float32)
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "still"], ["a"]), helper.make_node("Gemm", ["a", "moved"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
            [numpy_helper.from_array(still, "still"), numpy_helper.from_array(moved, "moved")],
        )
        return helper.make_model(graph).SerializeToString()

    return make
