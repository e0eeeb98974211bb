from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from culling.cloud.evaluation.precision import Hardness
from culling.cloud.study.basis.strategy import STRATEGIES, Material, culled, evenly, hardest, missed, top

LOSSES = np.array([5.0, 1.0, 4.0, 4.0, 0.0, 3.0, 2.0, 6.0])
HARDNESS = [0.1, 1.0, 0.9, 0.2, 0.8, 0.9, 0.3, 0.0]
FEATURES = np.array(HARDNESS)[:, None] * np.ones(3)


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
    assert STRATEGIES[name](Material(LOSSES, FEATURES, judge), 2, 2, 0) == frames
    assert len(judge.asked) == asked


def test_random_frames_differ_by_seed_and_come_once() -> None:
    material = Material(LOSSES, FEATURES, Judge())
    draws = [STRATEGIES["random"](material, 4, 2, seed) for seed in range(6)]
    assert all(len(set(draw)) == 4 for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1
    assert draws[0] == STRATEGIES["random"](material, 4, 2, 0)


def test_a_drawn_few_teach_which_others_the_teacher_is_asked_about() -> None:
    rng = np.random.default_rng(7)
    hardness = rng.random(400)
    features = np.stack([rng.random(400), hardness], axis=1)
    asked: list[int] = []

    def judge(frames: Sequence[int]) -> list[Hardness]:
        asked.extend(frames)
        return [Hardness(float(hardness[index]), "hard") for index in frames]

    chosen = STRATEGIES["learned + precision"](Material(rng.random(400), features, judge), 40, 4, 0)
    assert len(asked) == len(set(asked)) == 160
    assert asked[:40] == sorted(asked[:40]), "drawn"
    assert hardness[chosen].tolist() == sorted(hardness[asked], reverse=True)[:40]
    assert set(np.argsort(-hardness)[:40].tolist()) - set(chosen) == set(), "what tells is learnt, not given"
    assert STRATEGIES["learned + precision"](Material(rng.random(9), features[:9], judge), 9, 4, 0)


def test_missed_picks_are_counted_by_hand() -> None:
    kept, left = np.array([1.0, 0.5]), np.array([0.9, 0.4, 0.0])
    assert [missed(kept, left, count) for count in (1, 2, 3, 4)] == [0, 0.5, pytest.approx(1 / 3), 0.5]
    assert missed(kept, left, 99) == 0.5, "there are but four that the student got wrong"
    assert missed(np.zeros(3), np.zeros(3), 2) == 0


def test_what_was_kept_makes_up_for_frames_equally_hard() -> None:
    assert missed(np.array([1.0, 1.0]), np.array([1.0]), 2) == 0
    assert missed(np.array([1.0, 1.0]), np.array([1.0]), 3) == pytest.approx(1 / 3)


def test_each_audit_stands_for_the_frames_it_was_drawn_from() -> None:
    """Ten of a hundred were drawn; one of them was hard, so ten are taken to be, beside the five that were kept."""
    kept, audits = np.ones(5), np.array([1.0] + [0.0] * 9)
    assert missed(kept, audits, 15, weight=10.0) == pytest.approx(10 / 15)
