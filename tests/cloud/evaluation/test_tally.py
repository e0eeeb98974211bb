from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.evaluation.matching import Compared, class_precision
from culling.cloud.evaluation.tally import ALARM, rank, tallies, tally
from culling.common.frame import Detections
from culling.edge.output.settings import OutputSettings
from support import judged
from support.scenes import boxes_at, random_scene

GRID = 1 / 101
"""COCO's grid of recalls is rounded: one of its points may fall to either side of a recall that equals it."""


@pytest.mark.parametrize("seed", range(4))
def test_with_equal_weights_it_is_the_precision_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [random_scene(rng) for _ in range(12)]
    rows = [tallies(frame, 3) for frame in frames]
    for label in range(3):
        found = class_precision(frames, label)
        assert found is not None
        levels = [rank([row[level] for row in rows], label).precision(np.ones((1, 12)))[0] for level in range(10)]
        assert levels[0] == pytest.approx(found.ap50, abs=GRID)
        assert np.mean(levels) == pytest.approx(found.ap50_95, abs=GRID)


def test_a_frame_of_weight_two_counts_as_two_frames() -> None:
    rng = np.random.default_rng(3)
    rows = [tally(random_scene(rng), 3) for _ in range(8)]
    weights = np.array([[2.0, 1, 1, 0, 3, 1, 1, 1]])
    repeated = [row for row, times in zip(rows, weights[0], strict=True) for _ in range(int(times))]
    for label in range(3):
        weighted = rank(rows, label).precision(weights)
        assert weighted[0] == pytest.approx(rank(repeated, label).precision(np.ones((1, 10)))[0], abs=GRID)


def test_every_weighting_is_computed_by_itself() -> None:
    rng = np.random.default_rng(5)
    rows = [tally(random_scene(rng), 3) for _ in range(8)]
    weights = rng.random((20, 8))
    ranked = rank(rows, 0)
    assert ranked.precision(weights) == pytest.approx([ranked.precision(one[None])[0] for one in weights])
    assert ranked.precision(7.0 * weights) == pytest.approx(ranked.precision(weights)), "only ratios count"


def test_a_weighting_without_anything_true_has_no_precision() -> None:
    ranked = rank([judged.tally((1, [0.9], [])), judged.tally((0, [], [0.8]))], 0)
    assert np.isnan(ranked.precision(np.array([[0.0, 1.0]]))).all()
    assert ranked.precision(np.array([[1.0, 1.0]])).tolist() == [1.0]
    assert rank([judged.tally((2, [], []))], 0).precision(np.ones((1, 1))).tolist() == [0.0]


def test_a_false_alarm_is_a_box_where_no_label_is_true_or_doubtful() -> None:
    found = boxes_at((0, 0, 10, 10, ALARM, 1), (50, 50, 60, 60, 0.9, 1))
    clean = tally(Compared(found, boxes_at((0, 0, 10, 10, 1, 1)), boxes_at((50, 50, 60, 60, 0.2, 1))), 2)
    assert not clean.alarmed(1)
    wrong = tally(Compared(found, Detections.empty(), boxes_at((50, 50, 60, 60, 0.2, 1))), 2)
    assert wrong.alarmed(1)
    assert not wrong.alarmed(0)


def test_a_box_that_no_one_is_told_of_is_no_alarm() -> None:
    assert OutputSettings(kind="stdout").score == ALARM
    nothing, doubt = Detections.empty(), boxes_at((0, 0, 10, 10, ALARM - 0.01, 1))
    assert not tally(Compared(doubt, nothing, nothing), 2).alarmed(1)
