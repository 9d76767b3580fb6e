"""The module that learns computes what is exported, and learns. Needs PyTorch, which only training does."""

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed; it is needed for training only")

import torch
from detector import Detector, assign, decode, loss, overlap
from export_onnx import to_onnx
from network import SIDE, anchors

torch.set_num_threads(1)  # more of them spin for each other when the tests share the machine


@pytest.fixture
def grid():
    return torch.from_numpy(anchors())


def test_the_exported_network_is_the_one_that_learned(grid):
    torch.manual_seed(0)
    detector = Detector(3)
    pictures = torch.rand(4, 3, SIDE, SIDE)
    detector(pictures)  # moves the running means, so that folding them in has something to get wrong
    detector.eval()
    with torch.no_grad():
        logits, raw = detector(pictures[:1])
    session = onnxruntime.InferenceSession(to_onnx(detector.folded(), ("a", "b", "c"), "test"))
    shape = np.array([[SIDE, SIDE]], np.float32)
    boxes, scores, _ = session.run(None, {"input_1": pictures[:1].numpy(), "image_shape": shape})
    assert np.allclose(scores[0].T, logits[0].sigmoid().numpy(), atol=1e-5)
    assert np.allclose(boxes[0], decode(raw[0], grid).clamp(0, SIDE).numpy(), atol=1e-2)


def test_overlap_against_values_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 5, 10, 15], [20, 0, 30, 10]])
    iou, giou = overlap(a, b)
    assert torch.allclose(iou, torch.tensor([1 / 3, 0]))
    assert torch.allclose(giou, torch.tensor([1 / 3, -1 / 3]))


def test_a_thing_belongs_to_the_cells_around_its_centre_on_the_level_of_its_size(grid):
    small, large = [100.0, 100, 120, 120], [60.0, 60, 200, 200]
    owner = assign(torch.tensor([small, large]), grid)
    for thing, stride, centre in ((0, 8, 110), (1, 32, 130)):
        cells = grid[owner == thing]
        assert len(cells) >= 4
        assert set(cells[:, 2].tolist()) == {float(stride * 4)}
        assert ((cells[:, :2] - centre).abs() < 1.2 * stride).all()


def test_learning_one_picture_by_heart_lowers_the_loss(grid):
    torch.manual_seed(0)
    detector = Detector(2)
    pictures = torch.rand(2, 3, SIDE, SIDE)
    things = [torch.tensor([[40.0, 40, 100, 90]]), torch.zeros(0, 4)]
    labels = [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        cost = loss(*detector(pictures), grid, things, labels)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        losses.append(float(cost.detach()))
    assert losses[-1] < 0.7 * losses[0]
