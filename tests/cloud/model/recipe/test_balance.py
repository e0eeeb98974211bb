from __future__ import annotations

import numpy as np

from culling.cloud.model.dataset import Sample
from culling.cloud.model.recipe.balance import balanced
from culling.common.frame import Detections


def sample(*labels: int, score: float = 0.9) -> Sample:
    boxes, scores = np.ones((len(labels), 4), np.float32), np.full(len(labels), score, np.float32)
    return Sample(b"", 8, 8, Detections(boxes, scores, np.array(labels, np.int64)), "a")


def test_images_of_a_rare_class_are_drawn_more_often_by_the_root_of_what_lacks() -> None:
    samples = [sample(0)] * 24 + [sample(0, 5)]
    drawn = balanced(samples, np.full(25, 1 / 25), 0.36)
    np.testing.assert_allclose(drawn[-1] / drawn[0], 3.0)
    np.testing.assert_allclose(drawn.sum(), 1.0)


def test_frequent_classes_doubtful_labels_and_empty_images_change_nothing() -> None:
    samples, even = [sample(0), sample(1), sample(), sample(3, score=0.3)], np.full(4, 1 / 4)
    np.testing.assert_allclose(balanced(samples, even, 0.25), even)


def test_what_is_never_drawn_stays_so() -> None:
    drawn = balanced([sample(0), sample(4)], np.array([1.0, 0.0]), 0.5)
    np.testing.assert_allclose(drawn, [1, 0])
