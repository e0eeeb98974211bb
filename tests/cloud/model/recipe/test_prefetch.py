from __future__ import annotations

import pytest
import torch
from torch import Tensor

from culling.cloud.model.recipe.prefetch import Prefetch
from culling.cloud.model.target import Target


def batches(step: int, rank: int) -> tuple[Tensor, list[Target]]:
    boxes = torch.full((step, 4), float(rank))
    target = Target(boxes, torch.ones(step, dtype=torch.int64), torch.ones(step), torch.zeros(1, 4), torch.ones(1))
    return torch.full((1, 3, 4, 4), float(step)), [target]


@pytest.mark.parametrize("rank", [0, 1])
def test_every_step_gets_its_own_batch_whatever_came_before(rank: int) -> None:
    made = Prefetch(batches, 1)
    for step in (3, 4, 5, 0, 1):
        images, (target,) = made(step, rank)
        wanted, (same,) = batches(step, rank)
        assert torch.equal(images, wanted)
        assert torch.equal(target.boxes, same.boxes)
        assert torch.equal(target.ignore, same.ignore)
