"""The plan can be run in its order, halves where it says so, and its anchors tile the picture."""

import numpy as np
from network import ANCHOR, SIDE, STRIDES, anchors, plan, same_padding


def test_every_input_is_made_before_it_is_used_and_fits():
    made = {"input": (3, SIDE)}
    for node in plan(classes=4):
        channels, side = made[node.inputs[0]]
        if node.op == "add":
            assert made[node.inputs[0]] == made[node.inputs[1]] == (node.channels, node.side)
        elif node.op == "upsample":
            assert (node.channels, node.side) == (channels, side * 2)
        else:
            assert node.side * node.stride == side
            assert node.op == "conv" or node.channels == channels
        assert node.name not in made
        made[node.name] = (node.channels, node.side)
    for stride in STRIDES:
        assert made[f"score/{stride}"] == (4, SIDE // stride)
        assert made[f"box/{stride}"] == (4, SIDE // stride)


def test_nodes_that_share_weights_have_one_shape():
    shapes = {}
    made = {"input": 3}
    for node in plan(classes=4):
        made[node.name] = node.channels
        if node.weights:
            shape = (node.op, made[node.inputs[0]], node.channels, node.kernel, node.stride, node.relu)
            assert shapes.setdefault(node.weights, shape) == shape


def test_anchors_tile_the_picture_level_by_level():
    grid = anchors()
    first = 0
    for stride in STRIDES:
        cells = SIDE // stride
        level = grid[first : first + cells**2].reshape(cells, cells, 4)
        assert np.array_equal(level[0, 0], [stride / 2, stride / 2, stride * ANCHOR, stride * ANCHOR])
        assert np.array_equal(level[1, 0, :2] - level[0, 0, :2], [stride, 0])
        assert np.array_equal(level[-1, -1, :2], [SIDE - stride / 2, SIDE - stride / 2])
        first += cells**2
    assert first == len(grid)


def test_padding_is_what_tensorflow_calls_same():
    assert same_padding(kernel=3, stride=1) == (1, 1)
    assert same_padding(kernel=3, stride=2) == (0, 1)
    assert same_padding(kernel=5, stride=2) == (1, 2)
    assert same_padding(kernel=1, stride=1) == (0, 0)
