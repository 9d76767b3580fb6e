"""The plan of the demo's detector, as data, and the anchors around which it predicts boxes. Needs NumPy.

The plan is written once. `detector.py` (PyTorch), `export_onnx.py` and `export_litert.py` each walk it, so all three
compute the same network: depthwise-separable convolutions down to strides 8, 16 and 32, a top-down path that tells the
fine levels what the coarse ones see, and one head shared by the three levels. Each cell of a level predicts one box
around one square anchor, encoded as SSD does it (https://arxiv.org/abs/1512.02325):

    centre = anchor centre + raw / 10 × anchor size        size = exp(raw / 5) × anchor size
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 256  # of the square input, in pixels
STRIDES = (8, 16, 32)
ANCHOR = 4  # an anchor's side, in strides
CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the network. `op` is conv, depthwise, add or upsample (twice, bilinear)."""

    name: str
    op: str
    inputs: tuple[str, ...]
    channels: int  # of the output
    side: int  # of the output, in cells
    kernel: int = 1
    stride: int = 1
    relu: bool = True
    weights: str = ""  # nodes of one weights name share their weights


@dataclass(frozen=True, slots=True)
class Weights:
    """What a trained conv or depthwise node holds, its normalisation folded in: kernel [out, in, k, k], bias [out]."""

    kernel: Floats
    bias: Floats


class _Planner:
    """Collects nodes; keeps track of channels and sides so that the plan reads like the network."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"input": Node("input", "input", (), 3, SIDE)}

    def conv(
        self, source: str, name: str, channels: int, kernel: int = 1, stride: int = 1, *, relu: bool = True, weights: str = "",
    ) -> str:  # fmt: skip
        side = self.nodes[source].side // stride
        self.nodes[name] = Node(name, "conv", (source,), channels, side, kernel, stride, relu, weights or name)
        return name

    def separable(
        self, source: str, name: str, channels: int, kernel: int = 3, stride: int = 1, *, weights: str = ""
    ) -> str:
        before, weights = self.nodes[source], weights or name
        self.nodes[f"{name}/depth"] = Node(
            f"{name}/depth", "depthwise", (source,), before.channels, before.side // stride, kernel, stride,
            weights=f"{weights}/depth",
        )  # fmt: skip
        return self.conv(f"{name}/depth", f"{name}/point", channels, weights=f"{weights}/point")

    def residual(self, source: str, name: str, kernel: int = 3) -> str:
        return self.add(source, self.separable(source, name, self.nodes[source].channels, kernel), f"{name}/add")

    def add(self, left: str, right: str, name: str) -> str:
        self.nodes[name] = Node(name, "add", (left, right), self.nodes[left].channels, self.nodes[left].side)
        return name

    def upsample(self, source: str, name: str) -> str:
        self.nodes[name] = Node(name, "upsample", (source,), self.nodes[source].channels, self.nodes[source].side * 2)
        return name


def plan(classes: int) -> tuple[Node, ...]:
    """The network's nodes in an order that can be run; its outputs are `score/S` and `box/S` for each stride S."""
    net = _Planner()
    x = net.conv("input", "stem", 16, kernel=3, stride=2)
    x = net.separable(x, "to4", 32, stride=2)
    x = net.separable(x, "to8", 40, stride=2)
    fine = net.residual(net.residual(x, "at8a"), "at8b")
    x = net.separable(fine, "to16", 64, kernel=5, stride=2)
    middle = net.residual(net.residual(x, "at16a", 5), "at16b", 5)
    x = net.separable(middle, "to32", 96, kernel=5, stride=2)
    coarse = net.residual(x, "at32a", 5)
    p32 = net.conv(coarse, "lateral32", 40)
    p16 = net.add(net.conv(middle, "lateral16", 40), net.upsample(p32, "up32"), "merge16")
    p8 = net.add(net.conv(fine, "lateral8", 40), net.upsample(p16, "up16"), "merge8")
    for stride, level in zip(STRIDES, (p8, p16, p32), strict=True):
        x = net.separable(level, f"head{stride}", 40, 5, weights="head")
        score = net.separable(x, f"score{stride}", 40, 3, weights="score")
        net.conv(score, f"score/{stride}", classes, relu=False, weights="score/out")
        box = net.separable(x, f"box{stride}", 40, 3, weights="box")
        net.conv(box, f"box/{stride}", 4, relu=False, weights="box/out")
    return tuple(net.nodes.values())[1:]


def anchors() -> Floats:
    """All anchors, level by level and row by row: [boxes, 4] of (centre y, centre x, height, width) in input pixels."""
    levels = []
    for stride in STRIDES:
        centres = (np.arange(SIDE // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        size = np.full_like(y, ANCHOR * stride)
        levels.append(np.stack([y, x, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(levels)


def same_padding(kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after an even side so that it shrinks by exactly `stride`: TensorFlow's SAME."""
    total = kernel - stride
    return total // 2, total - total // 2
