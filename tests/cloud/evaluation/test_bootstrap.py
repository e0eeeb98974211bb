from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.evaluation.bootstrap import effective, lower_bound, resample, tail


def test_blocks_are_drawn_whole_and_as_many_as_there_are() -> None:
    drawn = resample(np.array([7, 7, 9, 3, 3, 3]), 50, seed=1)
    assert drawn.shape == (50, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 3] == drawn[:, 5]).all()
    assert (drawn[:, [0, 2, 3]].sum(1) == 3).all()
    assert np.array_equal(drawn, resample(np.array([7, 7, 9, 3, 3, 3]), 50, seed=1))


def test_what_a_block_weighs_decides_how_many_there_are() -> None:
    assert effective(np.array([1, 1, 2, 2]), np.ones(4)) == 2.0
    assert effective(np.array([1, 2, 3]), np.array([1e9, 1.0, 1.0])) == pytest.approx(1.0)
    assert effective(np.array([1, 2]), np.zeros(2)) == 0.0


def test_few_blocks_reach_further_into_the_tail() -> None:
    assert tail(0.95, 10_000) == pytest.approx(0.05, abs=1e-4)
    tails = [tail(0.95, blocks) for blocks in (5, 8, 16, 64)]
    assert tails == sorted(tails)
    assert tail(0.95, 16) == pytest.approx(0.0351, abs=5e-4)  # Student's t of 15 degrees of freedom: 1.753
    assert tail(0.5, 3) == pytest.approx(0.5), "the likelier of two needs no certainty"


def test_nothing_is_known_of_a_single_block_or_of_no_figure() -> None:
    assert lower_bound(np.ones(100), 1.0, 0.95) == -np.inf
    assert lower_bound(np.full(100, np.nan), 9.0, 0.95) == -np.inf
    assert lower_bound(np.array([np.nan, 0.25, 0.25]), 9.0, 0.95) == 0.25
    assert lower_bound(np.array([0.25]), 1.0, 0.5) == 0.25


@pytest.mark.parametrize("blocks", [6, 16, 64])
def test_the_truth_lies_above_the_bound_as_often_as_it_says(blocks: int) -> None:
    """Blocks of four values that share half of their variance; the bound of the mean, at 95 %, over 600 draws."""
    rng = np.random.default_rng(blocks)
    names, right = np.repeat(np.arange(blocks), 4), 0
    for seed in range(600):
        values = rng.normal(size=blocks).repeat(4) + rng.normal(size=4 * blocks)
        drawn = resample(names, 400, seed)
        right += lower_bound(drawn @ values / drawn.sum(1), blocks, 0.95) < 0.0
    assert 0.925 <= right / 600 <= 0.985
