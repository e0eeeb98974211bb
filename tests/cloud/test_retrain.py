from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from culling.cloud import retrain
from culling.cloud.dataset import Batcher
from culling.cloud.train import Recipe, Run
from culling.common.errors import TrainingError

BATCHES = Batcher([], 4, [(64, 64)])


def train_below(limit: int, tried: list[int]) -> Any:
    """Return a training run that has memory for batches smaller than `limit`."""

    def train(model: object, batches: Batcher, recipe: Recipe, *_: object, **__: object) -> Run:
        tried.append(batches.batch)
        if batches.batch >= limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Run(recipe.steps)

    return train


@pytest.mark.parametrize(("limit", "tried"), [(5, [4]), (3, [4, 2])])
def test_a_batch_that_does_not_fit_is_halved_once(
    limit: int, tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(retrain, "train", train_below(limit, asked))
    _, run = retrain.retrain(lambda: torch.nn.Module(), BATCHES, Recipe(7, 0.1), tmp_path / "c", lambda: False)
    assert (asked, run.step) == (tried, 7)


def test_what_does_not_fit_by_half_either_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(retrain, "train", train_below(1, asked))
    with pytest.raises(TrainingError, match=r"batch of 2: lower round\.batch"):
        retrain.retrain(lambda: torch.nn.Module(), BATCHES, Recipe(7, 0.1), tmp_path / "c", lambda: False)
    assert asked == [4, 2]
