"""A Faster R-CNN as a module whose shapes follow from the input's size alone.

torchvision's own detectors cannot be exported with dynamo (pytorch/vision#9306, #9462): which boxes survive decides
the shapes. Here every shape is fixed by the input's size. Each pyramid level gives its best `k` anchors, padded where
it holds fewer; suppression is a fixed-point iteration over the overlaps; every proposal is pooled on every level and
the right one is picked; what did not survive stays in its place with score 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import roi_align

from culling.cloud.model.boxes import ROUNDS, clip, suppress, wide

FINEST = 2
"""Pyramid levels are counted from stride 2 ** FINEST."""


class FasterRcnnGraph(nn.Module):
    """`model` with static shapes: `frames` uint8 `(B, H, W, 3)` RGB in; boxes, scores and labels of N rows out.

    Boxes are `(B, N, 4)` float32 xyxy in input pixels, scores `(B, N)` float32 best first, labels `(B, N)` int64,
    0-based; rows that hold nothing have box 0, score 0 and label -1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.backbone, self.rpn, self.heads = model.backbone, model.rpn, model.roi_heads
        self.register_buffer("mean", torch.tensor(model.transform.image_mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(model.transform.image_std).view(3, 1, 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels as the class says."""
        height, width = frames.shape[1:3]
        limits = torch.tensor([width, height, width, height], dtype=torch.float32, device=frames.device)
        images = (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        features = self.backbone(images)
        proposals, real = self._propose(list(features.values()), height, width, limits)
        pooled = self._pool([features[name] for name in self.heads.box_roi_pool.featmap_names], proposals)
        logits, deltas = self.heads.box_predictor(self.heads.box_head(pooled))
        return self._answer(logits, deltas, proposals, real, limits)

    def _propose(self, features: list[Tensor], height: int, width: int, limits: Tensor) -> tuple[Tensor, Tensor]:
        """Return proposals `(B, P, 4)` and which of them are real."""
        levels = zip(*self.rpn.head(features), self._anchors(features, height, width), strict=True)
        best, logits = zip(*(self._best(*level) for level in levels), strict=True)
        boxes, score = clip(torch.stack(best, 1), limits), torch.stack(logits, 1).sigmoid()
        kept = suppress(boxes, wide(boxes, self.rpn.min_size), self.rpn.nms_thresh, ROUNDS)
        ranked = torch.where(kept, score, -1.0).flatten(1)
        top, index = ranked.topk(self.rpn.post_nms_top_n(), dim=1)
        return boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4)), top >= 0

    def _anchors(self, features: list[Tensor], height: int, width: int) -> list[Tensor]:
        """Return each level's anchors `(h * w * 3, 4)`: torchvision's, whose strides are rounded down."""
        anchors = []
        for feature, cell in zip(features, self.rpn.anchor_generator.cell_anchors, strict=True):
            rows, columns = feature.shape[2:]
            y = torch.arange(rows, device=feature.device) * (height // rows)
            x = torch.arange(columns, device=feature.device) * (width // columns)
            y, x = torch.meshgrid(y, x, indexing="ij")
            shift = torch.stack([x, y, x, y], 2).float()
            anchors.append((shift[:, :, None] + cell.to(feature.device)).reshape(-1, 4))
        return anchors

    def _best(self, objectness: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the `k` best boxes of one level `(B, k, 4)`, best first, and their logits `(B, k)`."""
        batch, per_cell, rows, columns = objectness.shape
        k = self.rpn.pre_nms_top_n()
        logits = objectness.permute(0, 2, 3, 1).reshape(batch, -1)
        deltas = deltas.view(batch, per_cell, 4, rows, columns).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
        # A small level holds fewer anchors than k: the rest are boxes without area, which nothing keeps.
        logits = torch.cat([logits, logits.new_full((batch, k), -torch.inf)], 1)
        deltas = torch.cat([deltas, deltas.new_zeros(batch, k, 4)], 1)
        anchors = torch.cat([anchors, anchors.new_zeros(k, 4)])
        top, index = logits.topk(k, dim=1)
        offsets = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        return decode(anchors[index], offsets[..., None, :], self.rpn.box_coder)[..., 0, :], top

    def _pool(self, features: list[Tensor], proposals: Tensor) -> Tensor:
        """Return `(B * P, C, 7, 7)`: every proposal pooled on the level that fits its size."""
        pool = self.heads.box_roi_pool
        batch, count, _ = proposals.shape
        frame = torch.arange(batch, device=proposals.device).view(batch, 1, 1).expand(-1, count, -1)
        regions = torch.cat([frame.float(), proposals], 2).flatten(0, 1)
        side = (regions[:, 3:] - regions[:, 1:3]).prod(1).sqrt()
        level = torch.floor(pool.canonical_level + torch.log2(side / pool.canonical_scale) + 1e-6)
        level = level.clamp(FINEST, FINEST + len(features) - 1)[:, None, None, None]
        pooled = torch.zeros((), device=regions.device)
        for at, feature in enumerate(features, FINEST):
            every = roi_align(feature, regions, pool.output_size, 0.5**at, pool.sampling_ratio)
            pooled = torch.where(level == at, every, pooled)
        return pooled

    def _answer(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, real: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _ = proposals.shape
        scores = logits.softmax(1).view(batch, count, -1)[:, :, 1:].transpose(1, 2)
        boxes = decode(proposals, deltas.view(batch, count, -1, 4), self.heads.box_coder)
        boxes = clip(boxes[:, :, 1:].transpose(1, 2), limits)
        scores, order = scores.sort(dim=2, descending=True)
        boxes = boxes.gather(2, order[..., None].expand(-1, -1, -1, 4))
        real = real[:, None].expand_as(order).gather(2, order)
        wanted = (scores > self.heads.score_thresh) & wide(boxes, 1e-2) & real
        kept = suppress(boxes, wanted, self.heads.nms_thresh, ROUNDS)
        top, index = torch.where(kept, scores, 0.0).flatten(1).topk(self.heads.detections_per_img, dim=1)
        found = top > 0
        boxes = boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4)) * found[..., None]
        return boxes, top, torch.where(found, index // count, -1)


def decode(anchors: Tensor, deltas: Tensor, coder: BoxCoder) -> Tensor:
    """Return the boxes `(…, C, 4)` that `deltas` `(…, C, 4)` make of `anchors` `(…, 4)`."""
    size = (anchors[..., 2:] - anchors[..., :2])[..., None, :]
    centre = anchors[..., None, :2] + 0.5 * size
    dx, dy, dw, dh = coder.weights
    centre = centre + deltas[..., :2] / deltas.new_tensor([dx, dy]) * size
    half = 0.5 * torch.exp((deltas[..., 2:] / deltas.new_tensor([dw, dh])).clamp(max=coder.bbox_xform_clip)) * size
    return torch.cat([centre - half, centre + half], -1)
