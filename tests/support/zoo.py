"""Checkpoints in the layout of detectron2's model zoo, of random numbers, narrow where the layout allows it; and what
detectron2 computes with one, written down a second time from its documentation: numpy, and torch's convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from support.detectors import picture

Tensors = dict[str, Tensor]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
CLASSES = 7
RPN = "proposal_generator.rpn_head"


def checkpoint(depth: int = 50, groups: int = 1, c4: bool = False, seed: int = 0) -> Tensors:
    """Return the tensors of a Faster R-CNN by detectron2's names; `groups` above 1 make it a ResNeXt."""
    torch.manual_seed(seed)
    prefix = "backbone." if c4 else "backbone.bottom_up."
    tensors = _conv(f"{prefix}stem.conv1", 64, 3, 7)
    inside, width = 64, 8 if groups > 1 else 4
    for stage, count in enumerate(BLOCKS[depth]):
        name = f"roi_heads.res{stage + 2}" if c4 and stage == 3 else f"{prefix}res{stage + 2}"
        middle, outside = width * groups * 2**stage, 256 * 2**stage
        for block in range(count):
            at = f"{name}.{block}"
            if block == 0:
                tensors |= _conv(f"{at}.shortcut", outside, inside, 1)
            tensors |= _conv(f"{at}.conv1", middle, inside, 1) | _conv(f"{at}.conv2", middle, middle // groups, 3)
            tensors |= _conv(f"{at}.conv3", outside, middle, 1)
            inside = outside
    tensors |= _heads(1024, 2048, 15) if c4 else _pyramid(16) | _heads(16, 32, 3)
    Reference(tensors).calibrate(picture(60, 80))
    return tensors


def _pyramid(width: int) -> Tensors:
    tensors: Tensors = {}
    for level in range(2, 6):
        tensors |= _plain(f"backbone.fpn_lateral{level}", width, 64 * 2**level, 1)
        tensors |= _plain(f"backbone.fpn_output{level}", width, width, 3)
    return tensors | _linear("roi_heads.box_head.fc1", 32, width * 49) | _linear("roi_heads.box_head.fc2", 32, 32)


def _heads(width: int, features: int, anchors: int) -> Tensors:
    box = "roi_heads.box_predictor"
    tensors = _plain(f"{RPN}.conv", width, width, 3) | _plain(f"{RPN}.objectness_logits", anchors, width, 1)
    tensors |= _plain(f"{RPN}.anchor_deltas", anchors * 4, width, 1, 0.3)
    tensors |= _linear(f"{box}.cls_score", CLASSES + 1, features, 3.0)
    return tensors | _linear(f"{box}.bbox_pred", CLASSES * 4, features, 1.0)


def _plain(name: str, out: int, inside: int, side: int, gain: float = 1.0) -> Tensors:
    weight = torch.randn(out, inside, side, side) * gain * (2 / (inside * side * side)) ** 0.5
    return {f"{name}.weight": weight, f"{name}.bias": torch.randn(out) * 0.1}


def _linear(name: str, out: int, inside: int, gain: float = 1.4) -> Tensors:
    return {f"{name}.weight": torch.randn(out, inside) * gain * inside**-0.5, f"{name}.bias": torch.randn(out) * 0.1}


def _conv(name: str, out: int, inside: int, side: int) -> Tensors:
    scale = 0.02 if name.endswith("stem.conv1") else 0.5 if name.endswith("conv3") else 1.0
    return {
        f"{name}.weight": torch.randn(out, inside, side, side) * (2 / (inside * side * side)) ** 0.5,
        f"{name}.norm.weight": (torch.rand(out) + 0.5) * scale,
        f"{name}.norm.bias": torch.randn(out) * 0.1,
        f"{name}.norm.running_mean": torch.randn(out) * 0.1,
        f"{name}.norm.running_var": torch.rand(out) + 0.5,
    }


class Reference:
    """What detectron2 computes with `tensors`: no part of it is torchvision's."""

    def __init__(self, tensors: Tensors) -> None:
        self._t = tensors
        self._c4 = any(name.startswith("roi_heads.res5") for name in tensors)
        self._prefix = "backbone." if self._c4 else "backbone.bottom_up."
        weight = tensors[f"{self._prefix}res2.0.conv2.weight"]
        self._groups = weight.shape[0] // weight.shape[1]

    @torch.inference_mode()
    def see(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return boxes, scores and labels for one picture `(H, W, 3)`, best first."""
        height, width = rgb.shape[:2]
        maps = self._maps(self._input(rgb))
        boxes = self._proposals(maps, height, width)
        pooled = torch.from_numpy(np.stack(list(self._pool([one[0].numpy() for one in maps], boxes))))
        return self._classified(self._head(pooled), boxes, height, width)

    @torch.inference_mode()
    def calibrate(self, rgb: NDArray[np.uint8]) -> None:
        """Scale the last layers so that scores and boxes differ from place to place, as trained ones do."""
        maps = self._maps(self._input(rgb))
        hidden = torch.cat([self._plain(one, f"{RPN}.conv", 1).relu()[0].flatten(1) for one in maps], dim=1)
        self._spread(f"{RPN}.objectness_logits", hidden.T, 2.0)
        self._spread(f"{RPN}.anchor_deltas", hidden.T, 0.2)
        boxes = self._proposals(maps, *rgb.shape[:2])
        x = self._head(torch.from_numpy(np.stack(list(self._pool([one[0].numpy() for one in maps], boxes)))))
        self._spread("roi_heads.box_predictor.cls_score", x, 1.5)
        self._spread("roi_heads.box_predictor.bbox_pred", x, 1.0)

    def _spread(self, name: str, x: Tensor, wanted: float) -> None:
        weight, bias = self._t[f"{name}.weight"], self._t[f"{name}.bias"]
        given = functional.linear(x, weight.flatten(1))
        scale = wanted / given.std(0).clamp(min=1e-6)
        weight *= scale.view(-1, *[1] * (weight.dim() - 1))
        bias.copy_(-given.mean(0) * scale)

    def _input(self, rgb: NDArray[np.uint8]) -> Tensor:
        std = [57.375, 57.120, 58.395] if self._groups > 1 else [1.0, 1.0, 1.0]
        bgr = (rgb[..., ::-1].astype(np.float32) - [103.530, 116.280, 123.675]) / np.array(std)
        height, width = rgb.shape[:2]
        padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
        padded[:height, :width] = bgr
        return torch.from_numpy(padded.transpose(2, 0, 1)[None].copy())

    def _maps(self, x: Tensor) -> list[Tensor]:
        x = functional.max_pool2d(self._normed(x, f"{self._prefix}stem.conv1", 2, 3).relu(), 3, 2, 1)
        maps = []
        for stage in range(2, 5 if self._c4 else 6):
            x = self._stage(x, f"{self._prefix}res{stage}", 1 if stage == 2 else 2)
            maps.append(x)
        if self._c4:
            return maps[-1:]
        merged, out = None, []
        for level in range(5, 1, -1):
            lateral = self._plain(maps[level - 2], f"backbone.fpn_lateral{level}", 0)
            merged = lateral if merged is None else lateral + functional.interpolate(merged, scale_factor=2.0)
            out.insert(0, self._plain(merged, f"backbone.fpn_output{level}", 1))
        return [*out, out[-1][:, :, ::2, ::2]]

    def _stage(self, x: Tensor, name: str, stride: int) -> Tensor:
        first, second = (1, stride) if self._groups > 1 else (stride, 1)
        block = 0
        while f"{name}.{block}.conv1.weight" in self._t:
            at, step = f"{name}.{block}", block == 0
            y = self._normed(x, f"{at}.conv1", first if step else 1, 0).relu()
            y = self._normed(y, f"{at}.conv2", second if step else 1, 1, self._groups).relu()
            y = self._normed(y, f"{at}.conv3", 1, 0)
            x = (y + (self._normed(x, f"{at}.shortcut", stride, 0) if step else x)).relu()
            block += 1
        return x

    def _normed(self, x: Tensor, name: str, stride: int, pad: int, groups: int = 1) -> Tensor:
        y = functional.conv2d(x, self._t[f"{name}.weight"], stride=stride, padding=pad, groups=groups)
        weight, bias, mean, var = (
            self._t[f"{name}.norm.{part}"].view(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    def _plain(self, x: Tensor, name: str, pad: int) -> Tensor:
        return functional.conv2d(x, self._t[f"{name}.weight"], self._t[f"{name}.bias"], padding=pad)

    def _proposals(self, maps: list[Tensor], height: int, width: int) -> NDArray[Any]:
        sides = [(32, 64, 128, 256, 512)] if self._c4 else [(one,) for one in (32, 64, 128, 256, 512)]
        boxes, scores, levels = [], [], []
        for level, (one, own) in enumerate(zip(maps, sides, strict=True)):
            stride = 16 if self._c4 else 4 * 2**level
            hidden = self._plain(one, f"{RPN}.conv", 1).relu()
            logits = self._plain(hidden, f"{RPN}.objectness_logits", 0)[0].permute(1, 2, 0).reshape(-1).numpy()
            deltas = self._plain(hidden, f"{RPN}.anchor_deltas", 0)[0].numpy()
            count, rows, columns = len(logits) // (one.shape[2] * one.shape[3]), one.shape[2], one.shape[3]
            deltas = deltas.reshape(count, 4, rows, columns).transpose(2, 3, 0, 1).reshape(-1, 4)
            order = np.argsort(-logits, kind="stable")[: 6000 if self._c4 else 1000]
            found = clip(moved(anchors(own, rows, columns, stride)[order], deltas[order], (1, 1, 1, 1)), height, width)
            boxes.append(found)
            scores.append(logits[order])
            levels.append(np.full(len(order), level))
        box, score, level = (np.concatenate(part) for part in (boxes, scores, levels))
        real = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        box, score, level = box[real], score[real], level[real]
        return box[suppressed(box, score, level, 0.7)[:1000]]

    def _pool(self, maps: list[NDArray[Any]], boxes: NDArray[Any]) -> Iterator[NDArray[Any]]:
        for box in boxes:
            area = (box[2] - box[0]) * (box[3] - box[1])
            level = 0 if self._c4 else int(np.clip(np.floor(4 + np.log2(np.sqrt(area) / 224 + 1e-8)), 2, 5)) - 2
            yield aligned(maps[level], box, 1 / (16 if self._c4 else 4 * 2**level), 14 if self._c4 else 7)

    def _head(self, pooled: Tensor) -> Tensor:
        if self._c4:
            return self._stage(pooled, "roi_heads.res5", 2).mean((2, 3))
        x = pooled.flatten(1)
        for name in ("roi_heads.box_head.fc1", "roi_heads.box_head.fc2"):
            x = functional.linear(x, self._t[f"{name}.weight"], self._t[f"{name}.bias"]).relu()
        return x

    def _classified(self, x: Tensor, boxes: NDArray[Any], height: int, width: int) -> Any:
        name = "roi_heads.box_predictor"
        logits, deltas = (
            functional.linear(x, self._t[f"{name}.{part}.weight"], self._t[f"{name}.{part}.bias"]).numpy()
            for part in ("cls_score", "bbox_pred")
        )
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares = (shares / shares.sum(1, keepdims=True))[:, :-1]
        rows, labels = np.nonzero(shares > 0.05)
        own = deltas.reshape(len(boxes), -1, 4)[rows, labels]
        found = clip(moved(boxes[rows], own, (10, 10, 5, 5)), height, width)
        kept = suppressed(found, shares[rows, labels], labels, 0.5)[:100]
        kept = kept[(found[kept, 2:] - found[kept, :2] >= 0.01).all(1)]  # torchvision leaves out what has no area
        return found[kept], shares[rows, labels][kept], labels[kept]


def anchors(sides: tuple[int, ...], rows: int, columns: int, stride: int) -> NDArray[Any]:
    """Return detectron2's anchors of a map, place by place, `(rows * columns * A, 4)`."""
    cells = []
    for side in sides:
        for ratio in (0.5, 1.0, 2.0):
            wide = np.sqrt(side**2 / ratio)
            cells.append([-wide / 2, -wide * ratio / 2, wide / 2, wide * ratio / 2])
    y, x = np.mgrid[:rows, :columns] * stride
    shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + np.array(cells)).reshape(-1, 4).astype(np.float32)


def moved(boxes: NDArray[Any], deltas: NDArray[Any], weights: tuple[float, ...]) -> NDArray[Any]:
    """Return `boxes` shifted and scaled by `deltas`, as every R-CNN does."""
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    dx, dy, dw, dh = (deltas / np.array(weights, np.float32)).T
    x, y = boxes[:, 0] + wide / 2 + dx * wide, boxes[:, 1] + tall / 2 + dy * tall
    wide, tall = (side * np.exp(np.minimum(d, np.log(1000 / 16))) for side, d in ((wide, dw), (tall, dh)))
    return np.stack([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2], 1)


def clip(boxes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return `boxes` cut at the picture's sides."""
    return np.clip(boxes, 0, np.array([width, height, width, height]))


def suppressed(boxes: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any], limit: float) -> NDArray[Any]:
    """Return the rows that no better one of their group overlaps by more than `limit`, best first."""
    order, kept = np.argsort(-scores, kind="stable"), []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low, high = np.maximum(boxes[first, :2], boxes[rest, :2]), np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        over = shared > limit * (area[first] + area[rest] - shared)
        order = rest[~(over & (groups[rest] == groups[first]))]
    return np.array(kept, int)


def aligned(values: NDArray[Any], box: NDArray[Any], scale: float, bins: int) -> NDArray[Any]:
    """Return RoIAlign with `aligned=True` and `sampling_ratio=0` of `values` `(C, H, W)` at `box`."""
    x1, y1, x2, y2 = box * scale - 0.5
    columns = _samples(x1, (x2 - x1) / bins, bins, values.shape[2])
    rows = _samples(y1, (y2 - y1) / bins, bins, values.shape[1])
    across = sum(values[:, :, at] * weight for at, weight in columns)
    both = sum(across[:, at, :] * weight[:, None] for at, weight in rows)
    tall, wide = len(rows[0][0]) // bins, len(columns[0][0]) // bins
    return both.reshape(len(values), bins, tall, bins, wide).mean((2, 4)).astype(np.float32)


def _samples(start: float, size: float, bins: int, length: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return the two neighbours of every sample along one axis, each with its weight; outside by over 1 counts 0."""
    count = max(1, int(np.ceil(size)))
    at = start + (np.arange(bins)[:, None] * size + (np.arange(count) + 0.5) * size / count).ravel()
    inside = (at >= -1) & (at <= length)
    at = np.maximum(at, 0)
    low = np.minimum(at.astype(int), length - 1)
    high = np.minimum(low + 1, length - 1)
    share = np.where(low >= length - 1, 0.0, at - low)
    return [(low, (1 - share) * inside), (high, share * inside)]
