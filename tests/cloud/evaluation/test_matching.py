from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.evaluation.matching import Compared, class_precision, compare, frame_ap50
from culling.common.frame import Detections
from support.scenes import boxes_at, pycocotools_precision, random_scene


@pytest.mark.parametrize("seed", range(8))
def test_precision_equals_pycocotools_on_random_frames_with_doubtful_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [random_scene(rng) for _ in range(12)]
    for label in range(3):
        result = class_precision(frames, label)
        assert result is not None
        assert (result.ap50, result.ap50_95) == pytest.approx(pycocotools_precision(frames, label), abs=1e-12)
        for frame in frames:
            alone = class_precision([frame], label)
            assert frame_ap50(frame, label) == (alone and alone.ap50)


def test_a_class_without_true_labels_has_no_precision() -> None:
    frame = Compared(boxes_at((0, 0, 9, 9, 0.9, 0)), Detections.empty(), boxes_at((0, 0, 9, 9, 0.2, 0)))
    assert class_precision([frame], 0) is None
    assert class_precision([], 0) is None


def test_a_class_that_is_never_found_has_precision_zero() -> None:
    result = class_precision([Compared(Detections.empty(), boxes_at((0, 0, 9, 9, 1, 2)))], 2)
    assert result is not None
    assert (result.ap50, result.ap50_95, result.voc07, result.objects) == (0, 0, 0, 1)


def test_a_second_box_on_the_same_object_is_wrong() -> None:
    true = boxes_at((0, 0, 10, 10, 1, 0), (50, 50, 60, 60, 1, 0))
    found = boxes_at((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (50, 50, 60, 60, 0.7, 0))
    result = class_precision([Compared(found, true)], 0)
    assert result is not None
    assert result.ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert result.voc07 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_boxes_on_a_doubtful_label_are_neither_right_nor_wrong() -> None:
    true, doubtful = boxes_at((0, 0, 10, 10, 1, 0)), boxes_at((50, 50, 90, 90, 0.2, 0))
    found = boxes_at((52, 52, 70, 70, 0.9, 0), (60, 60, 88, 88, 0.8, 0), (0, 0, 10, 10, 0.7, 0))
    result = class_precision([Compared(found, true, doubtful)], 0)
    assert result is not None
    assert (result.ap50, result.objects) == (1.0, 1)


def test_the_order_of_detections_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    frames = [random_scene(rng) for _ in range(6)]
    for frame in frames:
        frame.found.scores[:] = rng.random(len(frame.found))
    orders = [rng.permutation(len(frame.found)) for frame in frames]
    shuffled = [
        Compared(
            Detections(frame.found.boxes[order], frame.found.scores[order], frame.found.labels[order]),
            frame.true,
            frame.doubtful,
        )
        for frame, order in zip(frames, orders, strict=True)
    ]
    assert [class_precision(frames, label) for label in range(3)] == [class_precision(shuffled, c) for c in range(3)]


def test_labels_are_true_doubtful_or_nothing_by_their_score() -> None:
    labels = boxes_at((0, 0, 9, 9, 0.4, 0), (0, 0, 9, 9, 0.39, 1), (0, 0, 9, 9, 0.1, 2), (0, 0, 9, 9, 0.09, 3))
    frame = compare(boxes_at((0, 0, 9, 9, 0.01, 4)), labels, true_score=0.4, doubtful_score=0.1)
    assert [list(part.labels) for part in (frame.found, frame.true, frame.doubtful)] == [[4], [0], [1, 2]]
    assert list(compare(Detections.empty(), labels, 0.0, 0.1).true.labels) == [0, 1, 2, 3]
