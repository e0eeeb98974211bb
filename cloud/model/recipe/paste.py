"""Objects copied from training images and pasted into others: rare classes are seen more often, and in other places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from culling.common.frame import Detections

if TYPE_CHECKING:
    from culling.cloud.model.dataset import Sample

SURE = 0.6
"""Only labels from this score on are copied."""

MIN_SIDE, MARGIN = 16, 0.1
MOST_ENLARGED = 1.5
CROWDED = 0.3
"""No object is pasted where it would share more than this part of its own area, or of another's."""


@dataclass(frozen=True)
class Paste:
    """Pastes one to `most` objects of `samples` onto a share of the canvases, every class as often as any other."""

    samples: Sequence[Sample]
    share: float
    most: int = 3
    objects: list[list[tuple[int, int]]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[int, list[tuple[int, int]]] = {}
        for index, sample in enumerate(self.samples):
            sides = (sample.detections.boxes[:, 2:] - sample.detections.boxes[:, :2]).min(1, initial=np.inf)
            for row in np.flatnonzero((sample.detections.scores >= SURE) & (sides >= MIN_SIDE)):
                found.setdefault(int(sample.detections.labels[row]), []).append((index, int(row)))
        object.__setattr__(self, "objects", list(found.values()))

    def __call__(self, canvas: Tensor, found: Detections, rng: np.random.Generator) -> Detections:
        """Paste into `canvas`, `(3, H, W)` uint8, in place; return `found` with what was pasted."""
        if not self.objects or rng.random() >= self.share:
            return found
        for _ in range(rng.integers(1, self.most + 1)):
            of_class = self.objects[rng.integers(len(self.objects))]
            index, row = of_class[rng.integers(len(of_class))]
            found = _pasted(canvas, found, self.samples[index], row, rng)
        return found


def _pasted(canvas: Tensor, found: Detections, sample: Sample, row: int, rng: np.random.Generator) -> Detections:
    """Paste object `row` of `sample` at a random size and place, unless that is taken."""
    room_h, room_w = canvas.shape[1:]
    left, top, right, bottom = (float(v) for v in sample.detections.boxes[row])
    side = max(right - left, bottom - top)
    most = min(0.5 * min(room_h, room_w), MOST_ENLARGED * side)
    scale = math.exp(rng.uniform(math.log(MIN_SIDE), math.log(max(most, MIN_SIDE + 1)))) / side
    width, height = (max(4, round(v * scale)) for v in (right - left, bottom - top))
    edge = max(1, round(MARGIN * max(width, height)))
    if height + 2 * edge > room_h or width + 2 * edge > room_w:
        return found
    y, x = (int(rng.integers(edge, room - size - edge + 1)) for room, size in ((room_h, height), (room_w, width)))
    box = np.array([[x, y, x + width, y + height]], np.float32)
    if _crowded(box, found):
        return found
    cut = _cut(sample, (left, top, right, bottom), MARGIN * side)
    patch = tv.resize(cut, [height + 2 * edge, width + 2 * edge], antialias=True).float()
    if rng.random() < 0.5:
        patch = patch.flip(2)
    place = canvas[:, y - edge : y + height + edge, x - edge : x + width + edge]
    alpha = _ramp(height, edge)[:, None] * _ramp(width, edge)[None]
    place.copy_((patch * alpha + place.float() * (1 - alpha)).byte())
    kept = sample.detections
    return Detections(
        np.concatenate([found.boxes, box]),
        np.append(found.scores, kept.scores[row]),
        np.append(found.labels, kept.labels[row]),
    )


def _cut(sample: Sample, box: tuple[float, float, float, float], margin: float) -> Tensor:
    """Return the part of the picture around `box`, grey where the margin leaves it."""
    left, top = (math.floor(v - margin) for v in box[:2])
    right, bottom = (math.ceil(v + margin) for v in box[2:])
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, sample.height), min(right, sample.width)
    cut = torch.full((3, bottom - top, right - left), 114, dtype=torch.uint8)
    cut[:, y0 - top : y1 - top, x0 - left : x1 - left] = sample.pixels()[:, y0:y1, x0:x1]
    return cut


def _ramp(size: int, edge: int) -> Tensor:
    """Return how much of the object shows along one side: all of it within its box, less and less towards the edge."""
    rise = torch.arange(1, edge + 1) / (edge + 1)
    return torch.cat([rise, torch.ones(size), rise.flip(0)])


def _crowded(box: NDArray[np.float32], found: Detections) -> bool:
    sides = np.minimum(box[:, 2:], found.boxes[:, 2:]) - np.maximum(box[:, :2], found.boxes[:, :2])
    shared = sides.clip(min=0).prod(1)
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    own = float((box[:, 2:] - box[:, :2]).prod())
    return bool((shared > CROWDED * np.minimum(areas, own)).any())
