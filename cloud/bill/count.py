"""Counts the GFLOPs of a detector's passes; the only file of this room that needs torch.

torch counts the multiply-adds of convolutions and matrix products while they are computed (`FlopCounterMode`). Those
depend on the input's size, and on the number of proposals, which is fixed, but not on what is in the picture. What a
pass costs is therefore a straight line over the pixels, counted on two small blank inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from culling.cloud.bill.cost import PassCost, StudentCost
from culling.cloud.model.export import run_torch
from culling.cloud.model.family import family_of
from culling.cloud.model.target import Target

SIDES = (64, 128)
"""Multiples of the coarsest pyramid level's stride, so that each level grows with the pixels; the smallest holds more
proposals than a training step draws.
"""

_counted: dict[tuple[object, ...], StudentCost] = {}
"""What was counted before, by all that a pass depends on but the picture's size."""


def look_cost(model: nn.Module) -> PassCost:
    """Return what it costs a student to look at a frame."""
    return _fitted(lambda side: forward_gflops(model, np.zeros((side, side, 3), np.uint8)))


def student_cost(model: nn.Module, frozen: int) -> StudentCost:
    """Return what it costs to look at a frame, and to learn from it as a round does: `frozen` stages stay as they are.

    Counted once in a process for each kind of model. Afterwards the model is in evaluation mode, without gradients, and
    the same of its weights learn as before.
    """
    kind = (type(model), frozen, *(parameter.shape for parameter in model.parameters()))
    if kind not in _counted:
        _counted[kind] = _count(model, frozen)
    model.eval().zero_grad(set_to_none=True)
    return _counted[kind]


def _count(model: nn.Module, frozen: int) -> StudentCost:
    learns = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(True)
    family_of(model).freeze(model, frozen)
    learn = _fitted(lambda side: training_gflops(model, torch.zeros(1, 3, side, side), [_blank()]))
    for parameter, learnt in zip(model.parameters(), learns, strict=True):
        parameter.requires_grad_(learnt)
    return StudentCost(look_cost(model), learn)


def forward_gflops(model: nn.Module, image: NDArray[np.uint8]) -> float:
    """Return the GFLOPs of a detector on one image `(H, W, 3)` of its input size."""
    with FlopCounterMode(display=False) as counter:
        run_torch(model, image[None])
    return float(counter.get_total_flops() / 1e9)


def training_gflops(model: nn.Module, images: Tensor, targets: Sequence[Target]) -> float:
    """Return the GFLOPs of one training step, forward and backward, per image of the batch."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        losses = family_of(model).loss(model.train(), images.to(device), [target.to(device) for target in targets])
        torch.stack(list(losses.values())).sum().backward()
    return float(counter.get_total_flops() / 1e9 / len(images))


def _fitted(count: Callable[[int], float]) -> PassCost:
    """Return the line through the counts at both of `SIDES`."""
    (small, few), (large, many) = ((side * side, count(side)) for side in SIDES)
    per_pixel = (many - few) / (large - small)
    return PassCost(few - per_pixel * small, per_pixel)


def _blank() -> Target:
    """Return one object, in an otherwise empty picture: without any, a loss of boxes would not be computed."""
    box, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    return Target(box, label, torch.ones(1), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
