"""What the ways to a trained student cost, in seconds and in GFLOPs (2 x multiply-adds), and by how much they differ.

The paper's ratio (table 1) is that of two whole days: on one side the teacher labels every frame and the student is
trained on all of them; on the other the student looks at every frame, the teacher at the highest losses, and training
goes over what is kept. optResolution, which the paper leaves out of that table, is counted on the culled side. The
incremental ratio leaves out the student's pass, which an edge does anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import run_torch
from culling.cloud.model.losses import Target, detection_loss

DAY_FRAMES = 86_400
"""The paper's day: one frame a second."""


@dataclass(frozen=True)
class Cost:
    """Seconds on the machine at hand, and GFLOPs on any."""

    seconds: float = 0.0
    gflops: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.gflops + other.gflops)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.seconds * times, self.gflops * times)

    def over(self, other: Cost) -> Cost:
        """Return how many times `other` this is, of both; infinite where `other` is nothing."""
        return Cost(_ratio(self.seconds, other.seconds), _ratio(self.gflops, other.gflops))


NOTHING = Cost()


@dataclass(frozen=True)
class Bill:
    """What one way to a trained student costs, by stage."""

    student: Cost = NOTHING
    teacher: Cost = NOTHING
    resolution: Cost = NOTHING
    training: Cost = NOTHING

    @property
    def total(self) -> Cost:
        """All stages together."""
        return self.incremental + self.student

    @property
    def incremental(self) -> Cost:
        """All stages but the student's pass."""
        return self.teacher + self.resolution + self.training


@dataclass(frozen=True)
class PerImage:
    """What each stage costs for one image; `training` is one image shown once."""

    student: Cost
    teacher: Cost
    training: Cost


def full_bill(frames: int, epochs: float, each: PerImage) -> Bill:
    """Return what it costs to label and train on every frame."""
    return Bill(teacher=each.teacher * frames, training=each.training * (frames * epochs))


def culled_bill(frames: int, labelled: int, kept: int, epochs: float, each: PerImage, resolution: Cost) -> Bill:
    """Return what it costs to cull `frames` to the `labelled` highest losses and the `kept` hardest of those."""
    training = each.training * (kept * epochs)
    return Bill(each.student * frames, each.teacher * min(labelled, frames), resolution, training)


def forward_gflops(model: FasterRCNN, image: NDArray[np.uint8]) -> float:
    """Return what a detector computes on one image `(H, W, 3)` of its input size."""
    with FlopCounterMode(display=False) as counter:
        run_torch(model, image[None])
    return float(counter.get_total_flops() / 1e9)


def training_gflops(model: FasterRCNN, images: Tensor, targets: Sequence[Target]) -> float:
    """Return what one step computes, forward and backward, for each of a batch's images."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        losses = detection_loss(model.train(), images.to(device), [target.to(device) for target in targets])
        torch.stack(list(losses.values())).sum().backward()
    return float(counter.get_total_flops() / 1e9 / len(images))


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("inf")
