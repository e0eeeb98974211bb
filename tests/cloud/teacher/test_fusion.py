from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.teacher.fusion import Look, fuse, suppress, suppress_classes
from culling.common.frame import Detections

WHOLE = (0.0, 0.0, 100.0, 100.0)


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_a_box_is_the_mean_of_those_of_one_object_weighted_by_score() -> None:
    one, other = seen((10, 10, 30, 30, 0.9, 0)), seen((12, 10, 32, 30, 0.3, 0))
    found = fuse([Look(one, WHOLE), Look(other, WHOLE)])
    assert found.boxes[0].tolist() == pytest.approx([10.5, 10, 30.5, 30])
    assert found.scores[0] == pytest.approx(0.6)


def test_what_one_of_two_sees_is_half_as_sure() -> None:
    found = fuse([Look(seen((10, 10, 30, 30, 0.8, 0)), WHOLE), Look(Detections.empty(), WHOLE)])
    assert found.scores.tolist() == pytest.approx([0.4])


def test_a_look_that_did_not_have_the_place_in_sight_has_no_say() -> None:
    found = fuse([Look(seen((10, 10, 30, 30, 0.8, 0)), WHOLE), Look(Detections.empty(), (50, 0, 100, 100))])
    assert found.scores.tolist() == pytest.approx([0.8])


def test_views_of_one_teacher_keep_the_best_score() -> None:
    looks = [Look(seen((10, 10, 30, 30, 0.8, 0)), WHOLE), Look(seen((10, 10, 30, 31, 0.5, 0)), WHOLE)]
    assert fuse([*looks, Look(Detections.empty(), WHOLE)], agreement=False).scores.tolist() == pytest.approx([0.8])


def test_classes_and_distant_boxes_stay_apart_and_the_best_comes_first() -> None:
    one = seen((10, 10, 30, 30, 0.5, 0), (60, 60, 80, 80, 0.9, 0))
    found = fuse([Look(one, WHOLE), Look(seen((10, 10, 30, 30, 0.7, 1)), WHOLE)])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.45, 0.35, 0.25])


def test_one_look_has_at_most_one_box_of_an_object() -> None:
    crowd = seen((10, 10, 30, 30, 0.9, 0), (13, 10, 33, 30, 0.8, 0))
    assert len(fuse([Look(crowd, WHOLE)])) == 2


def test_nothing_seen_stays_nothing() -> None:
    assert len(fuse([Look(Detections.empty(), WHOLE)])) == 0
    assert len(fuse([])) == 0


def test_suppression_keeps_the_better_of_two_that_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], np.float32)
    assert suppress(boxes, np.array([0.5, 0.9, 0.1], np.float32), 0.6).tolist() == [1, 2]
    assert suppress(boxes[:0], np.zeros(0, np.float32), 0.6).tolist() == []


def test_suppression_by_class_leaves_other_classes_alone() -> None:
    found = seen((0, 0, 10, 10, 0.5, 0), (0, 0, 10, 9, 0.9, 0), (0, 0, 10, 10, 0.7, 1))
    kept = suppress_classes(found, 0.6)
    assert (kept.labels.tolist(), kept.scores.tolist()) == ([0, 1], pytest.approx([0.9, 0.7]))
    assert len(suppress_classes(Detections.empty(), 0.6)) == 0
