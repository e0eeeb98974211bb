from __future__ import annotations

import numpy as np
import pytest

from culling.cloud.evaluation.doubt import LEAST_WITNESSES, settled
from culling.common.frame import Detections
from support.scenes import boxes_at

TRUE = 0.4
BALLOONS = (100, 50, 130, 110)
NOTHING = Detections.empty()


def sequence(
    scores: list[float | None], step_s: float = 30.0, jitter: float = 1.0
) -> tuple[list[float], list[Detections]]:
    """Return frames with one person at these scores, None for nobody, in a place that jitters by pixels."""
    rng = np.random.default_rng(3)
    rows = []
    for score in scores:
        box = np.array(BALLOONS) + jitter * rng.uniform(-1, 1, 4)
        rows.append(NOTHING if score is None else boxes_at((*map(float, box), score, 0)))
    return [1000.0 + step_s * at for at in range(len(scores))], rows


def true_ones(times: list[float], labels: list[Detections]) -> list[int]:
    """Return how many labels of each frame count as true."""
    told = settled(times, labels, range(len(times)), TRUE)
    return [int((told[at].scores >= TRUE).sum()) for at in range(len(times))]


def test_a_middling_box_that_stands_for_minutes_is_doubted() -> None:
    scores = [0.3, 0.47, 0.41, 0.35, 0.44, 0.3, 0.45, 0.38]
    assert true_ones(*sequence(scores)) == [0] * len(scores)


def test_a_doubted_box_stays_a_doubtful_label_in_its_place() -> None:
    times, labels = sequence([0.3, 0.47, 0.41, 0.35, 0.44, 0.3, 0.45, 0.38])
    told = settled(times, labels, [1], TRUE)[1]
    assert told.boxes.tolist() == labels[1].boxes.tolist()
    assert told.labels.tolist() == [0]
    assert 0.1 < told.scores[0] < TRUE
    assert labels[1].scores[0] == np.float32(0.47), "what the teacher said is not changed"


def test_a_thing_that_is_sure_in_most_frames_stays_true_where_it_is_not() -> None:
    scores = [0.9, 0.45, 0.8, 0.85, 0.5, 0.9, 0.7, 0.8]
    assert true_ones(*sequence(scores)) == [1] * len(scores)


def test_someone_who_pauses_for_less_than_a_minute_stays_true() -> None:
    assert true_ones(*sequence([0.45] * 9, step_s=5.0)) == [1] * 9


def test_what_is_gone_from_most_frames_did_not_stand_there() -> None:
    scores = [None, None, 0.45, None, 0.47, None, None, 0.5, None]
    assert sum(true_ones(*sequence(scores))) == 3


def test_someone_who_walks_stays_true_at_any_score() -> None:
    times = [30.0 * at for at in range(10)]
    labels = [boxes_at((100 + 40 * at, 50, 130 + 40 * at, 110, 0.45, 0)) for at in range(10)]
    assert true_ones(times, labels) == [1] * 10


def test_a_few_frames_do_not_tell_what_stands_there() -> None:
    assert true_ones(*sequence([0.45] * LEAST_WITNESSES, step_s=60)) == [1] * LEAST_WITNESSES
    assert true_ones(*sequence([0.45] * (LEAST_WITNESSES + 1), step_s=60)) == [0] * (LEAST_WITNESSES + 1)


def test_hours_apart_frames_tell_nothing_of_each_other() -> None:
    assert true_ones(*sequence([0.45] * 12, step_s=4000.0)) == [1] * 12


def test_a_flash_that_neighbours_within_seconds_lack_is_doubted() -> None:
    assert true_ones(*sequence([None, 0.5, None], step_s=1.0)) == [0, 0, 0]


@pytest.mark.parametrize("scores", [[0.2, 0.5, None], [None, 0.5, 0.15], [None, 0.7, None]])
def test_a_box_that_one_neighbour_has_or_that_is_sure_is_no_flash(scores: list[float | None]) -> None:
    assert true_ones(*sequence(scores, step_s=1.0))[1] == 1


def test_neighbours_that_are_not_near_or_missing_tell_of_no_flash() -> None:
    assert true_ones(*sequence([None, 0.5, None], step_s=2.5))[1] == 1
    assert true_ones(*sequence([0.5, None, None], step_s=1.0))[0] == 1


def test_an_object_that_moves_as_fast_as_a_car_is_no_flash() -> None:
    cars = [boxes_at((100 * at, 50, 40 + 100 * at, 70, 0.5, 2)) for at in range(3)]
    assert true_ones([0.0, 1.0, 2.0], cars) == [1, 1, 1]


def test_another_class_near_by_does_not_save_a_flash() -> None:
    car = boxes_at((*BALLOONS, 0.9, 2))
    assert true_ones([0.0, 1.0, 2.0], [car, boxes_at((*BALLOONS, 0.5, 0)), car])[1] == 0


def test_a_frame_without_neighbours_is_read_as_it_is() -> None:
    assert true_ones(*sequence([0.5])) == [1]
    assert settled([], [], [], TRUE) == {}


def test_a_persons_box_is_never_doubted_whatever_the_teacher_says_around_it() -> None:
    standing = [0.3, 0.47, 0.41, 1.0, 0.44, 0.3, 0.45, 0.38]
    assert true_ones(*sequence(standing)) == [0, 0, 0, 1, 0, 0, 0, 0]
    assert true_ones(*sequence([None, 1.0, None], step_s=1.0)) == [0, 1, 0]
