"""The demo's detector as a PyTorch module, and what it learns from. Needs PyTorch."""

from __future__ import annotations

import torch
from network import ANCHOR, CENTRE_SCALE, SIZE_SCALE, STRIDES, Weights, plan, same_padding
from torch import Tensor, nn
from torch.nn import functional


class Detector(nn.Module):
    """The plan with weights that learn. Takes pictures [batch, 3, SIDE, SIDE], RGB in 0..1."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.plan = plan(classes)
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        channels = {"input": 3}
        for node in self.plan:
            channels[node.name] = node.channels
            key = node.weights.replace("/", "_")
            if not node.weights or key in self.convs:
                continue
            source, last = channels[node.inputs[0]], not node.relu
            groups = source if node.op == "depthwise" else 1
            self.convs[key] = nn.Conv2d(source, node.channels, node.kernel, node.stride, groups=groups, bias=last)
            if not last:
                self.norms[key] = nn.BatchNorm2d(node.channels)
        # Start sure that a cell is empty: nearly all are, and the first steps need not learn it.
        nn.init.constant_(self.convs["score_out"].bias, -4.0)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits [batch, boxes, classes] and raw boxes [batch, boxes, 4], in the order of `anchors`."""
        values = {"input": pictures}
        for node in self.plan:
            first = values[node.inputs[0]]
            if node.op == "add":
                values[node.name] = first + values[node.inputs[1]]
            elif node.op == "upsample":
                values[node.name] = functional.interpolate(first, scale_factor=2, mode="bilinear", align_corners=False)
            else:
                key = node.weights.replace("/", "_")
                before, after = same_padding(node.kernel, node.stride)
                first = self.convs[key](functional.pad(first, (before, after, before, after)))
                values[node.name] = functional.relu(self.norms[key](first)) if node.relu else first
        logits, raw = (
            torch.cat([values[f"{kind}/{stride}"].permute(0, 2, 3, 1).flatten(1, 2) for stride in STRIDES], dim=1)
            for kind in ("score", "box")
        )
        return logits, raw

    def folded(self) -> dict[str, Weights]:
        """The weights by `Node.weights`, each normalisation folded into the convolution before it."""
        found: dict[str, Weights] = {}
        for node in self.plan:
            if not node.weights or node.weights in found:
                continue
            key = node.weights.replace("/", "_")
            conv = self.convs[key]
            assert isinstance(conv, nn.Conv2d)
            kernel = conv.weight.detach()
            if key in self.norms:
                norm = self.norms[key]
                assert isinstance(norm, nn.BatchNorm2d)
                assert norm.running_mean is not None
                assert norm.running_var is not None
                gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
                kernel, bias = kernel * gain[:, None, None, None], (norm.bias - norm.running_mean * gain).detach()
            else:
                assert conv.bias is not None
                bias = conv.bias.detach()
            found[node.weights] = Weights(kernel.numpy().copy(), bias.numpy().copy())
        return found


# ── learning ───────────────────────────────────────────────────────────────────────────────────────────────────────


def decode(raw: Tensor, grid: Tensor) -> Tensor:
    """Boxes (top, left, bottom, right) in input pixels from raw boxes [..., 4] and their anchors [..., 4]."""
    centre = grid[..., :2] + raw[..., :2] / CENTRE_SCALE * grid[..., 2:]
    half = torch.exp(raw[..., 2:].clamp(max=20) / SIZE_SCALE) * grid[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (https://arxiv.org/abs/1902.09630) of boxes [n, 4] pair by pair."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = shared / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def assign(things: Tensor, grid: Tensor) -> Tensor:
    """Which thing each cell has to find: [boxes], an index into `things` [n, 4], or -1 for none.

    A thing belongs to the level whose anchor comes nearest to its longer side, and there to the cells around its
    centre. Two things in one cell: the smaller wins, it has fewer cells to be found in.
    """
    size = things[:, 2:] - things[:, :2]
    sides = torch.tensor([float(stride * ANCHOR) for stride in STRIDES])
    level = (size.amax(1)[:, None].log() - sides.log()).abs().argmin(1)
    centre = (things[:, :2] + things[:, 2:]) / 2
    apart = (grid[None, :, :2] - centre[:, None]).abs().amax(2) / (grid[None, :, 2] / ANCHOR)
    near = (apart < 1.2) & (grid[None, :, 2] == sides[level][:, None])
    cost = torch.where(near, size.prod(1)[:, None], torch.inf)
    best, owner = cost.min(0)
    return torch.where(best.isinf(), -1, owner)


def loss(logits: Tensor, raw: Tensor, grid: Tensor, things: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Quality focal loss (https://arxiv.org/abs/2006.04388) for the scores, generalised IoU for the boxes.

    The score to learn is the overlap of the cell's own box with the thing, so the best box has the highest score.
    """
    targets = torch.zeros_like(logits)
    misfit = raw.new_zeros(())
    found = 0
    for picture, (boxes, classes) in enumerate(zip(things, labels, strict=True)):
        if not len(boxes):
            continue
        owner = assign(boxes, grid)
        cells = torch.nonzero(owner >= 0).squeeze(1)
        iou, giou = overlap(decode(raw[picture, cells], grid[cells]), boxes[owner[cells]])
        targets[picture, cells, classes[owner[cells]]] = iou.detach().clamp(0, 1)
        misfit = misfit + (1 - giou).sum()
        found += len(cells)
    focus = (targets - logits.sigmoid()).abs().square()
    doubt = (focus * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum()
    return (doubt + 1.5 * misfit) / max(found, 1)
