from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from culling.cloud.model.dataset import Batcher
from culling.cloud.model.train import Recipe, Run
from culling.cloud.round.fit import canvases, retrain, round_recipe
from culling.cloud.settings import RoundSettings
from culling.common.errors import TrainingError

WIDTH, HEIGHT = 128, 96
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
    monkeypatch.setattr("culling.cloud.round.fit.train", train_below(limit, asked))
    _, run = retrain(lambda: torch.nn.Module(), BATCHES, Recipe(7, 0.1), tmp_path / "c", lambda: False)
    assert (asked, run.step) == (tried, 7)


def test_what_does_not_fit_by_half_either_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("culling.cloud.round.fit.train", train_below(1, asked))
    with pytest.raises(TrainingError, match=r"batch of 2: lower round\.batch"):
        retrain(lambda: torch.nn.Module(), BATCHES, Recipe(7, 0.1), tmp_path / "c", lambda: False)
    assert asked == [4, 2]


def test_canvases_are_the_input_one_a_step_smaller_and_the_full_one() -> None:
    assert canvases((WIDTH, HEIGHT), 0.75, 640) == [(64, 96), (96, 128)]
    assert canvases((WIDTH, HEIGHT), 1.0, 640) == [(96, 128)]
    assert canvases((640, 480), 0.45, 640, full=0.5) == [(224, 288), (192, 256), (256, 320)]


def test_a_round_trains_every_image_as_often_as_it_has_epochs() -> None:
    settings = RoundSettings(epochs=2.5, batch=4, lr=0.5, warmup=3)
    recipe = round_recipe(settings, 9, seed=7)
    assert (recipe.steps, recipe.lr, recipe.warmup, recipe.seed) == (6, 0.5, 3, 7)
