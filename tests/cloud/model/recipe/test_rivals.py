from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.model.recipe.rivals import outdone
from culling.common.frame import Detections

HERE, ALMOST_HERE, BESIDE = (10, 10, 40, 30), (12, 10, 42, 30), (30, 10, 60, 30)


def labels(*rows: tuple[tuple[int, int, int, int], float, int]) -> Detections:
    boxes, scores, classes = zip(*rows, strict=True)
    return Detections(np.float32(boxes), np.float32(scores), np.int64(classes))


@pytest.mark.parametrize("other", [2, 5])
def test_of_two_labels_on_one_place_the_better_one_stands_whatever_their_classes(other: int) -> None:
    assert outdone(labels((HERE, 0.5, 2), (ALMOST_HERE, 0.6, other))).tolist() == [True, False]


def test_what_lies_beside_is_another_object() -> None:
    assert not outdone(labels((HERE, 0.5, 2), (BESIDE, 0.6, 2))).any()


def test_of_equals_none_is_doubted_since_a_person_drew_both() -> None:
    assert not outdone(labels((HERE, 1.0, 0), (ALMOST_HERE, 1.0, 0))).any()


def test_nothing_is_outdone_by_nothing() -> None:
    assert outdone(Detections.empty()).shape == (0,)
