from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, nms

from culling.cloud.model.boxes import ROUNDS, suppress


def sorted_boxes(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (count, 2))])
    scores = np.sort(rng.random(count))[::-1].copy()
    return torch.from_numpy(boxes).float(), torch.from_numpy(scores).float()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_suppression_keeps_what_greedy_suppression_keeps(seed: int, threshold: float) -> None:
    boxes, scores = sorted_boxes(np.random.default_rng(seed), 150)
    kept = suppress(boxes, torch.ones(150, dtype=torch.bool), threshold, ROUNDS)
    assert kept.nonzero().flatten().tolist() == nms(boxes, scores, threshold).sort().values.tolist()


def test_suppression_keeps_groups_apart_and_heeds_what_is_wanted() -> None:
    parts = [sorted_boxes(np.random.default_rng(seed), 60) for seed in range(4)]
    boxes = torch.stack([part[0] for part in parts])
    wanted = torch.from_numpy(np.random.default_rng(9).random((4, 60)) < 0.7)
    kept = suppress(boxes, wanted, 0.5, ROUNDS)
    for group, (own, scores) in enumerate(parts):
        chosen = wanted[group].nonzero().flatten()
        expected = chosen[nms(own[chosen], scores[chosen], 0.5)]
        assert kept[group].nonzero().flatten().tolist() == expected.sort().values.tolist()


def test_a_chain_longer_than_the_rounds_leaves_too_many_boxes_and_never_too_few() -> None:
    left = torch.arange(40.0)[:, None] * 4
    boxes = torch.cat([left, torch.zeros(40, 1), left + 10, torch.full((40, 1), 10.0)], 1)
    everything = torch.ones(40, dtype=torch.bool)
    exact = batched_nms(boxes, torch.linspace(1, 0, 40), torch.zeros(40), 0.3).sort().values.tolist()
    assert suppress(boxes, everything, 0.3, 40).nonzero().flatten().tolist() == exact
    assert set(suppress(boxes, everything, 0.3, 4).nonzero().flatten().tolist()) > set(exact)
