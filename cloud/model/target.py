"""What is to be learnt from one image, and what may not be."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision.ops import box_area


@dataclass(frozen=True)
class Target:
    """Labels of one image: `boxes` `(N, 4)` xyxy, `labels` `(N,)` from 1, `weights` `(N,)`.

    What may or may not be an object is in `ignore` `(M, 4)`, of the classes `ignore_labels` `(M,)` from 1. Nothing is
    background to the classes `spared` `(K,)` from 1. Where the image is a single picture, `placed` `(1, 6)` says which
    and where: its number, left, top, width and height of all of it in the image, and 1 if it is mirrored.
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor
    ignore: Tensor
    ignore_labels: Tensor
    spared: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    placed: Tensor = field(default_factory=lambda: torch.zeros(0, 6))

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All of it, in the order in which a target is made."""
        return self.boxes, self.labels, self.weights, self.ignore, self.ignore_labels, self.spared, self.placed

    def to(self, device: torch.device) -> Target:
        """Return the same labels on `device`."""
        return Target(*(part.to(device) for part in self.parts))


def inside(boxes: Tensor, ignore: Tensor) -> Tensor:
    """Return `(N, M)`: whether at least half of each box lies in each doubtful one."""
    corner = torch.maximum(boxes[:, None, :2], ignore[None, :, :2])
    other = torch.minimum(boxes[:, None, 2:], ignore[None, :, 2:])
    share: Tensor = (other - corner).clamp(min=0).prod(2) / box_area(boxes).clamp(min=1e-6)[:, None]
    return share >= 0.5
