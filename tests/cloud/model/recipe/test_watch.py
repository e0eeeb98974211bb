from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from culling.cloud.model.recipe.watch import Watch, best, plateau

LOSSES = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=40)


def looks(losses: list[float], every: int = 10) -> list[tuple[int, float]]:
    return [(at * every, loss) for at, loss in enumerate(losses)]


def test_a_plateau_is_found_once_nothing_was_lower_for_the_patience() -> None:
    assert plateau(looks([5, 4, 3, 3, 3, 3]), 30) == 50
    assert plateau(looks([5, 4, 3, 3, 3]), 30) is None


def test_what_is_hardly_lower_is_a_plateau_and_what_creeps_down_is_not() -> None:
    assert plateau(looks([1, 0.999, 0.998, 0.997]), 30) == 30
    assert plateau(looks([0.994**at for at in range(40)]), 30) is None


@given(LOSSES, st.integers(1, 100), st.integers(1, 100))
def test_more_patience_never_ends_a_run_earlier(losses: list[float], one: int, other: int) -> None:
    low, high = (plateau(looks(losses), patience) for patience in sorted((one, other)))
    assert high is None or (low is not None and low <= high)


@given(LOSSES, LOSSES)
def test_what_comes_later_does_not_move_a_plateau(losses: list[float], later: list[float]) -> None:
    found = plateau(looks(losses), 30)
    assert found is None or plateau(looks(losses + later), 30) == found


def test_the_best_is_the_first_of_the_lowest_and_never_the_start_if_there_is_more() -> None:
    assert best([(0, 1.0), (10, 3.0), (20, 2.0), (30, 2.0)]) == 20
    assert best([(0, 1.0)]) == 0


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    values = iter([3.0, math.nan, 5.0])
    watch, seen = Watch(nn.Linear(1, 1), lambda: next(values)), []
    for step in range(3):
        watch.look(seen, step)
    assert seen == [(0, 3.0), (1, math.inf), (2, 5.0)]
    assert best(seen) == 2


def test_the_weights_of_the_lowest_loss_come_back() -> None:
    model, values = nn.Linear(1, 1), iter([3.0, 1.0, 2.0])
    watch, seen = Watch(model, lambda: next(values)), []
    for step in range(3):
        nn.init.constant_(model.weight, step)
        watch.look(seen, step)
    watch.apply()
    assert model.weight.item() == 1


@pytest.mark.parametrize("learns", [True, False])
def test_only_what_learns_is_kept(learns: bool) -> None:
    model = nn.Linear(1, 1)
    model.weight.requires_grad_(learns)
    watch = Watch(model, lambda: 1.0)
    watch.look([], 0)
    assert watch.tensors.keys() == ({"weight", "bias"} if learns else {"bias"})
    watch.start({"bias": torch.tensor([7.0])})
    assert watch.tensors.keys() == {"bias"}
