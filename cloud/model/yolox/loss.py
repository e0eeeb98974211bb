"""The training loss of a YOLOX whose labels carry scores, and whose doubtful boxes are ignored.

Which cells learn an object is decided by SimOTA (Ge et al., arXiv 2107.08430, section 2): those near its centre whose
answer is cheapest, as many as their overlaps with it add up to. What is ours: each of them weighs what its label's
score says; and two kinds of cells are neither object nor background, since objectness has no class: one whose box lies
mostly inside a doubtful one, and one that would call an object by the name of a class that the target spares. A
doubtful box on a label doubts its class alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from culling.cloud.model.recipe.rivals import SAME_PLACE
from culling.cloud.model.target import Target, inside
from culling.cloud.model.yolox.network import Yolox, cells, decode

RADIUS = 2.5
"""Cells within this many strides of an object's centre may learn it, beside those within its box."""

COUNTED = 10
"""Of so many best overlaps is the number of cells that learn an object taken."""

BOX_COST = 3.0
"""What a bad overlap costs in the choice of cells, beside the class."""

ELSEWHERE = 1e5
"""Cost of a cell that lies within the box, but not near its centre, or the reverse: taken only where none is left."""

BOX_WEIGHT = 5.0
"""Weight of the loss of the boxes, as in the paper's code."""


def yolox_loss(model: Yolox, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
    """Return the three losses of a batch, `(B, 3, H, W)` float in [0, 1], as scalars by name."""
    raw, objects, classes = (part.float() for part in model(images))
    places, strides = cells(images.shape[2], images.shape[3], images.device)
    boxes = decode(raw, places, strides)
    centres = (places + 0.5) * strides
    box_loss, object_loss, class_loss, count = boxes.sum() * 0, objects.sum() * 0, classes.sum() * 0, 0
    for box, score, logits, target in zip(boxes, objects.squeeze(2), classes, targets, strict=True):
        cell, which = assign(box.detach(), score.detach(), logits.detach(), target, centres, strides)
        wanted, weight = torch.zeros_like(score), torch.ones_like(score)
        known, rivals = _rivals(target, model.classes)
        weight[inside(box.detach(), target.ignore[~known]).any(1)] = 0
        weight[torch.isin(logits.detach().argmax(1), target.spared - 1)] = 0
        wanted[cell], weight[cell] = 1, target.weights[which]
        object_loss = object_loss + _entropy(score, wanted, weight)
        if len(cell):
            overlap = _overlap(box[cell], target.boxes[which])
            box_loss = box_loss + ((1 - overlap**2) * weight[cell]).sum()
            goal = F.one_hot(target.labels[which] - 1, model.classes) * overlap.detach()[:, None]
            class_loss = class_loss + _entropy(logits[cell], goal, weight[cell, None] * ~rivals[which])
        count += len(cell)
    count = max(count, 1)
    return {"box": BOX_WEIGHT * box_loss / count, "object": object_loss / count, "class": class_loss / count}


def _rivals(target: Target, classes: int) -> tuple[Tensor, Tensor]:
    """Return which doubtful boxes lie on a label, `(M,)`, and what else than its own class each label may be `(N, C)`.

    What is doubted there is the class: that an object is there, and only one, is known.
    """
    label, at = (box_iou(target.boxes, target.ignore) > SAME_PLACE).nonzero(as_tuple=True)
    known = torch.zeros(len(target.ignore), dtype=torch.bool, device=target.ignore.device)
    rivals = torch.zeros(len(target.boxes), classes, dtype=torch.bool, device=target.ignore.device)
    known[at] = True
    rivals[label, target.ignore_labels[at] - 1] = True
    rivals[torch.arange(len(rivals)), target.labels - 1] = False
    return known, rivals


@torch.no_grad()
def assign(
    boxes: Tensor, objects: Tensor, classes: Tensor, target: Target, centres: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the cells that learn an object of one image, and the index of the label that each learns.

    `boxes` `(N, 4)`, `objects` `(N,)` and `classes` `(N, C)`, both logits, are what the cells at `centres` `(N, 2)`
    say now.
    """
    none = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    if not len(target.boxes):
        return none, none
    within, near = _places(centres, strides, target.boxes)
    tried = (within | near).any(1).nonzero().squeeze(1)
    if not len(tried):
        return none, none
    overlap = box_iou(boxes[tried], target.boxes)
    score = (objects[tried, None].sigmoid() * classes[tried].sigmoid()).sqrt()
    cost = _class_cost(score, target.labels - 1) - BOX_COST * torch.log(overlap + 1e-8)
    cost = cost + ELSEWHERE * ~(within & near)[tried]
    chosen = _cheapest(cost, overlap)
    row, which = chosen.nonzero(as_tuple=True)
    return tried[row], which


def _places(centres: Tensor, strides: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(N, M)`: whether each cell's centre lies in each box, and whether near its centre."""
    x, y = centres[:, :1], centres[:, 1:]
    left, top, right, bottom = boxes.unbind(1)
    within = (x > left) & (x < right) & (y > top) & (y < bottom)
    reach = RADIUS * strides
    near = ((x - (left + right) / 2).abs() < reach) & ((y - (top + bottom) / 2).abs() < reach)
    return within, near


def _class_cost(score: Tensor, labels: Tensor) -> Tensor:
    """Return `(N, M)`: the cross-entropy between each cell's scores `(N, C)` and each of `labels` `(M,)`."""
    score = score.clamp(1e-6, 1 - 1e-6)
    absent = -torch.log1p(-score)
    return absent.sum(1, keepdim=True) + (-torch.log(score) - absent)[:, labels]


def _cheapest(cost: Tensor, overlap: Tensor) -> Tensor:
    """Return `(N, M)`: which cells learn which label; each label has one cell or more, each cell one label or none."""
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    counts = overlap.topk(min(COUNTED, len(overlap)), dim=0).values.sum(0).int().clamp(min=1)
    for label, count in enumerate(counts.tolist()):
        chosen[cost[:, label].topk(min(count, len(cost)), largest=False).indices, label] = True
    torn = chosen.sum(1) > 1
    chosen[torn] = F.one_hot(cost[torn].argmin(1), cost.shape[1]).bool()
    return chosen


def _overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union `(n,)` of each box with its own other one, both `(n, 4)`."""
    corner, far = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (far - corner).clamp(min=0).prod(1)
    area, other = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, others))
    found: Tensor = shared / (area + other - shared + 1e-8)
    return found


def _entropy(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    return (F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight).sum()
