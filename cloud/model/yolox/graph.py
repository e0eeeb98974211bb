"""What a YOLOX finds, twice: as torch says it, and as a module whose shapes follow from the input's size alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from culling.cloud.model.boxes import ROUNDS, clip, suppress, wide
from culling.cloud.model.yolox.network import Yolox, cells, decode

FLOOR = 0.02
"""Detections below this score are not given, as in the other family."""

OVERLAP = 0.5
"""Of two boxes of one class that overlap by more than this, the better one is given."""

TRIED = 500
"""Best pairs of cell and class that are compared with each other: a person is found by some ten cells."""

MOST = 100
"""Detections per frame at most."""

NARROWEST = 1e-2
"""Pixels: a box narrower than this holds nothing."""


def find(model: Yolox, images: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield boxes `(n, 4)` xyxy in pixels, scores `(n,)`, best first, and labels `(n,)`, 0-based, of every image.

    `images` are `(B, 3, H, W)` float in [0, 1], RGB.
    """
    for boxes, scores, labels in zip(*_best(model, images), strict=True):
        real = (scores > FLOOR) & wide(boxes, NARROWEST)
        boxes, scores, labels = boxes[real], scores[real], labels[real]
        kept = batched_nms(boxes, scores, labels, OVERLAP)[:MOST]
        yield boxes[kept], scores[kept], labels[kept]


class YoloxGraph(nn.Module):
    """`model` with static shapes: `frames` uint8 `(B, H, W, 3)` RGB in; boxes, scores and labels of `MOST` rows out.

    As every student's: boxes `(B, N, 4)` float32 xyxy in input pixels, scores `(B, N)` float32 best first, labels
    `(B, N)` int64, 0-based; rows that hold nothing have box 0, score 0 and label -1.
    """

    def __init__(self, model: Yolox) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels as the class says."""
        height, width = frames.shape[1:3]
        boxes, scores, labels = _best(self.model, frames.permute(0, 3, 1, 2).float() / 255)
        apart = boxes + (labels * (height + width))[..., None]  # boxes of two classes do not overlap
        kept = suppress(apart, (scores > FLOOR) & wide(boxes, NARROWEST), OVERLAP, ROUNDS)
        top, index = torch.where(kept, scores, 0.0).topk(MOST, dim=1)
        found = top > 0
        boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4)) * found[..., None]
        return boxes, top, torch.where(found, labels.gather(1, index), -1)


def _best(model: Yolox, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `TRIED` best pairs of cell and class: boxes, scores and labels, best first."""
    height, width = images.shape[2:]
    boxes, objects, classes = (part.float() for part in model(images))
    scores = (objects.sigmoid() * classes.sigmoid()).flatten(1)
    # A small input has fewer pairs: the rest score nothing.
    top, index = torch.cat([scores, scores.new_zeros(scores.shape[0], TRIED)], 1).topk(TRIED, dim=1)
    cell, label = index // model.classes, index % model.classes
    found = clip(
        decode(boxes, *cells(height, width, images.device)),
        torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device),
    )
    cell = cell.clamp(max=found.shape[1] - 1)
    return found.gather(1, cell[..., None].expand(-1, -1, 4)), top, label
