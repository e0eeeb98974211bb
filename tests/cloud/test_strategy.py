from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from culling.cloud.precision import Hardness
from culling.cloud.strategy import STRATEGIES, culled, evenly, hardest, top

LOSSES = np.array([5.0, 1.0, 4.0, 4.0, 0.0, 3.0, 2.0, 6.0])
HARDNESS = [0.1, 1.0, 0.9, 0.2, 0.8, 0.9, 0.3, 0.0]


class Judge:
    """Says how wrong the student is, and remembers about which frames it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, frames: Sequence[int]) -> list[Hardness]:
        self.asked += frames
        return [Hardness(HARDNESS[index], "hard") for index in frames]


def test_the_highest_come_first_and_of_equals_the_earlier() -> None:
    assert top(LOSSES, 4) == [7, 0, 2, 3]
    assert top(LOSSES, 99) == [7, 0, 2, 3, 5, 6, 1, 4]
    assert hardest([6, 5, 2, 1], Judge(), 3) == [1, 5, 2]


def test_even_frames_reach_from_the_first_to_the_last() -> None:
    assert evenly(9, 3) == [0, 4, 8]
    assert evenly(3, 9) == [0, 1, 2]


def test_culling_asks_the_teacher_about_the_highest_losses_alone() -> None:
    judge = Judge()
    assert culled(LOSSES, judge, 2, factor=2) == [2, 3]
    assert sorted(judge.asked) == [0, 2, 3, 7]


@pytest.mark.parametrize(
    ("name", "frames", "asked"),
    [
        ("interval", [0, 7], 0),
        ("confidence", [7, 0], 0),
        ("precision", [1, 2], 8),
        ("confidence + precision", [2, 3], 4),
    ],
)
def test_each_strategy_chooses_by_its_name(name: str, frames: list[int], asked: int) -> None:
    judge = Judge()
    assert STRATEGIES[name](LOSSES, judge, 2, 2, 0) == frames
    assert len(judge.asked) == asked


def test_random_frames_differ_by_seed_and_come_once() -> None:
    draws = [STRATEGIES["random"](LOSSES, Judge(), 4, 2, seed) for seed in range(6)]
    assert all(len(set(draw)) == 4 for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1
    assert draws[0] == STRATEGIES["random"](LOSSES, Judge(), 4, 2, 0)
